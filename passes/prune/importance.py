"""In which order the channels of a group go.

``activations``: an OBS loss after linear compensation. Removing feature u from x and compensating best leaves the error x_u -
E[x_u | rest], of variance 1 / [G^-1]_uu, and a mixer with weights W turns it into an output error of energy

    M_uu / [G^-1]_uu,      M = sum over outputs and taps of w w^T

(Hassibi and Stork, "Second order derivatives for network pruning", 1992, per feature). Summed over the mixers that read the
group, each relative to the energy of its output. Greedy: the least goes, then G^-1 and M become those of the rest,

    G^-1 -= G^-1_:u [G^-1_uu]^-1 G^-1_u:,      W -= W_u [G^-1_uu]^-1 G^-1_u:

``norm``: the energy of the weights that make a channel times that of the weights that read it, each relative to its operator.
Ties go to the lower channel, so the order is stable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, Group, columns_of, rows_of
from graphopt.ops.channels import Labels, Mixer
from graphopt.passes.prune.blocks import feature_classes, shape_of
from graphopt.passes.prune.compensate import with_constant
from graphopt.passes.prune.statistics import Statistics, source_of

Floats = NDArray[np.float64]

_ROUNDS = 48
"""A group is ordered in about this many steps; those that go in one step do not see each other."""


def mixers_of(graph: ChannelGraph, group: Group) -> tuple[list[Mixer], list[Mixer]]:
    """The mixers that make channels of a group, and those that read them."""
    makers = [m for m in graph.flow.mixers if np.isin(rows_of(graph.flow, graph.nodes[m.node], m), group.units).any()]
    readers = [m for m in graph.flow.mixers if np.isin(columns_of(graph.flow, graph.nodes[m.node], m), group.units).any()]
    return makers, readers


def by_norm(graph: ChannelGraph, group: Group) -> Labels:
    """The units of a group, least important first, by the energy of their weights."""
    makers, readers = mixers_of(graph, group)
    made, read = np.zeros(group.size), np.zeros(group.size)
    for mixers, classes_of, total in ((makers, rows_of, made), (readers, columns_of, read)):
        for mixer in mixers:
            node = graph.nodes[mixer.node]
            value = graph.weight(mixer)
            classes = classes_of(graph.flow, node, mixer)
            if value is None or value.dtype.kind != "f":
                continue
            axis = mixer.rows if classes_of is rows_of else mixer.columns
            energy = np.square(np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1).astype(np.float64)).sum(1)
            total += _per_unit(group.units, classes, energy) / max(float(energy.sum()), 1e-30)
    score = made * read if made.any() and read.any() else made + read
    return group.units[np.argsort(score, kind="stable")]


def channel_norms(graph: ChannelGraph) -> Floats:
    """For every channel of the finer partition the energy of the weights that make it, relative to their operators."""
    found = np.zeros(len(graph.flow.table))
    for mixer in graph.flow.mixers:
        node = graph.nodes[mixer.node]
        value, layout = graph.weight(mixer), graph.flow.operand(node, mixer.weight)
        for rows in layout.fields_on(mixer.rows) if layout is not None else ():
            if value is None or value.dtype.kind != "f" or rows.labels.size != value.shape[mixer.rows]:
                continue
            energy = np.square(np.moveaxis(value, mixer.rows, 0).reshape(rows.labels.size, -1).astype(np.float64)).sum(1)
            np.add.at(found, graph.flow.table.find_same(rows.labels.reshape(-1)), energy / max(float(energy.sum()), 1e-30))
    return found


def _per_unit(units: Labels, classes: Labels, values: Floats) -> Floats:
    place = np.searchsorted(units, classes)
    place[place == units.size] = 0
    mine = units[place] == classes
    found = np.zeros(units.size)
    np.add.at(found, place[mine], values[mine])
    return found


@dataclass(slots=True)
class _Reader:
    """What the features of a group mean to those that read them: their parts of the inverse Gram matrix and of M.

    Both updates stay within these parts, so the features of other groups are needed for the inverse only.
    """

    inverse: Floats
    energy: Floats
    units: NDArray[np.int64]
    """For every feature the position of its unit in the group."""

    def scores(self, count: int) -> Floats:
        found = np.zeros(count)
        diagonal = np.maximum(np.diag(self.inverse), 1e-300)
        np.add.at(found, self.units, np.maximum(np.diag(self.energy), 0) / diagonal)
        return found

    def remove(self, gone: NDArray[np.bool_]) -> None:
        """Update to the features that are left; ``gone`` says which units go."""
        lost, left = np.flatnonzero(gone[self.units]), np.flatnonzero(~gone[self.units])
        if not lost.size:
            return
        across = self.inverse[np.ix_(lost, left)]
        factor = np.linalg.solve(self.inverse[np.ix_(lost, lost)], across)
        self.inverse = self.inverse[np.ix_(left, left)] - across.T @ factor
        crossed = self.energy[np.ix_(left, lost)] @ factor
        inner = factor.T @ self.energy[np.ix_(lost, lost)] @ factor
        self.energy = self.energy[np.ix_(left, left)] - crossed - crossed.T + inner
        self.units = self.units[left]


def by_activations(graph: ChannelGraph, group: Group, statistics: Statistics, ridge: float) -> Labels | None:
    """The units of a group, least important first, by the loss after compensation; None without statistics."""
    _, mixers = mixers_of(graph, group)
    readers = _readers(graph, group, mixers, statistics, ridge)
    if not readers:
        return None
    order: list[int] = []
    left = np.ones(group.size, bool)
    chunk = max(1, group.size // _ROUNDS)
    while left.any():
        score = np.sum([r.scores(group.size) for r in readers], axis=0)
        score[~left] = np.inf
        chosen = np.argsort(score, kind="stable")[: min(chunk, int(left.sum()))]
        gone = np.zeros(group.size, bool)
        gone[chosen] = True
        order.extend(chosen.tolist())
        left[chosen] = False
        for reader in readers:
            reader.remove(gone)
    return np.asarray(group.units[np.asarray(order)], np.int64)


def _readers(graph: ChannelGraph, group: Group, mixers: Sequence[Mixer], statistics: Statistics, ridge: float) -> list[_Reader]:
    """One reader for each block of features that is read; mixers that read the same one are summed."""
    found: dict[tuple[str, int, int, int], _Reader] = {}
    for mixer in mixers:
        source = source_of(graph, mixer)
        moments = None if source is None else statistics.moments.get(source)
        if source is None or moments is None:
            continue
        classes, shape = feature_classes(graph, mixer, source), shape_of(graph, mixer, source)
        value = graph.model.value(graph.nodes[mixer.node].inputs[mixer.weight])
        if classes is None or shape is None or value is None:
            continue
        weights = shape.blocks(value)
        covariance = moments.gram - np.outer(moments.mean, moments.mean)
        parts = [shape.features_of(b) for b in range(len(weights))]
        total = max(sum(_variance(w, covariance[p, p]) for w, p in zip(weights, parts, strict=True)), 1e-30)
        for block, part in zip(weights, parts, strict=True):
            place = np.searchsorted(group.units, classes[part])
            place[place == group.size] = 0
            mine = np.flatnonzero(group.units[place] == classes[part])
            if not mine.size:
                continue
            energy = np.einsum("ort,ost->rs", block[:, mine], block[:, mine], optimize=True) / total
            key = (source.tensor, source.axis, part.start, part.stop)
            if key in found:
                found[key].energy += energy
                continue
            full = with_constant(moments, ridge, constant=True)
            index = np.r_[np.arange(part.start, part.stop), classes.size]
            inverse = np.asarray(np.linalg.inv(full[np.ix_(index, index)]), np.float64)
            found[key] = _Reader(inverse[np.ix_(mine, mine)], energy, place[mine])
    return list(found.values())


def _variance(weights: Floats, covariance: Floats) -> float:
    """The variance of a mixer's outputs, if every tap were a mixer of its own: a scale for its errors."""
    flat = weights.transpose(0, 2, 1).reshape(-1, weights.shape[1])
    return float(np.sum((flat @ covariance) * flat))
