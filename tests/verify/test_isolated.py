"""The Python interface tries a model in a worker process first, so that a crash is an exception."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.errors import ModelError
from graphopt.model import Model
from graphopt.verify import isolated
from tests.cli.test_supervision import loop, more_outputs_than_it_says, negative_batch_dims, wide_constant
from tests.nets import Net

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory")


def sound() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Relu", net.conv(net.input("N", 3, 8, 8), 4)))


CASES: list[tuple[Callable[[], onnx.ModelProto], dict[str, float], str]] = [
    (negative_batch_dims, {}, "GO040"),
    (more_outputs_than_it_says, {}, "GO040"),
    (lambda: loop(2**62), {"time_limit": 2.0}, "GO041"),
    (wide_constant, {}, "GO042"),
]


@pytest.mark.parametrize(("make", "limits", "code"), CASES, ids=["segfault", "abort", "hang", "bomb"])
def test_what_would_end_the_process_is_an_exception(
    make: Callable[[], onnx.ModelProto], limits: dict[str, float], code: str
) -> None:
    with pytest.raises(ModelError) as caught:
        graphopt.run(make(), "simplify", timing=False, **limits)  # type: ignore[arg-type]
    assert caught.value.diagnostic.code == code


def test_the_next_model_gets_a_new_worker() -> None:
    with pytest.raises(ModelError):
        graphopt.run(more_outputs_than_it_says(), [])
    isolated.probe(Model.load(sound()), isolated.Limits())


@pytest.mark.parametrize("feed", [None, {"x": np.zeros((2, 3, 8, 8), np.float32)}], ids=["generated", "given"])
def test_a_sound_model_is_tried_once(feed: dict[str, np.ndarray] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = sound()
    proto.producer_name = f"once {feed is None}"
    model = Model.load(proto)
    isolated.probe(model, isolated.Limits(), feed=feed)
    monkeypatch.setattr(isolated._WORKER, "ask", lambda _: pytest.fail("asked again"))
    isolated.probe(model, isolated.Limits(), feed=feed)
    isolated.probe(Model.load(proto), isolated.Limits(), feed=feed)


def test_the_worker_ends_with_its_process(tmp_path: Path) -> None:
    onnx.save(sound(), tmp_path / "model.onnx")
    script = (
        "import graphopt\nfrom graphopt.verify import isolated\n"
        "graphopt.run('model.onnx', [])\nprint(isolated._WORKER._process.pid)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not Path(f"/proc/{done.stdout.strip()}").exists()
