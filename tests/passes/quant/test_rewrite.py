"""Rewrites before quantization: what they write computes the same, and where they do not apply the graph stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphopt.analysis import Analyses, Shapes
from graphopt.model import Model
from graphopt.passes.quant.rewrite import rewrite
from graphopt.target import CostTable, Target
from graphopt.target.costs import Cost, CostRow
from tests.nets import Net, feed_for, ops_of, outputs_of

VNNI = Target.load("ort-x86-vnni")


def paying(op: str) -> Target:
    """A target on which only this operator costs anything, in either domain."""
    rows = {("*", ""): CostRow("*", float_=Cost(), int8=Cost()), (op, ""): CostRow(op, float_=Cost(node=1), int8=Cost(node=1))}
    return replace(VNNI, costs=CostTable(rows))


def transposed(size: int = 2, *, group: int = 1, bias: bool = True, channels: int = 4, side: int = 5, **attrs: Any) -> Net:
    net = Net()
    x = net.input(1, channels, side, side + 1)
    inputs = [x, net.const(net.random(channels, 3, size, size)), *([net.const(net.random(3 * group))] if bias else [])]
    settings = {"kernel_shape": [size, size], "strides": [size, size], "group": group, **attrs}
    net.op("ConvTranspose", *inputs, out="y", **settings)
    return net


def rewritten(net: Net, target: Target, given: frozenset[str] = frozenset()) -> tuple[Any, Any]:
    before = net.model("y")
    model = Model.load(before)
    rewrite(model, Analyses(model).get(Shapes()), target, given)
    model.sweep()
    return before, model.proto()


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_blocks_compute_the_same(size: int, group: int, bias: bool) -> None:
    before, after = rewritten(transposed(size, group=group, bias=bias), paying("ConvTranspose"))
    assert ops_of(after) == ["Conv", "DepthToSpace"]
    feed = feed_for(before)
    np.testing.assert_allclose(outputs_of(after, feed)[0], outputs_of(before, feed)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "attrs",
    [
        {"strides": [1, 1]},
        {"strides": [3, 3]},
        {"strides": [2, 1]},
        {"pads": [1, 1, 0, 0]},
        {"output_padding": [1, 1]},
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER"},
        {"output_shape": [10, 12]},
    ],
    ids=str,
)
def test_what_makes_no_blocks_stays(attrs: dict[str, Any]) -> None:
    _, after = rewritten(transposed(2, **attrs), paying("ConvTranspose"))
    assert ops_of(after) == ["ConvTranspose"]


def test_what_does_not_pay_stays() -> None:
    assert ops_of(rewritten(transposed(), paying("DepthToSpace"))[1]) == ["ConvTranspose"]


def test_a_weight_with_given_integers_stays() -> None:
    assert ops_of(rewritten(transposed(), paying("ConvTranspose"), frozenset({"c0"}))[1]) == ["ConvTranspose"]


@pytest.mark.parametrize(
    ("channels", "outputs", "side", "ops"),
    [(256, 128, 14, ["Conv", "DepthToSpace"]), (16, 16, 64, ["ConvTranspose"])],
)
def test_many_channels_pay_where_it_was_measured(channels: int, outputs: int, side: int, ops: list[str]) -> None:
    net = Net()
    x = net.input(1, channels, side, side)
    weight = net.const(net.random(channels, outputs, 2, 2))
    net.op("ConvTranspose", x, weight, out="y", kernel_shape=[2, 2], strides=[2, 2])
    assert ops_of(rewritten(net, VNNI)[1]) == ops
