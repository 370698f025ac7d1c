"""What is left behind: the first tensor that differs, the folder, and the command that shows it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import parser

from graphopt.errors import DataError
from graphopt.model import Model
from graphopt.runtime import Session, feeds_from, generated, input_specs
from graphopt.verify import first_difference, leave_reproducer
from graphopt.verify.__main__ import main
from graphopt.verify.reproducer import load_feed, save_feed, worst_feed

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'
CHAIN = (
    "g (float[N,4] x) => (float[N,4] y) <float k = {%s}, float h = {%s}> { a = Relu(x) b = Mul(a, k) c = Tanh(b) y = Mul(c, h) }"
)


def load(text: str) -> Model:
    return Model.load(parser.parse_model(HEAD + text))


def chain(k: float = 2.0, h: float = 1.0) -> Model:
    return load(CHAIN % (k, h))


DIFFERENCES = [
    (chain(), chain(), None),
    (chain(), chain(k=2.5), "b"),
    (chain(), chain(h=1.5), "y"),
    (chain(), chain(k=2.0 + 1e-6), None),
    # Another shape is a pruned width, not a difference; another way to the same tensor is none either.
    (chain(), load("g (float[N,4] x) => (float[N,4] y) { b = ReduceMax <axes = [1]> (x) a = Relu(x) y = Neg(a) }"), "y"),
    (chain(), load("g (float[N,4] x) => (float[N,4] y) <float k = {2.0}> { n = Mul(x, k) b = Relu(n) y = Tanh(b) }"), None),
    (chain(), load("g (float[N,4] x) => (float[N,4] y) { y = NoSuch(x) }"), None),
]


@pytest.mark.parametrize(("reference", "candidate", "tensor"), DIFFERENCES)
def test_the_first_tensor_that_differs(reference: Model, candidate: Model, tensor: str | None) -> None:
    found = first_difference(reference, candidate, generated(reference, 1).first(), 1e-4)
    assert (None if found is None else found.tensor) == tensor
    if found is not None:
        assert found.node in str(found)


def test_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, candidate = chain(), chain(k=2.5)
    # Only the second feed shows the difference: below zero Relu hides it.
    feeds = feeds_from(np.array([[-1, -1, -1, -1], [1, 0, 0, 0.5], [0, 0, 0, 0]], np.float32), reference)
    left = leave_reproducer(reference, candidate, feeds, relative=1e-4, why="fold: output 'y' is off", parent=tmp_path)
    assert left.folder.parent == tmp_path
    assert sorted(p.name for p in left.folder.iterdir()) == ["README.txt", "candidate.onnx", "feed.npz", "reference.onnx"]
    assert left.difference is not None
    assert left.difference.tensor == "b"
    assert str(left.folder) in left.hint
    readme = (left.folder / "README.txt").read_text()
    assert "fold: output 'y' is off" in readme
    assert "first differ at 'b' (Mul)" in readme
    assert left.command in readme
    with np.load(left.folder / "feed.npz") as stored:
        np.testing.assert_array_equal(stored["x"], [[1, 0, 0, 0.5]])
    assert main(shlex.split(left.command)[3:]) == 1
    shown = capsys.readouterr().out
    assert "BAD 'y'" in shown
    assert "first differ at 'b'" in shown
    assert "do NOT agree" in shown


def test_the_command_is_a_command(tmp_path: Path) -> None:
    left = leave_reproducer(chain(), chain(h=3.0), generated(chain(), 2), relative=1e-4, parent=tmp_path)
    words = shlex.split(left.command)
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "do NOT agree" in done.stdout
    assert done.stderr == ""


def test_models_that_agree_and_files_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(chain().proto().SerializeToString())
    assert main([str(path), str(path), "--relative", "0"]) == 0
    assert "the outputs agree" in capsys.readouterr().out
    assert main([str(path), str(tmp_path / "no.onnx"), "--relative", "0"]) == 2
    assert main([str(path), str(path), str(tmp_path / "no.npz"), "--relative", "0"]) == 2
    assert capsys.readouterr().err.count("error[") == 2


def test_a_candidate_that_does_not_load_leaves_a_folder_too(tmp_path: Path) -> None:
    broken = load("g (float[N,4] x) => (float[N,4] y) { y = NoSuch(x) }")
    left = leave_reproducer(chain(), broken, generated(chain(), 2), relative=1e-4, parent=tmp_path)
    assert left.difference is None
    assert Model.load(left.folder / "candidate.onnx").graph.nodes[0].op == "NoSuch"
    assert main(shlex.split(left.command)[3:]) == 1


def test_the_worst_feed_is_kept() -> None:
    feeds = feeds_from(np.array([[0.1, 0, 0, 0], [0.5, 0, 0, 0], [0.2, 0, 0, 0]], np.float32), chain())
    worst = worst_feed(chain(h=1.0), chain(h=1.1), feeds)
    assert worst is not None
    assert worst["x"][0, 0] == 0.5


FEEDS: list[tuple[str, dict[str, Any]]] = [
    ("float[2] file", {"file": np.array([1, 2], np.float32)}),
    ("bfloat16[2] x", {"x": np.array([1, 2], ml_dtypes.bfloat16)}),
    ("string[2] x", {"x": np.array(["a", "bc"], object)}),
    ("float x", {"x": np.array(3, np.float32)}),
    ("bool[2] x, int64[1] z", {"x": np.array([True, False]), "z": np.array([2**60])}),
]


@pytest.mark.parametrize(("inputs", "feed"), FEEDS)
def test_feeds_survive_the_file(tmp_path: Path, inputs: str, feed: dict[str, Any]) -> None:
    first = inputs.split(", ", maxsplit=1)[0]
    model = load(f"g ({inputs}) => ({first.rsplit(' ', 1)[0]} y) {{ y = Identity({first.split()[-1]}) }}")
    save_feed(tmp_path / "f.npz", feed)
    again = load_feed(tmp_path / "f.npz", input_specs(model))
    for name, value in feed.items():
        assert again[name].dtype == value.dtype
        np.testing.assert_array_equal(again[name], value)


def test_sequences_survive_the_file(tmp_path: Path) -> None:
    model = load("g (seq(float[2]) x) => (int64 n) { n = SequenceLength(x) }")
    feed = generated(model, 1).first()
    save_feed(tmp_path / "f.npz", feed)
    again = load_feed(tmp_path / "f.npz", input_specs(model))
    assert Session(model).run(again)["n"] == 2


def test_a_feed_of_another_model(tmp_path: Path) -> None:
    save_feed(tmp_path / "f.npz", {"z": np.zeros(1)})
    with pytest.raises(DataError, match="GO803"):
        load_feed(tmp_path / "f.npz", input_specs(chain()))
