"""Kernels kept in float for the sake of a figure, and models left in float for the sake of speed.

Oracles: all subsets, tried out; the graph that onnxruntime runs; a clock that says what the test wants.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.cli.main import run as graphopt
from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.quant import Quant
from graphopt.passes.quant.fidelity import Judge
from graphopt.passes.quant.mixed import Figure, keep_fewest
from graphopt.passes.quant.speed import Verdict
from graphopt.pipeline import Context, Outcome
from graphopt.runtime import feeds_from, optimized_graph
from tests.nets import Net, feed_for

# -- the choice ------------------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[dict[str, tuple[float, float]], float]] = {
    "enough as it is": ({"a": (1, 1), "b": (2, 1)}, 10.0),
    "one": ({"a": (1, 1), "b": (8, 1), "c": (2, 1)}, 3.5),
    "the cheap one of two": ({"a": (5, 50), "b": (5, 1), "c": (1, 1)}, 6.5),
    "two": ({"a": (5, 2), "b": (5, 1), "c": (1, 1), "d": (2, 3)}, 4.0),
    "not even all": ({"a": (1, 1), "b": (2, 1)}, -1.0),
}
"""Kernel -> (what it adds to the error, thousand ns that its float costs), and the error that is allowed."""


class Additive:
    """Errors and times that add up."""

    def __init__(self, kernels: dict[str, tuple[float, float]]) -> None:
        self.of = kernels

    def kernels(self) -> list[str]:
        return list(self.of)

    def made(self, kept: frozenset[str]) -> tuple[Model, float]:
        return cast(Model, kept), sum(self.of[k][1] * 1e4 for k in kept)

    def error(self, model: Model) -> float:
        return sum(e for k, (e, _) in self.of.items() if k not in cast("frozenset[str]", model))


@pytest.mark.parametrize("name", CASES)
def test_the_cheapest_that_is_enough(name: str) -> None:
    kernels, allowed = CASES[name]
    net = Additive(kernels)
    figure = Figure(lambda m: -net.error(m), -allowed, "error")
    kept, reached = keep_fewest(net, cast(Judge, net), figure, lambda n: None)
    subsets = [frozenset(s) for n in range(len(kernels) + 1) for s in itertools.combinations(kernels, n)]
    enough = [s for s in subsets if net.error(cast(Model, s)) <= allowed]
    if not enough:
        assert kept == frozenset(kernels) and reached < figure.limit
        return
    assert reached >= figure.limit
    assert net.made(kept)[1] == min(net.made(s)[1] for s in enough)


# -- on a model ------------------------------------------------------------------------------------------------------------


def sensitive() -> onnx.ModelProto:
    """The second convolution takes small differences of large channels."""
    net = Net(seed=1)
    x = net.conv(net.input(1, 16, 16, 16), 32, pad=1)
    weight = net.random(32, 32, 1, 1) * 0.01
    weight[:, 0], weight[:, 1] = 400.0, -400.0
    y = net.op("Conv", x, net.const(weight), net.const(net.random(32)))
    net.widths[y] = 32
    return net.model(net.conv(net.op("Relu", y), 16, pad=1))


def data(proto: onnx.ModelProto) -> list[dict[str, Any]]:
    return [feed_for(proto, seed=seed) for seed in range(12)]


def quantize(proto: onnx.ModelProto, **options: Any) -> tuple[Model, Outcome]:
    model = Model.load(proto)
    return model, Quant(**options).run(model, Context(model, feeds=feeds_from(data(proto), model)))


def reached(outcome: Outcome) -> float:
    metric = outcome.facts["metric"]
    assert isinstance(metric, Mapping)
    return cast(float, metric["reached"])


def test_what_is_kept_meets_the_figure_and_is_no_more_than_needed() -> None:
    proto = sensitive()
    fixed = {"placement": "kernels", "rounding": "nearest", "bias": "keep", "equalize": "off"}
    whole, before = quantize(proto, drop=0.0, metric="sqnr", **fixed)
    limit = reached(before) + 3.0
    model, outcome = quantize(proto, drop=limit, metric="sqnr", **fixed)
    assert before.facts["kept"] == [] and reached(outcome) >= limit
    kept = cast("list[str]", outcome.facts["kept"])
    assert 0 < len(kept) < 3
    kinds = [{n.op_type for n in optimized_graph(m).graph.node} for m in (whole, model)]
    assert not {"Conv", "FusedConv"} & kinds[0] and {"Conv", "FusedConv"} & kinds[1] and "QLinearConv" in kinds[1]


def first_output(outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> float:
    """A user's figure: how near the first output is to zero."""
    del inputs
    return -float(np.abs(next(iter(outputs.values()))).mean())


def test_a_users_own_figure() -> None:
    _, outcome = quantize(sensitive(), drop=100.0, metric=f"{__name__}:first_output", placement="kernels")
    assert outcome.changed and outcome.facts["kept"] == []


@pytest.mark.parametrize("metric", ["nosuch:thing", "math:nosuch", "plain", "os:getcwd", f"{__name__}:raises", f"{__name__}:text"])
def test_a_figure_that_is_none(metric: str) -> None:
    with pytest.raises(UsageError, match="GO931"):
        quantize(sensitive(), drop=1.0, metric=metric, placement="kernels")


def raises(outputs: Mapping[str, NDArray[Any]], feed: Mapping[str, NDArray[Any]]) -> float:
    raise LookupError(f"nothing for {len(outputs)} of {len(feed)}")


def text(outputs: Mapping[str, NDArray[Any]], feed: Mapping[str, NDArray[Any]]) -> str:
    return f"{len(outputs)} of {len(feed)}"


def test_a_figure_without_a_limit_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="GO931"):
        quantize(sensitive(), metric="sqnr", placement="kernels")


def test_the_figure_of_a_file_beside_one(tmp_path: Path) -> None:
    """As who writes one calls it: from the folder that the function is in, by the installed command."""
    proto = sensitive()
    (tmp_path / "mine.py").write_text("def worst(outputs, feed):\n    return -max(abs(v).max() for v in outputs.values())\n")
    onnx.save(proto, str(tmp_path / "in.onnx"))
    np.savez(tmp_path / "data.npz", x=np.concatenate([f["x"] for f in data(proto)]))
    command = str(Path(sys.executable).with_name("graphopt"))
    words = ["run", "in.onnx", "--passes", "quant:drop=50:placement=kernels", "--metric", "mine:worst", "--data", "data.npz"]
    words += ["-o", "out.onnx", "--no-timing"]
    done = subprocess.run([command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mine:worst" in done.stdout + done.stderr


# -- never slower ----------------------------------------------------------------------------------------------------------

CLOCK = "graphopt.passes.quant.quant.compare"


@pytest.mark.parametrize(
    ("slower", "options", "changed"),
    [(False, {}, True), (True, {}, False), (True, {"allow_slower": True}, True), (True, {"placement": "kernels"}, True)],
)
def test_slower_than_float_is_left_in_float(
    slower: bool, options: dict[str, Any], changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CLOCK, lambda *_: Verdict(1.5 if slower else 0.5, slower))
    proto = sensitive()
    model, outcome = quantize(proto, **options)
    assert outcome.changed is changed
    if not changed:
        assert outcome.refusals[0].code == "slower-than-float" and "1.5" in outcome.refusals[0].why
        assert model.proto().SerializeToString() == proto.SerializeToString()


@pytest.mark.parametrize(
    ("slower", "flags", "code"), [(False, [], 0), (True, [], 1), (True, ["--allow-slower"], 0)], ids=["faster", "slower", "allowed"]
)
def test_exit_code_of_a_model_that_is_left_in_float(
    slower: bool, flags: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CLOCK, lambda *_: Verdict(1.5 if slower else 0.5, slower))
    proto = sensitive()
    path = tmp_path / "model.onnx"
    onnx.save(proto, str(path))
    np.savez(tmp_path / "data.npz", x=np.concatenate([f["x"] for f in data(proto)]))
    words = ["run", str(path), "--passes", "quant", "--data", str(tmp_path / "data.npz"), "-o", str(tmp_path / "out.onnx")]
    assert graphopt([*words, *flags, "--no-timing"]) == code
    integer = {n.op_type for n in onnx.load(tmp_path / "out.onnx").graph.node} & {"QuantizeLinear"}
    assert bool(integer) is (code == 0)
