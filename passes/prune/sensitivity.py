"""What removing channels of one group does to the model's output: measured, on inputs that took no part in fitting.

For each group a few widths are tried, each alone, as a masked (and compensated) original. The error of an output is the mean
square of its change over the variance of the output itself; of several outputs the mean. An output of Softmax is measured
before it, where differences are still differences. How many samples and widths are tried is bounded by multiply-accumulates,
not by a clock, so that the result does not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import ChannelGraph, Group
from graphopt.errors import DataError
from graphopt.model import Model
from graphopt.ops import Facts
from graphopt.ops.channels import Labels
from graphopt.passes.prune.allocate import Curve
from graphopt.passes.prune.reference import Weights, masked, reference
from graphopt.passes.prune.walk import NETWORKS, Walk
from graphopt.runtime import Feeds, Session
from graphopt.runtime.feeds import Spool
from graphopt.runtime.stream import rows_independent

Array = NDArray[np.float64]

MACS = 3e12
"""Multiply-accumulates to spend: a minute or two of one core."""

SHARES = (0.25, 0.5, 0.125, 0.75, 0.375, 0.625, 0.875)
"""Which shares of a group to try, the most telling first."""

_WIDTHS = (7, 5, 4, 3, 2, 1)
_MOST_SAMPLES = 128

_WORST = 1e12
"""An error that is infinite, as a number."""

Update = Callable[[NDArray[np.bool_]], Mapping[str, Weights]]


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)

_AFTER = ("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK")


def measured_outputs(model: Model) -> list[str]:
    """The tensors to compare: the graph's outputs, or what was there before a Softmax or a choice.

    Behind an output that is no float number (a class, a mask, a quantized value) the last tensors that are; it is compared as a
    number itself where there are none.
    """
    types = Analyses(model).get(Shapes())
    found: list[str] = []
    for output in (t for o in model.graph.outputs for t in _floating(model, types, o)):
        seen: gs.Tensor = output
        for _ in range(4):
            producer = model.producer(seen)
            if (
                producer is None
                or producer.op not in (*_AFTER, "Cast", "Identity", "Squeeze")
                or model.producer(producer.inputs[0]) is None
            ):
                break
            seen = producer.inputs[0]
        found.append(seen.name)
    return list(dict.fromkeys(found))


def _floating(model: Model, types: Facts, output: gs.Tensor) -> list[gs.Tensor]:
    """The last tensors of float numbers that an output is computed from; itself if it is one, or there are none."""
    found: list[gs.Tensor] = []
    waiting, seen = [output], {output.name}
    while waiting:
        tensor = waiting.pop(0)
        producer = model.producer(tensor)
        if types.dtype(tensor) in _FLOATS or not types.dtype(tensor):
            found += [tensor] if producer is not None else []
            continue
        for source in producer.inputs if producer is not None else ():
            if source.name and source.name not in seen and model.value(source) is None:
                seen.add(source.name)
                waiting.append(source)
    return found or [output]


class Distance:
    """How far outputs are from those that are expected: over the outputs the mean of the mean square error over the variance.

    Numbers of which NaN or an infinity is expected are left out.

    Attributes:
        names: of the outputs.

    Raises:
        DataError: GO817 where that is all of an output: there is nothing to measure from.
    """

    def __init__(self, names: Sequence[str], expected: Iterable[Mapping[str, Any]]) -> None:
        self.names = list(names)
        self._expected = Spool()
        counts, means, spread = (np.zeros(len(names)) for _ in range(3))
        sizes = np.zeros(len(names), np.int64)
        for run in expected:
            kept: dict[str, Any] = {}
            for k, name in enumerate(self.names):
                value = _floats(run[name])
                if value is None:
                    continue
                finite = value[np.isfinite(value)]
                if finite.size:  # two sets of numbers into one, about their own means
                    count, mean = counts[k] + finite.size, float(finite.mean())
                    apart = mean - means[k]
                    spread[k] += float(np.square(finite - mean).sum()) + apart**2 * counts[k] * finite.size / count
                    means[k] += apart * finite.size / count
                    counts[k] = count
                sizes[k] += value.size
                kept[name] = run[name]
            self._expected.add(kept)
        for name, known, size in zip(self.names, counts, sizes, strict=True):
            if size and not known:
                why = "is NaN or infinite throughout: nothing can be measured by it"
                raise DataError("GO817", f"'{name}'", why, "other samples; or the model is broken")
        self._scale: Array = np.maximum(spread / np.maximum(counts, 1), 1e-12)

    def error(self, runs: Iterable[Mapping[str, Any]]) -> float:
        """Of one run a feed, in their order."""
        return self.errors(([run] for run in runs), 1)[0]

    def errors(self, runs: Iterable[Sequence[Mapping[str, Any]]], count: int, feeds: int | None = None) -> list[float]:
        """Of ``count`` runs a feed: one error each. ``feeds``: of the first ones only."""
        squares, counts = np.zeros((count, len(self.names))), np.zeros((count, len(self.names)))
        expected = self._expected if feeds is None else self._expected.read(range(min(feeds, len(self._expected))))
        for mine, others in zip(expected, runs, strict=True):
            wanted = {name: _floats(value) for name, value in mine.items()}
            for which, other in enumerate(others):
                for k, name in enumerate(self.names):
                    a, b = wanted.get(name), _floats(other[name])
                    if a is not None and b is not None and a.shape == b.shape:
                        finite = np.isfinite(a)
                        squares[which, k] += float(np.square(a[finite] - b[finite]).sum())
                        counts[which, k] += np.count_nonzero(finite)
        return [self._mean(s, c) for s, c in zip(squares, counts, strict=True)]

    def _mean(self, squares: Array, counts: Array) -> float:
        known = counts > 0
        if not known.any():
            return 0.0
        error = float(np.mean(squares[known] / counts[known] / self._scale[known]))
        return error if np.isfinite(error) else float("inf")


class Probe:
    """Runs variants of a network and says how far their outputs are from the original's, on ``samples`` samples.

    Variants that change nothing before some place of the graph are run from there: asked for in the order of the graph, they cost
    about half.
    """

    def __init__(self, graph: ChannelGraph, feeds: Feeds, threads: int) -> None:
        self._names = measured_outputs(graph.model)
        self._feeds = batched(graph.model, feeds, self._names, threads)
        self.samples = sum(int(next(iter(f.values())).shape[0]) if np.ndim(next(iter(f.values()))) else 1 for f in self._feeds)
        self._macs = macs_by_output(graph)
        self._threads = threads
        session = Session(graph.model, threads=threads, extra_outputs=self._names)
        self._distance = Distance(self._names, (session.run(feed, self._names) for feed in self._feeds))
        self.start(graph.model)

    def start(self, base: Model) -> None:
        """From here on the variants are of another network."""
        key = NETWORKS[0], "held"
        self._walk = Walk(base.proto(), self._macs, {key: self._feeds}, self._names, self._threads)

    def error(self, variant: Model, first: str | None = None) -> float:
        """Mean over the outputs of the mean square error over the variance.

        ``first`` is a tensor of which the variant changes nothing that lies before, in the order of the graph; it must not be
        before that of the last call.
        """
        if first is not None:
            self._walk.advance(self._walk.position(first))
        return min(self._distance.error(self._walk.values(*self._walk_key, variant.proto(), self._names)), _WORST)

    @property
    def _walk_key(self) -> tuple[str, str]:
        return NETWORKS[0], "held"


def batched(model: Model, feeds: Feeds, names: Sequence[str], threads: int, size: int = 8) -> Spool:
    """Feeds joined, ``size`` at most, where that gives the same."""
    session = Session(model, threads=threads, extra_outputs=names)
    return Spool.of(feeds.batches(size if rows_independent(session, feeds, size) else 1))


def macs_by_output(graph: ChannelGraph) -> dict[str, float]:
    """Multiply-accumulates of each node, by its first output."""
    costs = {node.outputs[0].name: graph.cost.of(node) for node in graph.model.graph.nodes if node.outputs}
    return {name: float(c.macs or 0) for name, c in costs.items() if c is not None}


def _floats(value: Any) -> Array | None:
    """An output as float64; None if it has no distances (strings, sequences)."""
    array: NDArray[Any] = np.asarray(value) if hasattr(value, "dtype") else np.zeros(0, object)
    return array.astype(np.float64) if array.dtype.kind in "fiub" else None


def plan(groups: int, macs: int, samples: int) -> tuple[int, int]:
    """How many widths of a group to try, on how many samples."""
    samples = min(samples, _MOST_SAMPLES)
    for widths in _WIDTHS:
        affordable = int(2 * MACS / max(1, groups * widths) / max(macs, 1))  # half of a run is saved
        if affordable >= min(samples, 48 if widths > 3 else 16) or widths == _WIDTHS[-1]:
            return widths, max(1, min(samples, affordable))
    return 1, 1


def first_tensor(graph: ChannelGraph, group: Group) -> str:
    """The first tensor, in the order of the graph, that holds channels of a group: what reads it comes later."""
    units = set(group.units.tolist())
    for node in graph.model.graph.nodes:
        for tensor in node.outputs:
            layout = graph.flow.tensors.get(tensor.name)
            if layout is None:
                continue
            if any(not units.isdisjoint(graph.flow.table.find(f.labels.reshape(-1)).tolist()) for f in layout.fields):
                return node.outputs[0].name
    return graph.model.graph.nodes[0].outputs[0].name


def curves(
    graph: ChannelGraph,
    groups: Sequence[Group],
    orders: Sequence[Labels],
    ladders: Sequence[Sequence[int]],
    probe: Probe,
    widths: int,
    update: Update,
    advance: Callable[[], None],
) -> list[Curve]:
    """One error curve a group, of so many widths."""
    found: dict[str, Curve] = {}
    place = {node.outputs[0].name: k for k, node in enumerate(graph.model.graph.nodes) if node.outputs}
    firsts = {g.id: first_tensor(graph, g) for g in groups}
    several = sorted(zip(groups, orders, ladders, strict=True), key=lambda t: place[firsts[t[0].id]])
    for group, order, ladder in several:
        curve = Curve()
        for count in _tried(group, ladder, SHARES[:widths]):
            removed = graph.flow.table.marked(order[:count])
            variant = reference(graph, masked(graph, removed, update(removed)), removed)
            curve.points.append((count, probe.error(variant, firsts[group.id])))
        curve.points = _rising(curve.points)
        found[group.id] = curve
        advance()
    return [found[g.id] for g in groups]


def _tried(group: Group, ladder: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Rungs of the ladder near the wanted shares; all, if there are no more than those."""
    rungs = [n for n in ladder if n]
    if len(rungs) <= len(shares):
        return rungs
    return sorted({min(rungs, key=lambda n: (abs(n - s * group.size), n)) for s in shares})


def _rising(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Errors that do not fall as more is removed (small ones are noise)."""
    highest = 0.0
    made: list[tuple[int, float]] = []
    for count, error in points:
        highest = max(highest, error)
        made.append((count, highest))
    return made
