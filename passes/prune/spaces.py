"""Masks of another space: those that were made for the graph before it was folded, or that name what it no longer has.

A block of branches (a convolution sequence, its skips, the identity) and the one convolution that it folds into have the same
output, and everything in the block that goes with a channel of that output is in the same class of labels. So a mask of a tensor
inside the block says something of the tensors that both graphs have: it is carried from class to class in the original graph, and
read off where a class reaches a tensor that the present graph still has. One mask is thus shared by all that it goes with, and an
identity becomes a selection by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.ops.channels import Labels, Layout

Array = NDArray[Any]


def translated(masks: Mapping[str, Array], graph: ChannelGraph, original: ChannelGraph, *, every: bool) -> list[tuple[str, Array]]:
    """``masks`` in terms of tensors of ``graph``, nan where they say nothing: those of tensors that only ``original`` has, or all.

    A mask whose channels reach no common tensor is given back as it is.
    """
    present = {name for name, _, _ in graph.flow.layouts()}
    known: dict[str, Labels] = {}
    holders: dict[int, list[str]] = {}
    for name, held in original.flow.tensors.items():
        vector = _vector(original, held) if name in graph.flow.tensors else None
        if vector is not None:
            known[name] = vector
            for channel in set(vector.tolist()):
                holders.setdefault(channel, []).append(name)
    found: list[tuple[str, Array]] = []
    for name, mask in masks.items():
        layout = original.flow.tensors.get(name) or original.flow.constants.get(name)
        if layout is None or (name in present and not every):
            found.append((name, mask))
            continue
        votes = _votes(original, layout, np.asarray(mask).reshape(-1))
        reached = dict.fromkeys(other for channel in votes for other in holders.get(channel, ()))
        found.extend([(other, _mask(known[other], votes)) for other in reached] or [(name, mask)])
    return found


def _axes(layout: Layout) -> list[int]:
    """The axes of a layout, that of the channels of a feature map first; tokens have theirs last."""
    return sorted(range(layout.rank), key=lambda a: a != (1 if layout.rank > 1 else 0))


def _vector(graph: ChannelGraph, layout: Layout) -> Labels | None:
    axis = next((a for a in _axes(layout) if layout.fields_on(a)), None)
    fields = layout.fields_on(axis) if axis is not None else ()
    if axis is None or len(fields) != 1 or len(fields[0].at) != 1 or fields[0].labels.size != layout.size(axis):
        return None
    return graph.flow.table.find_same(fields[0].labels)


def _votes(graph: ChannelGraph, layout: Layout, mask: Array) -> dict[int, bool]:
    """What a mask says of each channel, by representative; nothing where it is nan, or if it fits no axis."""
    for axis in _axes(layout):
        for field in layout.fields_on(axis):
            if field.labels.size == mask.size:
                channels = graph.flow.table.find_same(field.labels.reshape(-1)).tolist()
                return {c: bool(v) for c, v in zip(channels, mask.tolist(), strict=True) if v == v}
    return {}


def _mask(vector: Labels, votes: Mapping[int, bool]) -> Array:
    """The mask of a tensor with these channels."""
    return np.asarray([float(votes[c]) if c in votes else np.nan for c in vector.tolist()])
