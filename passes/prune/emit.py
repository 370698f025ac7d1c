"""The decision as masks, in the names of the original graph: for those who train on, and to be read back (``masks=``).

A mask is a text of ones and zeros, one a channel. For each channel that goes some tensor that the file has is found whose axis of
channels holds it; as few tensors as that takes are named.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.model import Model
from graphopt.ops.channels import Labels, Layout
from graphopt.passes.prune.plan import Planner
from graphopt.passes.prune.reorder import channels_of
from graphopt.pipeline import Outcome


def written(original: Model, graph: ChannelGraph, planner: Planner, removed: NDArray[np.bool_], outcome: Outcome) -> dict[str, str]:
    """Masks by tensor; a note of channels that no tensor of the original has.

    ``graph`` is the graph before channels changed places.
    """
    units = np.concatenate([g.units[removed[g.units]] for g in planner.graph.groups])
    gone = channels_of(graph, units, planner.moves)
    names = {t.name for node in original.graph.nodes for t in node.outputs}
    found: dict[str, str] = {}
    open_: set[int] = set(gone.tolist())
    for name, layout in graph.flow.tensors.items():
        vector = _channels(graph, layout)
        if name not in names or vector is None or open_.isdisjoint(vector.tolist()):
            continue
        found[name] = "".join("0" if lost else "1" for lost in np.isin(vector, gone))
        open_ -= set(vector.tolist())
        if not open_:
            break
    open_ -= _inner(graph, open_)
    if open_:
        outcome.notes.append(f"the masks do not have {len(open_)} channels: no tensor of the original graph holds them")
    return found


def _channels(graph: ChannelGraph, layout: Layout) -> Labels | None:
    """The channels along axis 1, by representatives of the finer partition; None if there is not one for each index."""
    fields = layout.fields_on(1) if layout.rank > 1 else ()
    if len(fields) != 1 or fields[0].labels.size != layout.size(1):
        return None
    return graph.flow.table.find_same(fields[0].labels.reshape(-1))


def _inner(graph: ChannelGraph, channels: set[int]) -> set[int]:
    """Those of ``channels`` that live in constants only, such as what a depthwise weight reads within a block."""
    live: set[int] = set()
    for layout in graph.flow.tensors.values():
        for field in layout.fields:
            live.update(graph.flow.table.find_same(field.labels.reshape(-1)).tolist())
    return channels - live
