"""What the channels of a tensor look like to its readers: second moments over calibration data.

For every operator that sums over prunable channels the uncentred Gram matrix of its data input, a channel a feature: every
other factor of the tensor (batch, height, width, and the pixels of a flattened axis) is a sample. Streamed, in bounded memory,
with a bounded number of positions a feed, drawn with a seed.

After global pooling N inputs give N samples, and a Gram matrix of rank N makes any channel look like a combination of the
others. The covariance of the tensor before the pool has the rank; scaled to the trace of the pooled one it is mixed in, the
more the fewer samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.model import Model
from graphopt.ops.channels import Layout, Mixer
from graphopt.runtime import Feeds, Gram, collect

Floats = NDArray[np.float64]

MOST_FEATURES = 4096
"""Wider tensors get no statistics (a matrix of 4096 x 4096 takes 128 MiB)."""

_POSITIONS = 24
"""Positions to collect for each feature, over all feeds; and at least ``_FEWEST`` in all."""
_FEWEST = 16384
_MOST_WORK = 1e11
"""Multiplications for one Gram matrix, which bound the positions of wide tensors (to no fewer than 8 for a feature)."""

_POOLS = ("GlobalAveragePool", "ReduceMean")
_PASSING = ("Flatten", "Reshape", "Squeeze", "Identity", "Dropout")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the features of a mixer's columns are: a tensor, its axis, the sizes of the axis' factors, which are features."""

    tensor: str
    axis: int
    factors: tuple[int, ...]
    features: tuple[bool, ...]

    @property
    def count(self) -> int:
        """How many features there are."""
        return int(np.prod([n for n, f in zip(self.factors, self.features, strict=True) if f], dtype=np.int64))

    def rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """The tensor as [samples, features]."""
        moved = np.moveaxis(array, self.axis, -1).reshape(-1, *self.factors)
        order = [0, *(k + 1 for k, f in enumerate(self.features) if not f), *(k + 1 for k, f in enumerate(self.features) if f)]
        return moved.transpose(order).reshape(-1, self.count)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Second moments of features: ``gram`` is E[x x^T], ``mean`` is E[x]; from ``count`` samples."""

    gram: Floats
    mean: Floats
    count: int

    def plus(self, other: Moments) -> Moments:
        """The moments over the samples of both."""
        count = self.count + other.count
        a, b = self.count / count, other.count / count
        return Moments(a * self.gram + b * other.gram, a * self.mean + b * other.mean, count)


@dataclass(slots=True)
class Statistics:
    """Moments by source; ``unusable`` are tensors that were empty, or not finite somewhere.

    ``constants``: nothing is known of how features hang together, and only a constant may stand for one.
    """

    moments: dict[Source, Moments] = field(default_factory=dict[Source, Moments])
    unusable: list[str] = field(default_factory=list[str])
    constants: bool = False

    def joined(self, other: Statistics) -> Statistics:
        """The moments over the samples of both."""
        found = dict(self.moments)
        for source, theirs in other.moments.items():
            mine = found.get(source)
            found[source] = theirs if mine is None else mine.plus(theirs)
        return Statistics(found, sorted({*self.unusable, *other.unusable}))


def source_of(graph: ChannelGraph, mixer: Mixer) -> Source | None:
    """The source of a mixer's columns; None if it has no labelled features, too many, or whole blocks go."""
    if mixer.data is None or not mixer.linear:
        return None
    tensor = graph.nodes[mixer.node].inputs[mixer.data]
    layout = graph.flow.layout(tensor)
    if mixer.blockwise or layout is None or layout.rank <= mixer.data_axis:
        return None
    return _source(layout, tensor.name, mixer.data_axis)


def _source(layout: Layout, tensor: str, axis: int) -> Source | None:
    span = layout.span(axis)
    sizes = [layout.factors[at] for at in span]
    features = tuple(layout.field_at(at) is not None for at in span)
    known = tuple(s for s in sizes if isinstance(s, int))
    if len(known) != len(sizes) or not any(features):
        return None
    source = Source(tensor, axis, known, features)
    return source if source.count <= MOST_FEATURES else None


class _Rows:
    """A Gram accumulator that takes the whole tensor."""

    def __init__(self, source: Source, positions: int, seed: int) -> None:
        self.source = source
        self.gram = Gram(source.count, 1, positions=positions, seed=seed)

    def update(self, array: NDArray[Any]) -> None:
        self.gram.update(self.source.rows(array))


class _Several:
    """Accumulators of one tensor."""

    def __init__(self) -> None:
        self.parts: list[_Rows] = []

    def update(self, array: NDArray[Any]) -> None:
        for part in self.parts:
            part.update(array)


def gather(
    graph: ChannelGraph,
    mixers: Sequence[Mixer],
    feeds: Feeds,
    seed: int,
    threads: int,
    advance: Callable[[int], None] | None = None,
) -> Statistics:
    """Moments of the sources of ``mixers`` over ``feeds``."""
    wanted: dict[Source, Source | None] = {}
    for mixer in mixers:
        source = source_of(graph, mixer)
        if source is not None:
            wanted[source] = _before_pool(graph, mixer, source)
    accumulators: dict[str, _Several] = {}
    rows: dict[Source, _Rows] = {}
    for source in [*wanted, *(s for s in wanted.values() if s is not None)]:
        if source not in rows:
            taken = min(max(_FEWEST, _POSITIONS * source.count), max(8 * source.count, int(_MOST_WORK / source.count**2)))
            positions = -(-taken // max(1, len(feeds)))
            rows[source] = _Rows(source, positions, seed)
            accumulators.setdefault(source.tensor, _Several()).parts.append(rows[source])
    collect(graph.model, accumulators, feeds, batch=8, threads=threads, advance=advance)
    found = Statistics()
    for source, pooled in wanted.items():
        moments = _moments(rows[source].gram)
        if pooled is not None and moments.count:
            moments = _widened(moments, rows[pooled].gram)
        if moments.count and np.isfinite(moments.gram).all():
            found.moments[source] = moments
        else:
            found.unusable.append(source.tensor)
    return found


def _moments(gram: Gram) -> Moments:
    return Moments(gram.second_moment, gram.mean, gram.count)


def _widened(pooled: Moments, before: Gram) -> Moments:
    """Moments after a pool, with the covariance before it mixed in: weight C / (C + N) for C features from N samples."""
    outer = np.outer(pooled.mean, pooled.mean)
    covariance = pooled.gram - outer
    whole = before.covariance
    trace = float(np.trace(whole))
    if trace <= 0 or before.channels != pooled.mean.size:
        return pooled
    weight = before.channels / (before.channels + pooled.count)
    mixed = (1 - weight) * covariance + weight * whole * (float(np.trace(covariance)) / trace)
    return Moments(mixed + outer, pooled.mean, pooled.count)


def _before_pool(graph: ChannelGraph, mixer: Mixer, source: Source) -> Source | None:
    """The source before a global pool that the mixer's data comes from directly."""
    tensor: gs.Tensor = graph.nodes[mixer.node].inputs[mixer.data or 0]
    for _ in range(4):
        node = producer_of(graph.model, tensor)
        if node is None or node.domain not in (None, ""):
            return None
        if node.op in _POOLS:
            layout = graph.flow.layout(node.inputs[0])
            found = _source(layout, node.inputs[0].name, 1) if layout is not None and layout.rank > 2 else None
            return found if found is not None and found.count == source.count and all(found.features) else None
        if node.op not in _PASSING:
            return None
        tensor = node.inputs[0]
    return None


def producer_of(model: Model, tensor: gs.Tensor) -> gs.Node | None:
    """The node that makes a tensor."""
    return model.producer(tensor)
