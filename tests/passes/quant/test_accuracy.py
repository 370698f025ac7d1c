"""What makes integers come closer: channels scaled, weights rounded with one another in mind, means kept.

Oracles: the float model before; a convolution as onnxruntime computes it; all ways to round, tried out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from numpy.typing import NDArray

from graphopt.analysis import Analyses, Shapes
from graphopt.model import Model
from graphopt.passes.quant import Quant
from graphopt.passes.quant.equalize import ChannelStats, equalize, wanted
from graphopt.passes.quant.patches import Window, rows
from graphopt.passes.quant.ranges import Histogram
from graphopt.passes.quant.rounding import match_means, round_weight
from graphopt.passes.quant.seen import Seen
from graphopt.passes.quant.spaces import SpaceBuilder
from graphopt.passes.quant.units import Bounds, UnitBuilder
from graphopt.pipeline import Context
from graphopt.runtime import Session, collect, feeds_from
from graphopt.target import Target
from tests.nets import Net, feed_for

SCHEME = Target.load("ort-x86-vnni").int8
assert SCHEME is not None


def uneven(net: Net, x: str, width: int, kernel: int = 1, *, group: int = 1) -> str:
    """A convolution whose output channels differ a thousandfold."""
    source = net.widths[x]
    scale = np.geomspace(0.03, 30, width)[net.rng.permutation(width)]
    weight = net.random(width, source // group, kernel, kernel) * scale[:, None, None, None] / np.sqrt(source // group)
    out = net.op("Conv", x, net.const(weight), net.const(net.random(width) * scale), pads=[kernel // 2] * 4, group=group)
    net.widths[out] = width
    return out


def level(net: Net, x: str) -> str:
    """A convolution that makes all channels count alike."""
    spread = np.geomspace(30, 0.03, net.widths[x])
    return net.op("Conv", x, net.const(net.random(8, net.widths[x], 1, 1) * spread[None, :, None, None]), net.const(net.random(8)))


def pair(net: Net, x: str) -> str:
    return level(net, net.op("Relu", uneven(net, x, 16)))


def leaky(net: Net, x: str) -> str:
    return level(net, net.op("LeakyRelu", uneven(net, x, 16), alpha=0.1))


def depthwise(net: Net, x: str) -> str:
    return level(net, net.op("Relu", uneven(net, net.op("Relu", uneven(net, x, 16)), 16, 3, group=16)))


def grouped(net: Net, x: str) -> str:
    return level(net, net.op("Relu", uneven(net, uneven(net, x, 16), 16, 3, group=4)))


def residual(net: Net, x: str) -> str:
    first = net.op("Relu", uneven(net, x, 16))
    second = uneven(net, first, 16, 3)
    return level(net, net.op("Add", first, second))


def concatenated(net: Net, x: str) -> str:
    y = net.op("Concat", uneven(net, x, 8), net.op("Relu", uneven(net, x, 8)), axis=1)
    net.widths[y] = 16
    return level(net, net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))


def pooled(net: Net, x: str) -> str:
    y = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", uneven(net, x, 16))), axis=1)
    return net.op("Gemm", y, net.const(net.random(8, 16)), net.const(net.random(8)), transB=1)


def gated(net: Net, x: str) -> str:
    y = uneven(net, x, 16)
    gate = net.op("Sigmoid", net.conv(net.op("GlobalAveragePool", y), 16, 1))
    return level(net, net.op("Mul", y, gate))


def frozen(net: Net, x: str) -> str:
    """Nothing may be scaled: Sigmoid is not homogeneous."""
    return level(net, net.op("Sigmoid", uneven(net, x, 16)))


def capped(net: Net, x: str) -> str:
    y = net.op("Clip", uneven(net, x, 16), net.const(np.float32(0)), net.const(np.float32(6)))
    return level(net, y)


NETS: dict[str, tuple[Callable[[Net, str], str], int]] = {
    "pair": (pair, 1),
    "leaky": (leaky, 1),
    "depthwise": (depthwise, 2),
    "grouped": (grouped, 2),
    "residual": (residual, 1),
    "concatenated": (concatenated, 1),
    "pooled": (pooled, 1),
    "gated": (gated, 1),
    "frozen": (frozen, 0),
    "capped": (capped, 1),
}
"""Builder, and how many spaces can be scaled."""


def build(name: str) -> onnx.ModelProto:
    net = Net(seed=3)
    return net.model(NETS[name][0](net, net.input(1, 8, 12, 12)))


def scaled(proto: onnx.ModelProto, data: list[dict[str, Any]]) -> tuple[Model, int]:
    assert SCHEME is not None
    model = Model.load(proto)
    feeds = feeds_from(data, model)
    facts = Analyses(model).get(Shapes())
    units = UnitBuilder(model, facts, SCHEME, lambda node: False).build()
    spaces = SpaceBuilder(model, units, facts).build()
    stats = {name: ChannelStats(axis) for name, axis in wanted(spaces).items()}
    collect(model, stats, feeds)
    quantized = [t.name for u in units for t in u.outputs]
    return model, len(equalize(model, spaces, quantized, stats, 1e9))


@pytest.mark.parametrize("name", NETS)
def test_scaled_channels_compute_the_same(name: str) -> None:
    proto = build(name)
    data = [feed_for(proto, seed=seed) for seed in range(4)]
    model, done = scaled(proto, data)
    assert (done > 0) == (NETS[name][1] > 0)
    before, after = Session(proto), Session(model)
    for feed in data:
        for key, value in before.run(feed).items():
            np.testing.assert_allclose(after.run(feed)[key], value, rtol=0, atol=1e-5 * np.abs(value).max())


@pytest.mark.parametrize("name", ["depthwise", "residual"])
def test_scaled_channels_come_closer(name: str) -> None:
    """Uneven channels under one scale are what int8 cannot do."""
    proto = build(name)
    data = [feed_for(proto, seed=seed) for seed in range(12)]
    noise: dict[str, float] = {}
    for how in ("off", "on"):
        model = Model.load(proto)
        options = {"placement": "kernels", "ranges": "minmax", "rounding": "nearest", "bias": "keep"}
        Quant(equalize=how, **options).run(model, Context(model, feeds=feeds_from(data, model)))
        fresh = [feed_for(proto, seed=seed) for seed in range(100, 104)]
        pairs = [(Session(proto).run(f), Session(model).run(f)) for f in fresh]
        noise[how] = sum(float(((a[k] - b[k]) ** 2).sum()) for a, b in pairs for k in a)
    assert noise["on"] < 0.5 * noise["off"]


# -- patches ---------------------------------------------------------------------------------------------------------------

CONVS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((1, 4, 7, 9), (6, 4, 3, 3), {}),
    "padded": ((2, 4, 7, 9), (6, 4, 3, 3), {"pads": [1, 0, 2, 1]}),
    "strided": ((1, 4, 8, 9), (6, 4, 3, 2), {"strides": [2, 3], "pads": [1, 1, 1, 1]}),
    "dilated": ((1, 4, 9, 9), (6, 4, 3, 3), {"dilations": [2, 1]}),
    "depthwise": ((1, 4, 7, 7), (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "grouped": ((1, 8, 7, 7), (6, 4, 3, 3), {"group": 2}),
    "same": ((1, 4, 8, 7), (6, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((1, 4, 8, 8), (6, 4, 2, 2), {"auto_pad": "SAME_LOWER"}),
    "one axis": ((1, 4, 11), (6, 4, 3), {"pads": [1, 1]}),
    "three axes": ((1, 2, 5, 4, 6), (3, 2, 3, 2, 1), {}),
}


@pytest.mark.parametrize("name", CONVS)
def test_patches_times_weights_is_the_convolution(name: str) -> None:
    shape, kernel, attrs = CONVS[name]
    net = Net(seed=1)
    x, w = net.input(*shape), net.random(*kernel).astype(np.float32)
    proto = net.model(net.op("Conv", x, net.const(w), **attrs))
    feed = feed_for(proto)
    wanted_ = next(iter(Session(proto).run(feed).values()))
    window = Window.of(gs.Node("Conv", attrs=attrs), kernel[2:])
    found = rows(feed["x"], window, 10**6, np.random.default_rng(0))
    groups = window.groups
    product = np.einsum("pgk,gok->pgo", found, w.reshape(groups, kernel[0] // groups, -1)).reshape(len(found), -1)
    np.testing.assert_allclose(product, np.moveaxis(wanted_, 1, -1).reshape(len(found), -1), rtol=0, atol=1e-5)


def test_the_same_positions_are_drawn_of_both() -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 9, 9)).astype(np.float32)
    window = Window.of(gs.Node("Conv"), (3, 3))
    first, second = (rows(scale * x, window, 10, np.random.default_rng([0, 5])) for scale in (1, 2))
    assert first.shape == (10, 1, 27)
    np.testing.assert_array_equal(2 * first, second)


# -- rounding --------------------------------------------------------------------------------------------------------------


def correlated(columns: int, count: int = 400) -> NDArray[np.float32]:
    random = np.random.default_rng(2)
    mixed = random.normal(size=(count, columns)) + 3 * random.normal(size=(count, 1))
    return mixed.astype(np.float32)


def loss(values: NDArray[Any], weight: NDArray[Any], covariance: NDArray[Any], step: float) -> float:
    error = step * values - weight
    return float(np.einsum("ok,kl,ol->", error, covariance, error))


def test_rounding_by_the_covariance_is_nearly_the_best_there_is() -> None:
    x = correlated(8)
    covariance = np.cov(x.T, bias=True)
    weight = np.random.default_rng(3).uniform(-1, 1, (24, 8))
    step = 0.5
    values = round_weight(weight[None], covariance[None], np.full((1, 24), step), 127)[0]
    near = loss(np.rint(weight / step), weight, covariance, step)
    best = 0.0
    for row in weight:
        floors = np.floor(row / step)
        choices = [floors + np.asarray(up) for up in itertools.product((0, 1), repeat=8)]
        best += min(loss(c[None], row[None], covariance, step) for c in choices)
    assert loss(values, weight, covariance, step) < 1.2 * best
    assert loss(values, weight, covariance, step) < 0.3 * near


def test_rounding_by_no_covariance_is_to_the_nearest() -> None:
    weight = np.random.default_rng(3).uniform(-1, 1, (2, 3, 5))
    values = round_weight(weight, np.broadcast_to(np.eye(5), (2, 5, 5)), np.full((2, 3), 0.1), 7)
    np.testing.assert_array_equal(values, np.clip(np.rint(weight / 0.1), -7, 7))


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(0.0), Bounds(0.0, 6.0)])
def test_means_agree_behind_the_activation(bounds: Bounds) -> None:
    random = np.random.default_rng(5)
    exact = random.normal(size=(3000, 1, 8)).astype(np.float32)
    quantized = exact + 0.3 * random.normal(size=exact.shape).astype(np.float32)
    weight, bias = random.normal(size=(1, 4, 8)), random.normal(size=(1, 4)) - 1
    rounded = weight + 0.05 * random.normal(size=weight.shape)
    shift = match_means(weight, rounded, bias, Seen.of(exact, quantized), bounds)
    behind = [
        np.clip(np.einsum("pgk,gok->pgo", x, w) + b, bounds.low, bounds.high).mean(axis=0)
        for x, w, b in ((exact, weight, bias), (quantized, rounded, bias + shift))
    ]
    np.testing.assert_allclose(behind[1], behind[0], rtol=0, atol=1e-3)


FITS: list[tuple[dict[str, Any], int]] = [
    ({"rounding": "second-order"}, 3),
    ({"rounding": "second-order", "bias": "keep"}, 2),
    ({"rounding": "nearest", "bias": "correct"}, 3),
    ({"rounding": "nearest", "bias": "keep"}, 2),
    ({"rounding": "data-free", "bias": "keep"}, 2),
]
"""Options, and how many inputs a convolution that had no bias has then."""


@pytest.mark.parametrize(("options", "inputs"), FITS)
def test_a_kernel_without_a_bias_may_get_one(options: dict[str, Any], inputs: int) -> None:
    net = Net(seed=1)
    x = net.op("Relu", net.conv(net.input(1, 16, 8, 8), 16, pad=1, bias=False))
    proto = net.model(net.conv(x, 16, 1, bias=False))
    model = Model.load(proto)
    data = [feed_for(proto, seed=seed) for seed in range(8)]
    outcome = Quant(placement="kernels", **options).run(model, Context(model, feeds=feeds_from(data, model)))
    assert [len(n.inputs) for n in model.graph.nodes if n.op == "Conv"] == [inputs, inputs]
    assert outcome.facts["integer_kernels"] == {"QLinearConv": 2}


# -- ranges ----------------------------------------------------------------------------------------------------------------


def test_average_is_the_mean_of_the_samples_extremes() -> None:
    histogram = Histogram(counted=True)
    for low, high in ((-1, 2), (-3, 4), (-2, 9)):
        histogram.update(np.asarray([low, 0, high], np.float32))
    assert histogram.range("average") == (-2.0, 5.0)


@pytest.mark.parametrize("rule", ["entropy", "percentile"])
def test_one_outlier_does_not_set_the_range(rule: Any) -> None:
    histogram = Histogram(counted=True)
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    values[7] = 100
    for part in np.array_split(values, 10):
        histogram.update(part)
    low, high = histogram.range(rule)
    assert high < 60 and -6 < low < -3
    assert histogram.range("minmax")[1] == 100
