"""models/manifest.toml says the truth: digests, costs before and after folding, and what models/README.md repeats of it."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import shlex
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest

import graphopt
from graphopt.analysis import Analyses
from graphopt.analysis.cost import Cost
from models.evaluate import HERE, files

MANIFEST: dict[str, dict[str, Any]] = tomllib.loads((HERE / "manifest.toml").read_text(encoding="utf-8"))
README = (HERE / "README.md").read_text(encoding="utf-8")
SIZE_LIMIT = 25 * 2**20


def all_files() -> dict[Path, str]:
    """Every file that the manifest names, data as well, with its sha256."""
    found: dict[Path, str] = {}
    for table in MANIFEST.values():
        found |= files(table)
        found |= {HERE / entry["file"]: entry["sha256"] for entry in table.get("data", {}).values()}
    return found


NETWORKS = [(name, path) for name, table in MANIFEST.items() for path in files(table)]
IDS = [path.stem for _, path in NETWORKS]


@pytest.mark.parametrize("path", all_files(), ids=lambda path: path.name)
def test_the_digests_are_those_of_the_files(path: Path) -> None:
    digest = all_files()[path]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert digest in README


def test_no_file_is_left_out() -> None:
    kept = {path for suffix in ("*.onnx", "*.npz") for path in HERE.rglob(suffix)}
    assert kept == set(all_files())


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts) < SIZE_LIMIT


@pytest.mark.parametrize("name", MANIFEST)
def test_every_network_is_described(name: str) -> None:
    table = MANIFEST[name]
    for key in ("papers", "seed", "command", "minutes", "dataset", "metric", "trainable", "params", "macs", "folded"):
        assert key in table, key
    assert {"name", "command", "figure"} <= set(table["metric"])
    assert f"\n## {name}\n" in README
    for command in (table["command"], table["metric"]["command"]):
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"]
        assert importlib.util.find_spec(words[2]) is not None, words[2]
    assert importlib.util.find_spec(f"models.{name}.evaluate") is not None
    assert table.get("after", name) in MANIFEST


@functools.cache
def compiled(path: Path, passes: str) -> graphopt.Result:
    return graphopt.run(str(path), passes, samples=2, timing=False)


def counted(model: graphopt.Model, shape: tuple[int, ...]) -> dict[str, int]:
    """The numbers that the manifest gives."""
    (image,) = model.graph.inputs
    cost = Analyses(model).get(Cost(((image.name, shape),)))
    assert not cost.unknown
    ops = Counter(node.op for node in model.graph.nodes)
    kinds = {"convolutions": ops["Conv"], "batch_norms": ops["BatchNormalization"]}
    return {"params": cost.params, "macs": cost.macs, **kinds}


@pytest.mark.parametrize(("name", "path"), NETWORKS, ids=IDS)
def test_the_costs_are_those_that_graphopt_counts(name: str, path: Path) -> None:
    table = MANIFEST[name]
    shape = tuple(table["shape"])
    found = counted(graphopt.load(str(path)), shape)
    if path.stem == "sr_x3.torchscript":
        found["params"] += 2  # the bounds of the clip, which are in Constant nodes there
    assert found == {key: table[key] for key in found}
    assert counted(compiled(path, "fold").model, shape) == table["folded"]


@pytest.mark.parametrize(("name", "path"), NETWORKS, ids=IDS)
def test_what_fold_refuses_is_listed(name: str, path: Path) -> None:
    (fold,) = compiled(path, "fold").report.passes
    assert Counter(d.code for d in fold.refusals) == MANIFEST[name].get("refused", {})


def test_ratio_0_removes_the_masked_channels_and_no_other() -> None:
    table = MANIFEST["sr_x3_masked"]
    (path,) = files(table)
    model = compiled(path, "fold,prune:ratio=0").model
    assert counted(model, tuple(table["shape"])) == table["pruned"]
    left = [node.inputs[1].shape[0] for node in model.graph.nodes if node.op == "Conv"]
    assert left == [*(28 - masked for masked in table["masked"]), 27]
    graph = onnx.load(str(path)).graph
    masks = [onnx.numpy_helper.to_array(i) for i in graph.initializer if i.name.startswith("masks.")]
    assert [int((mask == 0).sum()) for mask in masks] == table["masked"]


@pytest.mark.parametrize(("name", "path"), NETWORKS, ids=IDS)
def test_the_files_say_nothing_of_the_machine_that_made_them(name: str, path: Path) -> None:
    content = path.read_bytes()
    for trace in (b"site-packages", b".py", *(b"/%s/" % folder for folder in (b"tmp", b"home", b"root"))):
        assert trace not in content
    model = onnx.load_from_string(content)
    assert model.graph.name == name
    assert model.doc_string
    onnx.checker.check_model(model, full_check=True)
