"""Channels that training left dead: known numbers wherever they are read, or read with zero weights. Removing them changes nothing.

A channel that is 0 just goes. One that is another number c everywhere adds, to each output of what reads it, the same amount at
every position, and the bias takes it over:

    b'_o = b_o + c * sum over taps of W[o, c, t]

That holds for matrix products and for convolutions without padding; a padded one reads zeros at the border instead of c, so there
the channel stays. It stays as well if a product of two computed tensors reads it, or a reader that has no bias and can have none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, columns_of
from graphopt.model import node_label
from graphopt.ops.channels import Labels, Mixer
from graphopt.passes.prune.compensate import Bias
from graphopt.passes.prune.reference import Weights, removed_columns, zeroed
from graphopt.passes.prune.values import NOTHING, ChannelValues, Values, padded


@dataclass(slots=True)
class Dead:
    """The dead units of the prunable groups, and what is known of them.

    Attributes:
        units: they, ascending.
        read: for every mixer the numbers other than 0 that it reads.
        held: channels that are a number everywhere and stay all the same, each with the reason.
    """

    units: Labels
    read: dict[tuple[str, int], Values] = field(default_factory=dict[tuple[str, int], Values])
    held: dict[int, str] = field(default_factory=dict[int, str])


def dead_units(graph: ChannelGraph) -> Dead:
    """The units, of any prunable group, whose removal changes nothing."""
    values = ChannelValues(graph)
    alive: set[int] = set()
    seen: set[int] = set()
    found = Dead(np.zeros(0, np.int64))
    for mixer in graph.flow.mixers:
        if mixer.blockwise:
            continue
        node = graph.nodes[mixer.node]
        columns = set(columns_of(graph.flow, node, mixer).tolist())
        data: Values = values.of(node, mixer.data) if mixer.data is not None else NOTHING
        unread = {c for c, v in values.of(node, mixer.weight).items() if v == 0}
        numbers = {c: v for c, v in data.items() if v != 0 and c in columns - unread}
        why = _why_not(graph, node, mixer) if numbers else ""
        absorbs = bool(numbers) and not why
        found.held.update(dict.fromkeys(numbers if why else (), why))
        quiet = unread | {c for c, v in data.items() if v == 0 or absorbs}
        seen |= columns
        alive |= columns - quiet
        found.read[mixer.node, mixer.weight] = numbers
    for product in graph.flow.products:
        node = graph.nodes[product.node]
        classes = set(graph.flow.table.find(product.labels).reshape(-1).tolist())
        seen |= classes
        alive |= {c for c in classes if all(values.of(node, k).get(c) != 0 for k in (0, 1))}
    alive |= {int(c) for a in graph.flow.averages for _, labels in a.axes for c in graph.flow.table.find(labels)}
    units = [int(u) for g in graph.prunable for u in g.units]
    found.units = np.asarray(sorted(u for u in units if u in seen and u not in alive), np.int64)
    return found


def _why_not(graph: ChannelGraph, node: gs.Node, mixer: Mixer) -> str:
    """Why no bias can take over what a constant channel adds; nothing if one exists or could, and no border reads zeros."""
    if node.op == "Conv":
        if padded(node):
            return f"{node_label(node)} is padded, and reads zeros at the border instead"
    elif node.op not in ("Gemm", "MatMul"):
        return f"{node_label(node)} has no bias that could take it over"
    constant = graph.model.value(node.inputs[mixer.weight]) is not None
    return "" if constant and Bias(graph, mixer).possible else f"{node_label(node)} has no bias that could take it over"


def absorbed(graph: ChannelGraph, dead: Dead, removed: NDArray[np.bool_]) -> dict[str, Weights]:
    """New weights for every mixer that reads removed units which are numbers other than 0."""
    found: dict[str, Weights] = {}
    for mixer in graph.flow.mixers:
        numbers = {c: v for c, v in dead.read.get((mixer.node, mixer.weight), {}).items() if removed[c]}
        value = graph.model.value(graph.nodes[mixer.node].inputs[mixer.weight])
        if not numbers or value is None:
            continue
        columns = columns_of(graph.flow, graph.nodes[mixer.node], mixer)
        share = np.asarray([numbers.get(c, 0.0) for c in columns.tolist()])
        wide = np.moveaxis(value.astype(np.float64), (mixer.rows, mixer.columns), (0, 1))
        shift = np.einsum("rct,c->r", wide.reshape(*wide.shape[:2], -1), share)
        bias = Bias(graph, mixer).plus(shift)
        found[mixer.node] = Weights(zeroed(value, mixer.columns, removed_columns(graph, mixer, removed)), bias)
    return found
