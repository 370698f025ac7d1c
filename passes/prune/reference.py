"""The masked original: every operator that sums over channels reads zero for the removed ones.

Its weights' columns for removed channels are zero (or, with compensation, all of its weights are new), and nothing else
changes: no shape, no operator. That is what a pruned graph is sliced from. What it must equal is the same with one more thing:
an operator that sums over channels of two computed tensors has no weights that could be zero, so ``reference`` multiplies one
of the two with zeros and ones before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import ChannelGraph, Use
from graphopt.model import Model, node_key
from graphopt.ops.channels import Labels, Layout, Mixer, Product
from graphopt.ops.channels.layout import over_axes, separate
from graphopt.passes.prune.averages import averaging

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """New weights of a mixer, and its new bias; None to leave the bias alone."""

    weight: Array
    bias: Array | None = None


@dataclass(slots=True)
class Masked:
    """A masked model, and the layouts of the constants that it has and the original has not, by where they are read."""

    model: Model
    uses: dict[Use, Layout] = field(default_factory=dict[Use, Layout])
    shared: dict[tuple[str, bytes], gs.Constant] = field(default_factory=dict[tuple[str, bytes], gs.Constant])
    """New constants by the name of the old one and a digest of the value: readers of one constant go on sharing one."""


def removed_columns(graph: ChannelGraph, mixer: Mixer, removed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which columns of a mixer's weight belong to removed channels."""
    layout = graph.flow.operand(graph.nodes[mixer.node], mixer.weight)
    fields = () if layout is None else layout.fields_on(mixer.columns)
    return removed[fields[0].labels.reshape(-1)] if fields else np.zeros(0, bool)


def out_labels(graph: ChannelGraph, mixer: Mixer) -> Labels | None:
    """The labels of a mixer's output channels, in the order of its bias."""
    layout = graph.flow.tensors.get(mixer.node)
    if layout is None:
        return None
    fields = layout.fields_on(1 if mixer.bias is not None else layout.rank - 1)
    return fields[0].labels.reshape(-1) if len(fields) == 1 and len(fields[0].at) == 1 else None


def bias_slot(graph: ChannelGraph, mixer: Mixer) -> tuple[str, int] | None:
    """The node and the input that hold a mixer's bias or could: its own, or of a constant vector added to a MatMul."""
    node = graph.nodes[mixer.node]
    if mixer.bias is not None:
        return mixer.node, mixer.bias
    output = node.outputs[0]
    users = graph.model.users(output)
    if mixer.weight != 1 or len(users) != 1 or users[0].op != "Add" or users[0].domain or graph.model.is_output(output):
        return None
    for index, other in enumerate(users[0].inputs):
        value = graph.model.value(other)
        labels = out_labels(graph, mixer)
        if value is not None and labels is not None and value.shape == labels.shape:
            return node_key(users[0]), index
    return None


def zeroed(weight: Array, axis: int, columns: NDArray[np.bool_]) -> Array:
    """A copy of ``weight`` with zeros in some columns."""
    made = np.array(weight)
    made[(slice(None),) * axis + (columns,)] = 0
    return made


def masked(graph: ChannelGraph, removed: NDArray[np.bool_], updates: Mapping[str, Weights], into: Model | None = None) -> Masked:
    """The model of ``graph`` with the labels ``removed`` not read; ``updates`` are new weights by mixer.

    It is a copy, or ``into``, which must be one.
    """
    result = Masked(graph.model.copy() if into is None else into)
    nodes = {node_key(n): n for n in result.model.graph.nodes}
    for mixer in graph.flow.mixers:
        columns = removed_columns(graph, mixer, removed)
        update = updates.get(mixer.node)
        if not columns.any() and update is None:
            continue
        node = nodes[mixer.node]
        if update is None:
            value = result.model.value(node.inputs[mixer.weight])
            if value is None:
                continue
            update = Weights(zeroed(value, mixer.columns, columns))
        _give(result, graph, node, mixer.weight, update.weight)
        slot = bias_slot(graph, mixer)
        if update.bias is not None and slot is not None:
            _give(result, graph, nodes[slot[0]], slot[1], update.bias, out_labels(graph, mixer))
    result.model.edited()
    return result


def _products(graph: ChannelGraph, *, every: bool = False) -> Iterator[Product]:
    """What sums over channels without a constant weight, or ``every`` that sums over channels of its data."""
    yield from graph.flow.products
    for mixer in graph.flow.mixers:
        node = graph.nodes[mixer.node]
        layout = None if mixer.data is None else graph.flow.operand(node, mixer.data)
        constant = graph.model.value(node.inputs[mixer.weight]) is not None
        if mixer.data is None or layout is None or (constant and not every):
            continue
        for found in layout.fields_on(mixer.data_axis):
            labels = over_axes(layout, found)
            if labels is not None:
                yield Product(mixer.node, mixer.data, labels)


def reference(graph: ChannelGraph, source: Masked, removed: NDArray[np.bool_]) -> Model:
    """What the graph that is sliced from ``source`` must equal: a copy of it in which products read zeros too."""
    products = [p for p in _products(graph) if removed[p.labels].any()]
    if not products and not graph.flow.averages:
        return source.model
    model = _reading_zeros(graph, source.model.copy(), [(p, ~removed[p.labels]) for p in products])
    return averaging(graph, model, lambda labels: removed[labels])


def without_channels(graph: ChannelGraph, gone: Labels) -> Model:
    """The model of ``graph`` in which whatever sums over channels reads zero for ``gone`` (of the finer partition).

    Nothing but the data that is read is touched, and no weight: it serves as well where channels that go together do not have
    equal indices.
    """
    marked = np.zeros(len(graph.flow.table), bool)
    marked[gone] = True

    def lost(labels: Labels) -> NDArray[np.bool_]:
        return marked[graph.flow.table.find_same(labels)]

    products = [p for p in _products(graph, every=True) if lost(p.labels).any()]
    model = _reading_zeros(graph, graph.model.copy(), [(p, ~lost(p.labels)) for p in products])
    nodes = {node_key(n): n for n in model.graph.nodes}
    for mixer in graph.flow.mixers:
        layout = graph.flow.operand(graph.nodes[mixer.node], mixer.weight) if mixer.data is None else None
        value = model.value(nodes[mixer.node].inputs[mixer.weight])
        for found in layout.fields_on(mixer.columns) if layout is not None else ():
            if value is not None and lost(found.labels).any():
                made = zeroed(value, mixer.columns, lost(found.labels.reshape(-1)))
                model.set_input(nodes[mixer.node], mixer.weight, model.constant(f"{mixer.node}_state", made))
    return averaging(graph, model, lost)


def _reading_zeros(graph: ChannelGraph, model: Model, products: Sequence[tuple[Product, NDArray[np.bool_]]]) -> Model:
    """``model`` with a multiplication by zeros and ones before each of some operators."""
    nodes = {node_key(n): n for n in model.graph.nodes}
    placed: dict[int, list[gs.Node]] = {}
    facts = Analyses(graph.model).get(Shapes())
    for product, stays in products:
        node = nodes[product.node]
        data = node.inputs[product.data]
        shape = facts.shape(graph.nodes[product.node].inputs[product.data])
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(facts.dtype(data) or onnx.TensorProto.FLOAT))
        masked_data = model.variable(f"{data.name}_masked", dtype, shape)
        mask = model.constant(f"{data.name}_mask", stays.astype(dtype))
        placed.setdefault(id(node), []).append(
            model.make("Mul", [data, mask], [masked_data], name=model.fresh(f"{product.node}_mask"))
        )
        model.set_input(node, product.data, masked_data)
    model.splice(placed)
    return model


def _give(result: Masked, graph: ChannelGraph, node: gs.Node, index: int, value: Array, labels: Labels | None = None) -> None:
    """Let one input of a node read a new constant, which has the labels of the old one or those given."""
    old = node.inputs[index] if index < len(node.inputs) else None
    named = old is not None and bool(old.name)
    name = old.name if old is not None and named else f"{node_key(node)}_bias"
    key = (name, hashlib.sha256(value.tobytes()).digest())
    constant = result.shared.setdefault(key, result.model.constant(name, value))
    layout = graph.flow.operand(graph.nodes[node_key(node)], index) if named else None
    if labels is not None and value.shape == labels.shape:
        layout = separate([labels], value.shape)
    if layout is not None:
        result.uses[node_key(node), index] = layout
    while len(node.inputs) < index:
        node.inputs.append(gs.Variable(""))
    if index < len(node.inputs):
        result.model.set_input(node, index, constant)
    else:
        node.inputs.append(constant)
