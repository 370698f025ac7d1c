"""What int8 costs at the output, kernel by kernel. Oracle: the pass itself, with the other kernels kept in float."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.cli.main import run as graphopt
from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.passes.quant import Quant
from graphopt.passes.quant.fidelity import Judge
from graphopt.passes.quant.survey import TOGETHER, survey
from graphopt.pipeline import Context
from graphopt.pipeline.sensitivity import Series
from graphopt.runtime import feeds_from
from graphopt.target import Target
from tests.nets import Net, feed_for


def uneven() -> onnx.ModelProto:
    """Three convolutions and a batch normalization; the tensor behind the second has one channel of a thousandfold size."""
    net = Net(3)
    x = net.op("Relu", net.bn(net.conv(net.input(1, 8, 8, 8), 8, 3, pad=1)))
    weight = net.random(8, 8, 1, 1)
    weight[0] *= 1000
    x = net.op("Relu", net.op("Conv", x, net.const(weight), net.const(net.random(8))))
    weight = net.random(8, 8, 1, 1)
    weight[:, 0] = 0
    return net.model(net.op("Conv", x, net.const(weight), net.const(net.random(8))))


def relu_only() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Relu", net.input(1, 8)))


def found(proto: onnx.ModelProto, target: str = "ort-x86-vnni") -> tuple[list[Series], Context]:
    model = Model.load(proto)
    feeds = feeds_from([feed_for(proto, seed=seed) for seed in range(12)], model)
    ctx = Context(model, target=Target.load(target), feeds=feeds)
    return survey(model.copy(), ctx, None).series, ctx


def test_errors_are_those_of_the_pass() -> None:
    proto = uneven()
    series, ctx = found(proto)
    *alone, together = series
    assert together.place == TOGETHER and together.size == len(alone) == 3
    assert [count for count, _, _ in together.points] == [1, 2, 3]
    model = ctx.original.copy()
    judge = Judge(ctx.original, ctx.feeds.split(ctx.seed)[1])
    plain = {"placement": "kernels", "equalize": "off", "rounding": "nearest", "bias": "keep", "allow_slower": True}
    Fold().run(model, ctx)
    rule = Quant(**plain).run(model.copy(), ctx).facts["ranges"]  # type: ignore[arg-type]
    heads = [n.outputs[0].name for n in model.graph.nodes if n.op == "Conv"]
    for name, one in zip(heads, alone, strict=True):
        copy = model.copy()
        kept = "+".join(h for h in heads if h != name)
        Quant(**plain, keep=kept, ranges=rule).run(copy, ctx)  # type: ignore[arg-type]
        assert one.points[0][2] == pytest.approx(judge.error(copy), rel=1e-3)
    Quant(**plain).run(model, ctx)  # type: ignore[arg-type]
    assert together.points[-1][2] == pytest.approx(judge.error(model), rel=1e-3)


def test_the_kernels_that_suffer_are_the_last() -> None:
    """Between the last two, seven channels are all but lost beside the large one, which the second of them does not even read."""
    *alone, together = found(uneven())[0]
    first, *others = (one.points[0][2] for one in alone)
    assert min(others) > 10 * first
    assert together.points[0][2] == first
    assert together.points[1][2] > 10 * first


@pytest.mark.parametrize(
    ("make", "target", "multiple"),
    [
        (uneven, "ort-x86-vnni", 8),
        (uneven, "generic", None),
        (relu_only, "ort-x86-vnni", None),
    ],
    ids=["a multiple", "a target without integers", "no kernel"],
)
def test_nothing_to_look_at(make: Callable[[], onnx.ModelProto], target: str, multiple: int | None) -> None:
    model = Model.load(make())
    with pytest.raises(UsageError, match="GO932"):
        survey(model.copy(), Context(model, target=Target.load(target)), multiple)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = uneven()
    onnx.save(proto, str(tmp_path / "m.onnx"))
    np.savez(tmp_path / "data.npz", x=np.concatenate([feed_for(proto, seed=seed)["x"] for seed in range(8)]))
    words = ["sensitivity", str(tmp_path / "m.onnx"), "--pass", "quant", "--data", str(tmp_path / "data.npz")]
    assert graphopt([*words, "--svg", str(tmp_path / "q.svg")]) == 0
    assert TOGETHER in capsys.readouterr().out
    assert "in int8" in (tmp_path / "q.svg").read_text()
    assert graphopt([*words, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["series"]) == 4
