"""What a channel is on average, without data: the constant that may stand for it in the biases of what reads it.

A batch normalisation states it. Over what the network was trained on its output has the mean b (its shift) and the variance s^2
(its scale, squared), channel by channel. It is taken to be Gaussian, x = b + s z, and followed from there:

- a function of one value, and any arithmetic between functions of the *same* x (x * sigmoid(x)), is computed by the runtime on a
  grid of z, and E f(x) = sum_k w_k f(b + s z_k). The grid is even, with the normal density as weights: the error is O(h^2) where
  there is a kink (Relu, Clip), wherever it lies. Gauss-Hermite nodes are few where that is, and do worse with as many;
- a sum of different tensors adds means and variances, as if they were independent (the mean needs no such thing), and is taken to
  be Gaussian again;
- averages keep the mean, and their variance is not known; moves of data keep both;
- of all else nothing is known.

The batch normalisation may be folded in the model that the pass gets, so the file's graph is followed first, and what it says of a
tensor holds for the tensor of that name. As features that are independent these moments make ``compensated`` give A = 0 and
c = E x_R: constants in the biases, no weight that stays is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import ChannelGraph
from graphopt.ops import Facts, attrs
from graphopt.ops.channels import Labels, Layout
from graphopt.passes.prune.reference import Weights
from graphopt.passes.prune.reorder import Moves
from graphopt.passes.prune.statistics import Moments, Statistics, source_of
from graphopt.passes.prune.values import COMPUTED, evaluated, padded

Floats = NDArray[np.float64]

GRID = np.linspace(-8.0, 8.0, 513)
WEIGHTS = np.exp(-0.5 * GRID**2) / np.exp(-0.5 * GRID**2).sum()

_SAME = frozenset(("Identity", "Dropout"))
_MOVES = frozenset(
    ("DepthToSpace", "Expand", "Flatten", "Gather", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
     "Unsqueeze")
)  # fmt: skip
_AVERAGES = frozenset(("AveragePool", "GlobalAveragePool", "ReduceMean"))
_SUMS = frozenset(("Add", "Sub", "Sum"))


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """The channels of a tensor of which something is known.

    Attributes:
        channels: representatives of the finer partition, sorted.
        mean: of each channel.
        variance: of each channel; NaN where it is not known.
        root: the Gaussian tensor that this is a function of.
        values: [grid, channels]: this tensor where the root is at the points of the grid; None where it is no function of it.
    """

    channels: Labels
    mean: Floats
    variance: Floats
    root: str = ""
    values: Floats | None = None

    def at(self, channels: Labels) -> Expected:
        """Of these channels only, all of which are known."""
        index = np.searchsorted(self.channels, channels)
        values = None if self.values is None else self.values[:, index]
        return Expected(channels, self.mean[index], self.variance[index], self.root, values)


def gaussian(channels: Labels, mean: Floats, variance: Floats, root: str) -> Expected | None:
    """A Gaussian tensor; channels that are there twice must agree."""
    order = np.argsort(channels, kind="stable")
    known, first, inverse = np.unique(channels[order], return_index=True, return_inverse=True)
    mean, variance = mean[order], variance[order]
    same = (mean == mean[first][inverse]) & (variance == variance[first][inverse]) & np.isfinite(mean) & np.isfinite(variance)
    if not same.all():
        bad = np.unique(known[inverse[~same]])
        keep = ~np.isin(known, bad)
        known, first = known[keep], first[keep]
    if not known.size:
        return None
    mean, variance = mean[first], variance[first]
    return Expected(known, mean, variance, root, mean + np.sqrt(variance) * GRID[:, None])


class Expectations:
    """What is expected of the tensors of a graph; ``given`` are means and variances along axis 1, by name."""

    def __init__(self, graph: ChannelGraph, given: Mapping[str, tuple[Floats, Floats]]) -> None:
        self._graph = graph
        self._facts: Facts = Analyses(graph.model).get(Shapes())
        self.found: dict[str, Expected] = {}
        nodes = list(graph.model.graph.nodes)
        last = {t.name: at for at, node in enumerate(nodes) for t in node.inputs}
        for at, node in enumerate(nodes):
            for output in node.outputs:
                known = given.get(output.name)
                made = self._gaussian(output, *known) if known is not None else None
                if made is None and (output is node.outputs[0] or node.op == "Split"):
                    made = self._kept(output, self._step(node))
                    if made is not None and node.op in _MOVES:
                        # What was moved is another variable: element by element it has nothing to do with what was not.
                        made = replace(made, root=output.name)
                if made is not None:
                    self.found[output.name] = made
            for tensor in node.inputs:  # a grid is large, and read no more
                if last[tensor.name] == at and tensor.name in self.found:
                    self.found[tensor.name] = replace(self.found[tensor.name], values=None)

    def by_position(self) -> dict[str, tuple[Floats, Floats]]:
        """Means and variances along axis 1, by name; NaN where nothing is known."""
        made: dict[str, tuple[Floats, Floats]] = {}
        for name, known in self.found.items():
            vector = _along(self._graph, self._graph.flow.tensors.get(name))
            if vector is not None:
                made[name] = (looked_up(known.channels, known.mean, vector), looked_up(known.channels, known.variance, vector))
        return made

    def _gaussian(self, tensor: gs.Tensor, mean: Floats, variance: Floats) -> Expected | None:
        channels = _along(self._graph, self._graph.flow.layout(tensor))
        if channels is None or channels.size != mean.size or variance.size != mean.size:
            return None
        return gaussian(channels, mean, variance, tensor.name)

    def _kept(self, tensor: gs.Tensor, made: Expected | None) -> Expected | None:
        """``made`` on the channels that the tensor has, where it is finite."""
        layout = self._graph.flow.layout(tensor)
        if made is None or layout is None or not layout.fields:
            return None
        mine = self._graph.flow.table.find_same(np.concatenate([f.labels.reshape(-1) for f in layout.fields]))
        known = made.channels[np.isin(made.channels, mine) & np.isfinite(made.mean)]
        return made.at(known) if known.size else None

    def _step(self, node: gs.Node) -> Expected | None:
        if node.domain not in (None, "", "ai.onnx") or not node.inputs:
            return None
        first = self.found.get(node.inputs[0].name)
        if node.op == "BatchNormalization":
            scale, shift = (self._graph.model.value(t) for t in node.inputs[1:3])
            if scale is None or shift is None or attrs.int_(node, "training_mode", 0):
                return None
            return self._gaussian(node.outputs[0], shift.astype(np.float64), np.square(scale.astype(np.float64)))
        if node.op in _SAME | _MOVES:
            return first
        if first is not None and node.op in _AVERAGES:
            border = padded(node) and attrs.int_(node, "count_include_pad", 0)
            return None if border else replace(first, variance=np.full_like(first.mean, np.nan), root="", values=None)
        if node.op == "Concat":
            return self._joined(node)
        return self._computed(node) if node.op in COMPUTED else None

    def _joined(self, node: gs.Node) -> Expected | None:
        """Side by side; of a channel that is in several parts nothing is known."""
        parts = [self.found.get(t.name) for t in node.inputs]
        held = [self._graph.flow.layout(t) for t in node.inputs]
        every = [np.unique(self._graph.flow.table.find_same(f.labels.reshape(-1))) for lay in held if lay for f in lay.fields]
        known = [p for p in parts if p is not None]
        if not known:
            return None
        names, counts = np.unique(np.concatenate(every), return_counts=True)
        channels = np.concatenate([p.channels for p in known])
        order = np.argsort(channels, kind="stable")
        order = order[np.isin(channels[order], names[counts == 1])]
        mean, variance = (np.concatenate([getattr(p, what) for p in known])[order] for what in ("mean", "variance"))
        return Expected(channels[order], mean, variance)

    def _computed(self, node: gs.Node) -> Expected | None:
        """Arithmetic on functions of one Gaussian, or a sum of several."""
        moving = [t for t in node.inputs if t.name and self._graph.model.value(t) is None]
        operands = [self.found[t.name] for t in moving if t.name in self.found]
        if not moving or len(operands) != len(moving):
            return None
        channels = operands[0].channels
        for operand in operands[1:]:
            channels = np.intersect1d(channels, operand.channels)
        if not channels.size:
            return None
        operands = [o.at(channels) for o in operands]
        roots = {o.root for o in operands}
        if len(roots) == 1 and all(o.values is not None for o in operands):
            return self._function(node, channels, operands)
        if node.op in _SUMS and len(moving) == len(node.inputs) and (len(roots) == len(operands) or roots == {""}):
            signs = [1.0 if k == 0 or node.op != "Sub" else -1.0 for k in range(len(operands))]
            mean = np.sum([s * o.mean for s, o in zip(signs, operands, strict=True)], axis=0)
            variance = np.sum([o.variance for o in operands], axis=0)
            if np.isfinite(variance).all():
                return gaussian(channels, mean, variance, node.outputs[0].name)
            return Expected(channels, mean, variance)
        return None

    def _function(self, node: gs.Node, channels: Labels, operands: list[Expected]) -> Expected | None:
        feed: list[NDArray[Any] | None] = []
        computed = iter(operands)
        for index, tensor in enumerate(node.inputs):
            value = self._graph.model.value(tensor) if tensor.name else None
            if not tensor.name:
                feed.append(None)
            elif value is None:
                feed.append(next(computed).values)
            elif value.size == 1:
                feed.append(value.reshape(()))
            else:
                layout = self._graph.flow.operand(node, index)
                fields = () if layout is None else layout.fields
                if len(fields) != 1 or fields[0].labels.size != value.size:
                    return None
                mine = self._graph.flow.table.find_same(fields[0].labels.reshape(-1))
                order = np.argsort(mine, kind="stable")
                feed.append(looked_up(mine[order], value.reshape(-1)[order].astype(np.float64), channels))
        made = evaluated(node, self._facts, feed, (GRID.size, channels.size))
        if made is None:
            return None
        mean = WEIGHTS @ made
        return Expected(channels, mean, WEIGHTS @ np.square(made - mean), operands[0].root, made)


def _along(graph: ChannelGraph, layout: Layout | None) -> Labels | None:
    """The channels along axis 1; None if there is not one for each index."""
    fields = layout.fields_on(1) if layout is not None and layout.rank > 1 else ()
    if layout is None or len(fields) != 1 or fields[0].labels.size != layout.size(1):
        return None
    return graph.flow.table.find_same(fields[0].labels.reshape(-1))


def looked_up(channels: Labels, numbers: Floats, wanted: Labels) -> Floats:
    """The numbers of the channels ``wanted``; NaN for those that are not among ``channels``, which are sorted."""
    index = np.minimum(np.searchsorted(channels, wanted), channels.size - 1)
    return np.where(channels[index] == wanted, numbers[index], np.nan)


def expected(graph: ChannelGraph, original: ChannelGraph | None, moves: Moves) -> Statistics:
    """Moments of independent features for every mixer of whose data anything is known. ``graph`` is the one before ``moves``."""
    told = {} if original is None else Expectations(original, {}).by_position()
    found = Expectations(graph, told).found
    sigma = np.arange(len(graph.flow.table), dtype=np.int64)
    sigma[list(moves)] = list(moves.values())
    statistics = Statistics(constants=True)
    for mixer in graph.flow.mixers:
        source = source_of(graph, mixer)
        known = None if source is None else found.get(source.tensor)
        if source is None or known is None:
            continue
        fields = graph.flow.tensors[source.tensor].fields_on(source.axis)
        if len(fields) != 1 or fields[0].labels.size != source.count:
            continue
        channels = sigma[graph.flow.table.find_same(fields[0].labels.reshape(-1))]
        mean = np.nan_to_num(looked_up(known.channels, known.mean, channels))
        variance = np.nan_to_num(looked_up(known.channels, known.variance, channels))
        if mean.any():
            statistics.moments[source] = Moments(np.diag(variance) + np.outer(mean, mean), mean, 1)
    return statistics


def told(graph: ChannelGraph, updates: Mapping[str, Weights], *, given: bool) -> str:
    """What was done, for the reader. ``given``: there were data, but they said nothing."""
    border = sum(graph.nodes[key].op == "Conv" and padded(graph.nodes[key]) for key in updates)
    rest = f"; {border} of them pad, and at their borders the constant is too much" if border else ""
    return (
        f"WITHOUT {'USABLE ' if given else ''}DATA: channels were chosen by their weights, and only constants compensate: in"
        f" the biases of {len(updates)} operators the mean of each removed channel by its batch normalisation{rest}"
    )
