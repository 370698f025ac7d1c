"""What the remaining channels can express is not lost: removing a channel that is a combination of others changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from graphopt.analysis.channels import ChannelGraph
from graphopt.model import Model
from graphopt.passes.prune.allocate import Curve, allocate, steps
from graphopt.passes.prune.compensate import Compensator
from graphopt.passes.prune.costs import macs_of
from graphopt.passes.prune.importance import by_activations
from graphopt.passes.prune.realise import realise
from graphopt.passes.prune.reference import masked
from graphopt.passes.prune.statistics import Statistics, gather
from graphopt.runtime import feeds_from
from tests.nets import Net, outputs_of
from tests.passes.prune.oracle import chain, channels_of

Build = Callable[[Net, str], str]
RIDGE = 1e-9


def producer(net: Net) -> str:
    """A tensor "a" of 6 channels: 4 is twice channel 1 minus channel 2, and 5 is constant."""
    weight, bias = net.random(6, 3, 1, 1), net.random(6)
    weight[4], bias[4] = 2 * weight[1] - weight[2], 0.5
    weight[5], bias[5] = 0, 0.75
    a = net.op("Conv", net.input("n", 3, 6, 6), net.const(weight), net.const(bias), out="a")
    net.widths[a] = 6
    return a


def gemm(net: Net, a: str) -> str:
    flat = net.op("Flatten", a)
    return net.op("Gemm", flat, net.const(net.random(4, 216)), net.const(net.random(4)), transB=1, alpha=0.5, beta=2.0)


def gemm_without_bias(net: Net, a: str) -> str:
    return net.op("Gemm", net.op("Flatten", a), net.const(net.random(216, 4)))


def matmul(net: Net, a: str) -> str:
    t = net.op("MatMul", net.op("Transpose", a, perm=[0, 2, 3, 1]), net.const(net.random(6, 5)))
    return net.op("Add", net.const(net.random(5)), t)


def channels_last(net: Net, a: str) -> str:
    flat = net.op("Flatten", net.op("Transpose", a, perm=[0, 2, 3, 1]))
    return net.op("Gemm", flat, net.const(net.random(216, 4)), net.const(net.random(1, 4)))


def concat(net: Net, a: str) -> str:
    c = net.op("Concat", a, "x", a, axis=1)
    net.widths[c] = 15
    return net.conv(c, 5, 2)


def depthwise_then_pointwise(net: Net, a: str) -> str:
    return net.conv(net.op("Relu", a), 5, 1)


READERS: dict[str, Build] = {
    "conv 1x1": lambda n, a: n.conv(a, 5, 1),
    "conv 3x3 without bias": lambda n, a: n.conv(a, 5, 3, bias=False),
    "gemm": gemm,
    "gemm without bias": gemm_without_bias,
    "matmul and add": matmul,
    "flatten channels last": channels_last,
    "concat": concat,
}


def prune(graph: ChannelGraph, channels: list[int], statistics: Statistics) -> onnx.ModelProto:
    units = graph.flow.table.find(graph.flow.tensors["a"].fields[0].labels)[channels]
    removed = graph.flow.table.marked(units)
    updates = Compensator(graph, graph.flow.mixers, statistics, RIDGE).weights(removed)
    assert updates
    reference = masked(graph, removed, updates)
    result = realise(reference, graph, removed)
    assert not result.problems
    feed = {"x": np.random.default_rng(9).standard_normal((3, 3, 6, 6)).astype(np.float32)}
    expected, found = outputs_of(reference.model.proto(), feed)[0], outputs_of(result.model.proto(), feed)[0]
    assert np.abs(expected - found).max() <= 1e-4 * np.ptp(expected)
    return result.model.proto()


def statistics_of(graph: ChannelGraph) -> Statistics:
    data = np.random.default_rng(0).standard_normal((32, 3, 6, 6)).astype(np.float32)
    return gather(graph, graph.flow.mixers, feeds_from(data, graph.model), 0, 1)


@pytest.mark.parametrize("channels", [[4], [5], [4, 5], [1, 5]])
@pytest.mark.parametrize("name", READERS)
def test_what_others_express_is_not_lost(name: str, channels: list[int]) -> None:
    net = Net(2)
    proto = net.model(READERS[name](net, producer(net)))
    graph = channels_of(proto)
    made = prune(graph, channels, statistics_of(graph))
    feed = {"x": np.random.default_rng(9).standard_normal((3, 3, 6, 6)).astype(np.float32)}
    expected, found = outputs_of(proto, feed)[0], outputs_of(made, feed)[0]
    assert np.abs(expected - found).max() <= 1e-3 * np.ptp(expected)


def test_transposed_convolution_without_a_constant() -> None:
    net = Net(2)
    a = producer(net)
    y = net.op("ConvTranspose", a, net.const(net.random(6, 4, 2, 2)), net.const(net.random(4)), strides=[2, 2])
    proto = net.model(y)
    graph = channels_of(proto)
    made = prune(graph, [5], statistics_of(graph))
    feed = {"x": np.random.default_rng(9).standard_normal((3, 3, 6, 6)).astype(np.float32)}
    expected, found = outputs_of(proto, feed)[0], outputs_of(made, feed)[0]
    assert np.abs(expected - found).max() <= np.ptp(expected)


def test_grouped_convolution_within_its_blocks() -> None:
    net = Net(2)
    weight, bias = net.random(8, 3, 1, 1), net.random(8)
    for start in (0, 4):  # in each block of four the third channel is the sum of the first two
        weight[start + 2], bias[start + 2] = weight[start] + weight[start + 1], 0.0
    a = net.op("Conv", net.input("n", 3, 6, 6), net.const(weight), net.const(bias), out="a")
    net.widths[a] = 8
    proto = net.model(net.conv(a, 6, 3, group=2))
    graph = channels_of(proto)
    made = prune(graph, [2], statistics_of(graph))
    feed = {"x": np.random.default_rng(9).standard_normal((3, 3, 6, 6)).astype(np.float32)}
    expected, found = outputs_of(proto, feed)[0], outputs_of(made, feed)[0]
    assert np.abs(expected - found).max() <= 1e-3 * np.ptp(expected)


def test_channels_that_others_express_go_first() -> None:
    net = Net(2)
    graph = channels_of(net.model(net.conv(producer(net), 5, 3)))
    group = next(g for g in graph.prunable if g.size == 6)
    order = by_activations(graph, group, statistics_of(graph), 1e-6)
    assert order is not None
    first = set(np.searchsorted(group.units, order[:2]).tolist())
    assert 5 in first
    assert first & {1, 2, 4}


# -- allocation ----------------------------------------------------------------------------------------------------------------


def test_allocation_is_close_to_the_best_of_those_near_the_budget() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        graph = chain([8, 8, 12])
        groups = list(graph.prunable)
        ladders = [steps(g, 2) for g in groups]
        curves = [Curve([(2, e), (g.size // 2, 4 * e)]) for g, e in zip(groups, rng.uniform(0.1, 1, 3), strict=True)]
        macs = macs_of(graph, groups)
        target = rng.uniform(0.4, 0.9) * macs.total
        found = allocate(macs, ladders, curves, target)
        assert macs.count(found) <= target
        options = [(a, b, c) for a in ladders[0] for b in ladders[1] for c in ladders[2]]
        fits = [o for o in options if macs.count(o) <= target]
        nearest = max(macs.count(o) for o in fits)
        share = max(s for s in (0.99, 0.95, 0.9, 0.8, 0.0) if nearest >= s * target)
        best = min(sum(c(n) for c, n in zip(curves, o, strict=True)) for o in fits if macs.count(o) >= share * target)
        assert sum(c(n) for c, n in zip(curves, found, strict=True)) <= 1.35 * best


def test_cost_model_counts_as_the_analysis_does() -> None:
    from graphopt.analysis import Analyses, Cost

    graph = chain([8, 6, 12])
    groups = list(graph.prunable)
    macs = macs_of(graph, groups)
    counts = [3, 2, 7]
    removed = graph.flow.table.marked(np.concatenate([g.units[:n] for g, n in zip(groups, counts, strict=True)]))
    model: Model = realise(masked(graph, removed, {}), graph, removed).model
    assert macs.count(counts) == pytest.approx(Analyses(model).get(Cost()).macs)


@pytest.mark.parametrize(("points", "units", "expected"), [([], 3, 0.0), ([(4, 1.0)], 0, 0.0), ([(2, 1.0), (4, 4.0)], 8, 16.0)])
def test_curves(points: list[tuple[int, float]], units: int, expected: float) -> None:
    assert Curve(points)(units) == pytest.approx(expected)
