"""What is only done when asked for: widths that a normalisation averages over, and heads as a whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphopt.analysis import Analyses
from graphopt.analysis.channels import ChannelGraph, Channels
from graphopt.model import Model
from graphopt.passes.prune import Prune
from graphopt.pipeline import Context
from tests.analysis.channels.sequences import fused_attention, grouped_query
from tests.nets import Net
from tests.passes.prune.oracle import TOLERANCE, distance, prune, random_removal


def fused(net: Net) -> str:
    h = net.op("MatMul", net.input(2, 7, 6), net.const(net.random(6, 8)), out="h")
    h = net.op("LayerNormalization", h, net.const(net.random(8)), net.const(net.random(8)), epsilon=0.01)
    return net.op("MatMul", h, net.const(net.random(8, 3)))


def root_mean_square(net: Net) -> str:
    """In its nodes: x / sqrt(mean(x^2) + epsilon) * scale."""
    h = net.op("MatMul", net.input(2, 7, 6), net.const(net.random(6, 8)), out="h")
    square = net.op("ReduceMean", net.op("Mul", h, h), axes=[-1], keepdims=1)
    h = net.op("Div", h, net.op("Sqrt", net.op("Add", square, net.const(np.float32(0.01)))))
    return net.op("MatMul", net.op("Mul", h, net.const(net.random(8))), net.const(net.random(8, 3)))


def nine_nodes(net: Net) -> str:
    """Layer normalisation as old exporters write it, over the channels of an image."""
    x = net.conv(net.input(2, 3, 8, 8), 8)
    h = net.op("Identity", x, out="h")
    centred = net.op("Sub", h, net.op("ReduceMean", h, axes=[1], keepdims=1))
    variance = net.op("ReduceMean", net.op("Pow", centred, net.const(np.float32(2))), axes=[1], keepdims=1)
    h = net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, net.const(np.float32(0.01)))))
    h = net.op("Add", net.op("Mul", h, net.const(net.random(8, 1, 1))), net.const(net.random(8, 1, 1)))
    net.widths[h] = 8
    return net.conv(h, 4, 1)


def around_a_block(net: Net) -> str:
    """A residual width with two normalisations and a hidden width."""
    h = net.op("MatMul", net.input(2, 7, 6), net.const(net.random(6, 8)), out="h")
    n = net.op("LayerNormalization", h, net.const(net.random(8)), net.const(net.random(8)))
    hidden = net.op("Erf", net.op("MatMul", n, net.const(net.random(8, 12))))
    h = net.op("Add", h, net.op("MatMul", hidden, net.const(net.random(12, 8))))
    h = net.op("LayerNormalization", h, net.const(net.random(8)), "", axis=2)
    return net.op("MatMul", net.op("ReduceMean", h, axes=[1], keepdims=0), net.const(net.random(8, 3)))


NETWORKS: dict[str, Callable[[Net], str]] = {
    "layer normalisation": fused,
    "root mean square in its nodes": root_mean_square,
    "layer normalisation in nine nodes": nine_nodes,
    "around a block": around_a_block,
}


def graph_of(build: Callable[[Net], str], *, heads: bool = False, lossy_norm: bool = False) -> ChannelGraph:
    net = Net(1)
    return Analyses(Model.load(net.model(build(net)))).get(Channels(heads=heads, lossy_norm=lossy_norm))


def sizes(graph: ChannelGraph, tensor: str) -> int:
    layout = graph.flow.tensors[tensor]
    classes = {int(c) for f in layout.fields for c in graph.flow.table.find(f.labels).reshape(-1)}
    return sum(len(classes & set(g.units.tolist())) for g in graph.prunable)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_normalised_width_stays_unless_asked(name: str) -> None:
    assert sizes(graph_of(NETWORKS[name]), "h") == 0
    assert sizes(graph_of(NETWORKS[name], lossy_norm=True), "h") == 8


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_original_with_shorter_averages(name: str, seed: int) -> None:
    graph = graph_of(NETWORKS[name], lossy_norm=True)
    reference, result = prune(graph, random_removal(graph, seed))
    assert not result.problems
    assert distance(reference, result.model, seed) <= TOLERANCE
    assert distance(graph.model, result.model, seed) > 100 * TOLERANCE


def test_the_report_says_that_it_is_not_exact() -> None:
    net = Net(1)
    model = Model.load(net.model(around_a_block(net)))
    outcome = Prune(ratio=0.5, multiple=1, lossy_norm=True, importance="norm").run(model, Context(model.copy()))
    assert any("not exact" in note for note in outcome.notes)
    assert outcome.facts["lossy_norms"] == 2
    assert outcome.reference is not None
    assert distance(outcome.reference, model) <= TOLERANCE


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", ["gather", "split", "slice"])
def test_heads_go_as_a_whole(how: str, seed: int) -> None:
    graph = graph_of(lambda net: fused_attention(net, how), heads=True)
    assert sizes(graph, "mixed") == 2
    reference, result = prune(graph, random_removal(graph, seed))
    assert not result.problems
    assert distance(reference, result.model, seed) <= TOLERANCE


def test_grouped_heads_go_with_those_that_they_serve() -> None:
    graph = graph_of(grouped_query, heads=True)
    assert sizes(graph, "q") == sizes(graph, "k") == sizes(graph, "v") == 2
    reference, result = prune(graph, random_removal(graph, 0))
    assert not result.problems
    assert distance(reference, result.model) <= TOLERANCE
