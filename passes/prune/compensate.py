"""Linear compensation: what a mixer loses by removed channels, the channels that stay make up for as well as they can.

With x_R the removed and x_S the kept features of a mixer's data, the best guess x_R ~ A x_S + c in the least squares sense is

    [A c] = G_R,S1 (G_S1,S1 + lambda D)^-1,      S1 = S and the constant 1,   G the uncentred Gram matrix,
    D = diag(mean diagonal of G, ..., 0)     (the constant is not shrunk)

and the mixer absorbs it: for every tap W_S += W_R A, and the bias gains sum over taps of W_R c. All in float64. The bias part
is exact but for the border of a padded convolution; a ConvTranspose with strides has no bias that would do it, so c is 0 there,
as it is where no bias can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.ops import attrs
from graphopt.ops.channels import Labels, Mixer
from graphopt.passes.prune.blocks import feature_classes, shape_of
from graphopt.passes.prune.reference import Weights, bias_slot, out_labels
from graphopt.passes.prune.statistics import Moments, Statistics, source_of

Floats = NDArray[np.float64]

_KEPT = 3
"""Weights of a mixer: as it is, and with a rung more and a rung less."""


def with_constant(moments: Moments, ridge: float, constant: bool) -> Floats:
    """The Gram matrix with ridge on its diagonal, and with the constant 1 as last feature (alone, if it is not wanted)."""
    count = moments.mean.size
    made = np.zeros((count + 1, count + 1))
    made[:count, :count] = moments.gram
    scale = float(np.mean(np.diag(moments.gram)))
    made[np.arange(count), np.arange(count)] += ridge * scale + np.finfo(float).tiny ** 0.5
    made[count, count] = 1.0
    if constant:
        made[:count, count] = made[count, :count] = moments.mean
    return made


class Compensator:
    """Compensates for removals, one after the other, of one set of statistics.

    A mixer's weights depend on which of its own features go. Searches try removals that differ in one group, so the last few
    weights of each mixer are kept.
    """

    def __init__(self, graph: ChannelGraph, mixers: Sequence[Mixer], statistics: Statistics, ridge: float) -> None:
        self.statistics = statistics
        self._graph, self._ridge = graph, ridge
        self._together: dict[str, list[Mixer]] = {}
        for mixer in mixers:
            self._together.setdefault(self._name(mixer), []).append(mixer)
        self._read = [(m, c) for m in mixers if (c := _features(graph, m)) is not None]
        self._last: dict[tuple[str, int], dict[bytes, Weights]] = {}

    def weights(self, removed: NDArray[np.bool_]) -> dict[str, Weights]:
        """New weights for every mixer that loses features and has statistics."""
        found: dict[str, Weights] = {}
        for mixer, classes in self._read:
            lost = removed[classes]
            if not lost.any():
                continue
            last, key = self._last.setdefault((mixer.node, mixer.weight), {}), lost.tobytes()
            made = last.pop(key, None)
            if made is None:
                together = self._together[self._name(mixer)]
                made = _compensate(self._graph, mixer, together, removed, self.statistics, self._ridge)
            if made is None:
                continue
            found[mixer.node] = last[key] = made
            if len(last) > _KEPT:
                del last[next(iter(last))]
        return found

    def _name(self, mixer: Mixer) -> str:
        return self._graph.nodes[mixer.node].inputs[mixer.weight].name


def _features(graph: ChannelGraph, mixer: Mixer) -> Labels | None:
    source = source_of(graph, mixer)
    return None if source is None else feature_classes(graph, mixer, source)


def _moments(graph: ChannelGraph, together: Sequence[Mixer], statistics: Statistics) -> Moments | None:
    """The moments over all mixers that share one weight, so that they go on sharing it."""
    joined: Moments | None = None
    for mixer in together:
        source = source_of(graph, mixer)
        mine = None if source is None else statistics.moments.get(source)
        if mine is None or (joined is not None and joined.mean.size != mine.mean.size):
            return None
        joined = mine if joined is None else joined.plus(mine)
    return joined


def _compensate(
    graph: ChannelGraph, mixer: Mixer, together: Sequence[Mixer], removed: NDArray[np.bool_], statistics: Statistics, ridge: float
) -> Weights | None:
    source = source_of(graph, mixer)
    moments = _moments(graph, together, statistics)
    if source is None or moments is None:
        return None
    classes, shape = feature_classes(graph, mixer, source), shape_of(graph, mixer, source)
    if classes is None or shape is None or not removed[classes].any() or moments.mean.size != classes.size:
        return None
    node = graph.nodes[mixer.node]
    value = graph.model.value(node.inputs[mixer.weight])
    if value is None:
        return None
    # Those who share a weight must come to the same one.
    bias, every = Bias(graph, mixer), all(Bias(graph, m).possible for m in together)
    if statistics.constants and not every:
        return None
    full = with_constant(moments, ridge, every)
    blocks = shape.blocks(value)
    shift = np.zeros(blocks.shape[:2])
    for block in range(blocks.shape[0]):
        part = shape.features_of(block)
        gone = removed[classes[part]]
        lost, kept = np.flatnonzero(gone), np.flatnonzero(~gone)
        if not lost.size or not kept.size:
            continue
        index = np.r_[kept + part.start, classes.size]
        a = np.linalg.solve(full[np.ix_(index, index)], full[np.ix_(index, lost + part.start)]).T
        weights = blocks[block]
        weights[:, kept] += np.einsum("ort,rs->ost", weights[:, lost], a[:, :-1], optimize=True)
        shift[block] = np.einsum("ort,r->o", weights[:, lost], a[:, -1], optimize=True)
        weights[:, lost] = 0
    return Weights(shape.weights(blocks, value.dtype), bias.plus(shift.reshape(-1)))


class Bias:
    """A mixer's bias, where it has one or could."""

    def __init__(self, graph: ChannelGraph, mixer: Mixer) -> None:
        node = graph.nodes[mixer.node]
        slot = bias_slot(graph, mixer)
        labels = out_labels(graph, mixer)
        self.alpha = attrs.float_(node, "alpha", 1.0) if node.op == "Gemm" else 1.0
        self._beta = attrs.float_(node, "beta", 1.0) if node.op == "Gemm" else 1.0
        weight = graph.model.value(node.inputs[mixer.weight])
        self._count = 0 if labels is None else labels.size
        if labels is None and weight is not None and node.op in ("Conv", "Gemm", "MatMul"):
            self._count = weight.shape[mixer.rows]  # a single channel has no label
        self._dtype = np.dtype(np.float32) if weight is None else weight.dtype
        self._old: Floats | None = None
        self.known = True
        """Whether what is added is one number a channel; if not, what the operator makes says little of its weights."""
        self._own = slot is not None and slot[0] == mixer.node
        self.possible = slot is not None and self._count > 0 and node.op != "ConvTranspose" and self._beta != 0
        if not self.possible or slot is None:
            self.known = (
                slot is None or slot[1] >= len(graph.nodes[slot[0]].inputs) or not graph.nodes[slot[0]].inputs[slot[1]].name
            )
            return
        holder = graph.nodes[slot[0]]
        if slot[1] < len(holder.inputs) and holder.inputs[slot[1]].name:
            value = graph.model.value(holder.inputs[slot[1]])
            along = value is not None and (value.size == 1 or (value.size == self._count == value.shape[-1]))
            if value is None or value.ndim > 2 or not along:
                self.possible = self.known = False
            else:
                self._old = np.broadcast_to(value.reshape(-1).astype(np.float64), (self._count,))

    def plus(self, shift: Floats) -> NDArray[np.generic] | None:
        """The bias with ``shift`` added; None if it cannot be changed or need not."""
        if not self.possible or shift.size != self._count or not shift.any():
            return None
        return self.of(shift)

    def like(self, value: float) -> NDArray[Any] | None:
        """A bias that is one number everywhere, where a bias can be; None otherwise."""
        return np.full(self._count, value, self._dtype) if self.possible else None

    def of(self, shift: Floats) -> NDArray[Any]:
        """The bias with ``shift`` added, which is in the scale of the weighted sum."""
        return (self._known + self.alpha / self._beta * shift).astype(self._dtype)

    def shift(self, bias: NDArray[Any]) -> Floats:
        """The inverse of ``of``."""
        return np.asarray((bias.reshape(-1).astype(np.float64) - self._known) * self._beta / self.alpha, np.float64)

    @property
    def offset(self) -> Floats:
        """What the bias that there was adds to the operator's own output."""
        return self._beta * self._known if self._own else np.zeros(self._count)

    @property
    def behind(self) -> Floats:
        """What an operator behind this one adds, where that holds the bias."""
        return np.zeros(self._count) if self._own else self._known

    @property
    def _known(self) -> Floats:
        return np.zeros(self._count) if self._old is None else self._old
