"""What removing channels of one group does to the model's output: measured, on inputs that took no part in fitting.

For each group a few widths are tried, each alone, as a masked (and compensated) original. The error of an output is the mean
square of its change over the variance of the output itself; of several outputs the mean. An output of Softmax is measured
before it, where differences are still differences. How many samples and widths are tried is bounded by multiply-accumulates,
not by a clock, so that the result does not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, Group
from graphopt.errors import ModelError
from graphopt.model import Model
from graphopt.ops.channels import Labels
from graphopt.passes.prune.allocate import Curve
from graphopt.passes.prune.reference import Weights, masked, reference
from graphopt.runtime import Feeds, Session

Array = NDArray[np.float64]

MACS = 1e12
"""Multiply-accumulates to spend: a minute or so."""

SHARES = (0.125, 0.25, 0.5)
_MOST_SAMPLES = 32

Update = Callable[[NDArray[np.bool_]], Mapping[str, Weights]]


_AFTER = ("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK")


def measured_outputs(model: Model) -> list[str]:
    """The tensors to compare: the graph's outputs, or what was there before a Softmax or a choice."""
    found: list[str] = []
    for output in model.graph.outputs:
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


class Probe:
    """Runs variants of a model and says how far their outputs are from the model's own."""

    def __init__(self, model: Model, feeds: Feeds, threads: int) -> None:
        self._names = measured_outputs(model)
        self._feeds = list(feeds.batches(8))
        self._threads = threads
        try:
            self._expected = self._run(model)
        except ModelError:
            # Some graphs fix the batch inside, and no declaration says so.
            self._feeds = list(feeds)
            self._expected = self._run(model)
        self._scale = [max(_variance([run[k] for run in self._expected]), 1e-12) for k in range(len(self._names))]

    def _run(self, model: Model) -> list[list[Array | None]]:
        session = Session(model, threads=self._threads, extra_outputs=self._names)
        runs = [session.run(feed, self._names) for feed in self._feeds]
        return [[_floats(run[n]) for n in self._names] for run in runs]

    def error(self, model: Model) -> float:
        """Mean over the outputs of the mean square error over the variance."""
        squares, counts = np.zeros(len(self._names)), np.zeros(len(self._names))
        for mine, other in zip(self._expected, self._run(model), strict=True):
            for k, (a, b) in enumerate(zip(mine, other, strict=True)):
                if a is not None and b is not None and a.shape == b.shape:
                    squares[k] += float(np.square(a - b).sum())
                    counts[k] += a.size
        known = counts > 0
        if not known.any():
            return 0.0
        error = float(np.mean(squares[known] / counts[known] / np.asarray(self._scale)[known]))
        return error if np.isfinite(error) else 1e6


def _floats(value: Any) -> Array | None:
    """An output as float64; None if it has no distances (integers, strings, sequences)."""
    array = np.asarray(value) if hasattr(value, "dtype") else np.zeros(0, np.int64)
    return array.astype(np.float64) if array.dtype.kind == "f" else None


def _variance(parts: Sequence[Array | None]) -> float:
    known = [p.reshape(-1) for p in parts if p is not None]
    return float(np.var(np.concatenate(known))) if known else 0.0


def plan(groups: int, macs: int, samples: int) -> tuple[int, int]:
    """How many widths of a group to try, on how many samples."""
    for widths in (3, 2, 1):
        affordable = int(MACS / max(1, groups * widths) / max(macs, 1))
        if affordable >= 8 or widths == 1:
            return widths, max(1, min(samples, _MOST_SAMPLES, affordable))
    return 1, 1


def curves(
    graph: ChannelGraph,
    groups: Sequence[Group],
    orders: Sequence[Labels],
    ladders: Sequence[Sequence[int]],
    feeds: Feeds,
    update: Update,
    threads: int,
    advance: Callable[[], None],
) -> list[Curve]:
    """One error curve a group."""
    widths, samples = plan(len(groups), graph.cost.macs, len(feeds))
    probe = Probe(graph.model, feeds.take(samples), threads)
    shares = {1: SHARES[1:2], 2: SHARES[1:], 3: SHARES}[widths]
    found: list[Curve] = []
    for group, order, ladder in zip(groups, orders, ladders, strict=True):
        curve = Curve()
        for count in _tried(group, ladder, shares):
            removed = graph.flow.table.marked(order[:count])
            curve.points.append((count, probe.error(reference(graph, masked(graph, removed, update(removed)), removed))))
        curve.points = _rising(curve.points)
        found.append(curve)
        advance()
    return found


def _tried(group: Group, ladder: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Rungs of the ladder near the wanted shares."""
    rungs = [n for n in ladder if n]
    wanted = {min(rungs, key=lambda n: (abs(n - s * group.size), n)) for s in shares} if rungs else set[int]()
    return sorted(wanted)


def _rising(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Errors that do not fall as more is removed (small ones are noise)."""
    highest = 0.0
    made: list[tuple[int, float]] = []
    for count, error in points:
        highest = max(highest, error)
        made.append((count, highest))
    return made
