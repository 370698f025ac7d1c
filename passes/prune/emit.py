"""The decision as masks, in the names of the original graph: for those who train on, and to be read back (``masks=``).

A mask is a text of ones and zeros, one a channel. For each channel that goes some tensor that the file has is found whose axis of
channels holds it; as few tensors as that takes are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.model import Model
from graphopt.ops.channels import Labels, Layout
from graphopt.passes.prune.masks import vectors
from graphopt.passes.prune.plan import Planner
from graphopt.passes.prune.reorder import channels_of
from graphopt.pipeline import Outcome


def written(original: Model, graph: ChannelGraph, planner: Planner, removed: NDArray[np.bool_], outcome: Outcome) -> dict[str, str]:
    """Masks by tensor; a note of channels that no tensor of the original has.

    ``graph`` is the graph before channels changed places.
    """
    units = np.concatenate([g.units[removed[g.units]] for g in planner.graph.groups])
    gone = channels_of(graph, units, planner.moves)
    found: dict[str, str] = {}
    open_: set[int] = set(gone.tolist())
    for name, layout, constant in _tensors(original, graph):
        vector = _channels(graph, layout, open_, constant=constant)
        if name in found or vector is None:
            continue
        found[name] = "".join("0" if lost else "1" for lost in np.isin(vector, gone))
        open_ -= set(vector.tolist())
        if not open_:
            break
    open_ -= _inner(graph, open_)
    if open_:
        outcome.notes.append(f"the masks do not have {len(open_)} channels: no tensor of the original graph holds them")
    return found


def _tensors(original: Model, graph: ChannelGraph) -> Iterator[tuple[str, Layout, bool]]:
    """Tensors that the original has too, computed ones first; constants that are as they were and mean one thing."""
    names = {t.name for node in original.graph.nodes for t in node.outputs}
    yield from ((name, layout, False) for name, layout in graph.flow.tensors.items() if name in names)
    before, now = original.constants(), graph.model.constants()
    layouts = [(name, layout) for name, layout, constant in graph.flow.layouts() if constant]
    readers = Counter(name for name, _ in layouts)
    for name, layout in layouts:
        if readers[name] == 1 and name in before and name in now and tuple(before[name].shape) == tuple(now[name].shape):
            yield name, layout, True


def _channels(graph: ChannelGraph, layout: Layout, wanted: set[int], *, constant: bool) -> Labels | None:
    """The channels (by representatives of the finer partition) along the axis by which a mask of that length is read, if it has
    any that are wanted, and one for each index.
    """
    for axis in range(layout.rank):
        fields = layout.fields_on(axis)
        size = layout.size(axis)
        if len(fields) != 1 or not isinstance(size, int) or fields[0].labels.size != size:
            continue
        read = vectors(layout, size, constant=constant)
        if len(read) == 1 and not wanted.isdisjoint(graph.flow.table.find_same(read[0]).tolist()):
            return graph.flow.table.find_same(read[0])
    return None


def _inner(graph: ChannelGraph, channels: set[int]) -> set[int]:
    """Those of ``channels`` that live in constants only, such as what a depthwise weight reads within a block."""
    live: set[int] = set()
    for layout in graph.flow.tensors.values():
        for field in layout.fields:
            live.update(graph.flow.table.find_same(field.labels.reshape(-1)).tolist())
    return channels - live
