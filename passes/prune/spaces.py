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
    known = {name: _vector(original, layout) for name, layout in original.flow.tensors.items() if name in graph.flow.tensors}
    found: list[tuple[str, Array]] = []
    for name, mask in masks.items():
        layout = original.flow.tensors.get(name) or original.flow.constants.get(name)
        if layout is None or (name in present and not every):
            found.append((name, mask))
            continue
        votes = _votes(original, layout, np.asarray(mask).reshape(-1) != 0)
        reached = [(other, _mask(vector, votes)) for other, vector in known.items() if vector is not None]
        common = [(other, made) for other, made in reached if made is not None]
        found.extend(common or [(name, mask)])
    return found


def _vector(graph: ChannelGraph, layout: Layout) -> Labels | None:
    fields = layout.fields_on(1) if layout.rank > 1 else ()
    if len(fields) != 1 or len(fields[0].at) != 1 or fields[0].labels.size != layout.size(1):
        return None
    return graph.flow.table.find_same(fields[0].labels)


def _votes(graph: ChannelGraph, layout: Layout, keep: NDArray[np.bool_]) -> dict[int, bool]:
    """What a mask says of each channel, by representative; nothing if it fits no axis."""
    for axis in sorted(range(layout.rank), key=lambda a: a != (1 if layout.rank > 1 else 0)):
        for field in layout.fields_on(axis):
            if field.labels.size == keep.size:
                channels = graph.flow.table.find_same(field.labels.reshape(-1)).tolist()
                return dict(zip(channels, keep.tolist(), strict=True))
    return {}


def _mask(vector: Labels, votes: Mapping[int, bool]) -> Array | None:
    """The mask of a tensor with these channels; None if no vote is on it."""
    made = np.asarray([float(votes[c]) if c in votes else np.nan for c in vector.tolist()])
    return None if np.isnan(made).all() else made
