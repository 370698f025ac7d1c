"""Removing random channels, and holding the result against the masked original in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from graphopt.analysis import Analyses
from graphopt.analysis.channels import ChannelGraph, Channels
from graphopt.model import Model
from graphopt.passes.prune.realise import Realised, realise
from graphopt.passes.prune.reference import masked, reference
from tests.nets import Net, feed_for, outputs_of

TOLERANCE = 1e-5
"""Of the output's range, in float32: sums run in another order, nothing else differs."""


def channels_of(proto: onnx.ModelProto) -> ChannelGraph:
    return Analyses(Model.load(proto)).get(Channels())


def chain(widths: list[int]) -> ChannelGraph:
    """1x1 convolutions of these widths with a Relu after each, and one of 4 channels."""
    net = Net()
    x = net.input(1, 3, 8, 8)
    for width in widths:
        x = net.op("Relu", net.conv(x, width, 1))
    return channels_of(net.model(net.conv(x, 4, 1)))


def random_removal(graph: ChannelGraph, seed: int) -> NDArray[np.bool_]:
    """Some units of every group that can lose one. Two stay at least (one of two): a width of one broadcasts."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(g.units, rng.integers(1, max(2, g.size - 1)), replace=False) for g in graph.prunable if g.size > 1]
    return graph.flow.table.marked(np.concatenate(chosen) if chosen else np.zeros(0, np.int64))


def prune(graph: ChannelGraph, removed: NDArray[np.bool_]) -> tuple[Model, Realised]:
    """What the pruned graph must equal, and the pruned graph."""
    source = masked(graph, removed, {})
    return reference(graph, source, removed), realise(source, graph, removed)


def distance(reference: Model, candidate: Model, seed: int = 0) -> float:
    """The greatest difference of any output, relative to its range."""
    proto, other = reference.proto(), candidate.proto()
    feed = feed_for(proto, seed)
    expected, found = outputs_of(proto, feed), outputs_of(other, feed)
    assert [e.shape for e in expected] == [f.shape for f in found]
    pairs = zip(expected, found, strict=True)
    return max(float(np.abs(e - f).max() / max(float(np.ptp(e)), 1e-30)) if e.size else 0.0 for e, f in pairs)
