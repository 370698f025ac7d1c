"""Which channel of one block goes with which of another: the freedom that blocks of equal size leave.

A grouped convolution, a shuffle or a product of heads asks for as many channels in each of its blocks, not for the same ones.
The groups tie them index by index (unit n holds the n-th of every block), so a choice of others is made by putting the channels
of a block in another order first, everywhere: rows of what makes them, columns of what reads them, every vector between. That
changes nothing but the order. Channels may change places if they live in the same places: tensors, axes and blocks.

Let sigma map a place to the channel that shall be in it. A constant with the channels L along an axis becomes one with the
channels sigma(L): element p of the new one is the element q of the old one with L[q] = sigma(L[p]). Operators that move data move
sigma(L) as they moved L, and terms that met still meet, so nothing else has to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, Group, Use
from graphopt.model import Model, node_key
from graphopt.ops.channels import Labels, Layout, Mixer

Moves = dict[int, int]
"""By place the channel that shall be in it, both as representatives of the finer partition."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The blocks of one group.

    Attributes:
        members: for every block [units, k]: the channels that each unit of the group has in it, in the order of the units.
    """

    members: tuple[Labels, ...]


def parts_of(graph: ChannelGraph, groups: Sequence[Group]) -> dict[str, Parts]:
    """The blocks of those groups whose units have equally many channels in each of several blocks."""
    table = graph.flow.table
    signature = _signatures(graph)
    fine = np.unique(table.find_same(np.arange(len(table), dtype=np.int64)))
    coarse = table.find(fine)
    order = np.argsort(coarse, kind="stable")
    fine, coarse = fine[order], coarse[order]
    found: dict[str, Parts] = {}
    for group in groups:
        starts, ends = np.searchsorted(coarse, group.units, "left"), np.searchsorted(coarse, group.units, "right")
        blocks: dict[int, list[list[int]]] = {}
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            mine: dict[int, list[int]] = {}
            for channel in fine[start:end].tolist():
                mine.setdefault(int(signature[channel]), []).append(channel)
            for key, channels in mine.items():
                blocks.setdefault(key, []).append(channels)
        even = all(len(rows) == group.size and len({len(r) for r in rows}) == 1 for rows in blocks.values())
        if even and len(blocks) > 1:
            found[group.id] = Parts(tuple(np.asarray(rows, np.int64) for rows in blocks.values()))
    return found


def _signatures(graph: ChannelGraph) -> NDArray[np.uint64]:
    """For every channel a number that is the same for those in the same places and blocks: a sum of random numbers."""
    table = graph.flow.table
    rng = np.random.default_rng(0)
    signature = np.zeros(len(table), np.uint64)

    def enter(labels: Labels) -> None:
        roots, counts = np.unique(table.find_same(labels), return_counts=True)
        signature[roots] += rng.integers(1, 2**63, dtype=np.uint64) * counts.astype(np.uint64)

    for _, layout, _ in graph.flow.layouts():
        for found in layout.fields:
            enter(found.labels)
    for blocks in graph.flow.blocks:
        for row in blocks:
            enter(row)
    return signature


def exchanged(slots: Labels, wanted: Labels) -> Moves:
    """Put the channels ``wanted`` into the places ``slots``, moving as few as that takes."""
    into = [int(s) for s in slots if s not in wanted]
    away = [int(w) for w in wanted if w not in slots]
    moves: Moves = {}
    for slot, channel in zip(into, away, strict=True):
        moves[slot] = channel
        moves[channel] = slot
    return moves


def reordered(graph: ChannelGraph, moves: Mapping[int, int], into: Model | None = None) -> ChannelGraph | None:
    """The graph's model with its channels moved, under the same labels; None if a constant cannot follow.

    It is a copy, or ``into``, which must be one.
    """
    sigma = np.arange(len(graph.flow.table), dtype=np.int64)
    sigma[list(moves)] = list(moves.values())
    model = graph.model.copy() if into is None else into
    uses: dict[Use, Layout] = {}
    mixers = {(m.node, m.weight): m for m in graph.flow.mixers if m.groups > 1 and not m.blockwise}
    for node in model.graph.nodes:
        old = graph.nodes.get(node_key(node))
        for index, tensor in enumerate(node.inputs):
            layout = graph.flow.operand(old, index) if old is not None else None
            value = model.value(tensor) if layout is not None and layout.fields else None
            if layout is None or value is None:
                continue
            made = _constant(graph, value, layout, sigma, mixers.get((node_key(node), index)))
            if made is None:
                return None
            if made is not value:
                model.set_input(node, index, model.constant(tensor.name, made))
                uses[node_key(node), index] = layout
    flow = replace(graph.flow, uses={**graph.flow.uses, **uses}, names={**graph.flow.names, **_names(uses, model)})
    return replace(graph, model=model, nodes={node_key(n): n for n in model.graph.nodes}, flow=flow)


def channels_of(graph: ChannelGraph, units: Labels, moves: Mapping[int, int]) -> Labels:
    """The channels that are in units of the graph after ``moves``, as representatives of the finer partition."""
    table = graph.flow.table
    fine = np.unique(table.find_same(np.arange(len(table), dtype=np.int64)))
    mine = fine[np.isin(table.find(fine), units)]
    return np.asarray(sorted(moves.get(int(c), int(c)) for c in mine), np.int64)


def aligned(graph: ChannelGraph, groups: Sequence[Group], scores: NDArray[np.float64]) -> Moves:
    """Moves after which a unit holds the channels of equal rank of every block; ``scores`` by representative."""
    moves: Moves = {}
    for parts in parts_of(graph, groups).values():
        lead = np.argsort(scores[parts.members[0]].sum(1), kind="stable")
        for members in parts.members[1:]:
            if members.shape[1] != 1:
                continue
            slots, channels = members[lead, 0], members[np.argsort(scores[members[:, 0]], kind="stable"), 0]
            moves.update((int(s), int(c)) for s, c in zip(slots, channels, strict=True) if s != c)
    return moves


def _names(uses: Mapping[Use, Layout], model: Model) -> dict[Use, str]:
    nodes = {node_key(n): n for n in model.graph.nodes}
    return {use: nodes[use[0]].inputs[use[1]].name for use in uses}


def _constant(
    graph: ChannelGraph, value: NDArray[np.generic], layout: Layout, sigma: Labels, mixer: Mixer | None
) -> NDArray[np.generic] | None:
    """A constant with its channels moved: itself if they stay, None if it cannot follow."""
    made = value
    for axis in range(layout.rank):
        if mixer is not None and axis == mixer.columns:
            moved = _columns(graph, made, sigma, mixer)
        else:
            fields = layout.fields_on(axis)
            single = fields[0] if len(fields) == 1 else None
            if single is None or len(single.at) > 1 or single.labels.size != made.shape[axis]:
                if any(_moves(graph, f.labels, sigma) for f in fields):
                    return None
                continue
            labels = graph.flow.table.find_same(single.labels)
            sources = _sources(labels, sigma[labels])
            moved = None if sources is None else _taken(made, sources, axis)
        if moved is None:
            return None
        made = moved
    return made


def _moves(graph: ChannelGraph, labels: Labels, sigma: Labels) -> bool:
    same = graph.flow.table.find_same(labels)
    return bool((sigma[same] != same).any())


def _taken(value: NDArray[np.generic], sources: Labels, axis: int) -> NDArray[np.generic]:
    return value if (sources == np.arange(sources.size)).all() else np.take(value, sources, axis)


def _sources(labels: Labels, wanted: Labels) -> Labels | None:
    """Where along an axis of channels ``labels`` each of ``wanted`` is now; None if that is not certain.

    A channel that occurs several times is certain where the axis is several copies of one sequence (a tensor joined with
    itself, the gates of a recurrent layer), or where its places follow each other (pixels of a shuffle).
    """
    sources = np.empty(labels.size, np.int64)
    sources[np.argsort(wanted, kind="stable")] = np.argsort(labels, kind="stable")
    if not np.array_equal(labels[sources], wanted):
        return None
    kinds, counts = np.unique(labels[np.isin(labels, labels[sources != np.arange(labels.size)])], return_counts=True)
    for times in np.unique(counts[counts > 1]).tolist():
        moving = labels[np.isin(labels, kinds[counts == times])]
        copies, runs = moving.reshape(times, -1), moving.reshape(-1, times)
        if (copies != copies[:1]).any() and (runs != runs[:, :1]).any():
            return None
    return sources


def _columns(graph: ChannelGraph, weight: NDArray[np.generic], sigma: Labels, mixer: Mixer) -> NDArray[np.generic] | None:
    """The columns of a grouped convolution's weight: those of the rows of a block follow the channels of that block."""
    node = graph.nodes[mixer.node]
    layout = graph.flow.operand(node, mixer.data or 0)
    fields = () if layout is None else layout.fields_on(1)
    if mixer.rows != 0 or len(fields) != 1 or layout is None or fields[0].labels.size != layout.size(1):
        return None if any(_moves(graph, f.labels, sigma) for f in fields) else weight
    labels = graph.flow.table.find_same(fields[0].labels.reshape(mixer.groups, -1))
    blocks = np.array(weight).reshape(mixer.groups, weight.shape[0] // mixer.groups, *weight.shape[1:])
    changed = False
    for block, row in zip(blocks, labels, strict=True):
        sources = _sources(row, sigma[row])
        if sources is None:
            return None
        if (sources != np.arange(sources.size)).any():
            block[:] = np.take(block, sources, 1)
            changed = True
    return blocks.reshape(weight.shape) if changed else weight
