"""Realise a removal by replay, and certify the result.

The masked original is copied; every constant loses the elements whose labels go; constants and attributes that count channels
are mended (the ``resize`` of each operator's rule). Then the operators of the *new* graph are run on labels again, its
constants bringing the labels that they kept, and the certificate asks that

- wherever channels meet, they are the same channels;
- every tensor has exactly the channels that it had, less the removed ones, in the same order;
- graph outputs have lost nothing.

What fails is told with the labels that it is about, so that their groups can be left as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import ChannelGraph, Flow, LabelTable, Problem, Use, check
from graphopt.model import Model, node_key
from graphopt.ops import Facts, lookup
from graphopt.ops.channels import Layout
from graphopt.ops.channels.layout import kept_positions, normal, restrict, uncover
from graphopt.passes.prune.reference import Masked

Removed = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Realised:
    """A pruned model, and what its certificate found wrong."""

    model: Model
    problems: tuple[Problem, ...]


def realise(source: Masked, graph: ChannelGraph, removed: Removed, *, in_place: bool = False) -> Realised:
    """Remove the labels ``removed`` from a masked model of ``graph``: from a copy, or from the masked model itself."""
    model = source.model if in_place else source.model.copy()
    uses = _slice_constants(model, graph, source, removed)
    facts = Analyses(graph.model).get(Shapes())
    for node in list(model.graph.nodes):
        row = lookup(node, facts)
        if row is not None and row.channels is not None and row.channels.resize is not None:
            row.channels.resize(Change(model, node, facts, graph, removed))
    _forget_shapes(model, graph.flow, removed)
    model.sweep()
    model.edited()
    after = check(model, Analyses(model).get(Shapes()), graph.flow, uses)
    return Realised(model, (*after.problems, *_compare(model, graph.flow, after, removed)))


def _slice_constants(model: Model, graph: ChannelGraph, source: Masked, removed: Removed) -> dict[Use, Layout]:
    """Cut every constant that loses elements, for each reader what it loses; the layouts of all constants afterwards."""
    kept: dict[Use, Layout] = {}
    made: dict[tuple[str, tuple[bytes, ...]], gs.Constant] = {}
    for node in model.graph.nodes:
        for index, tensor in enumerate(node.inputs):
            use = (node_key(node), index)
            layout = source.uses.get(use) or graph.flow.uses.get(use) or graph.flow.constants.get(tensor.name)
            if layout is None:
                continue
            rest = restrict(layout, removed)
            cut = any(removed[f.labels].any() for f in layout.fields)
            kept[use] = layout if rest is None else rest
            if cut and rest is not None:
                _cut(model, node, index, [kept_positions(layout, axis, removed) for axis in range(layout.rank)], made)
    return kept


def _cut(
    model: Model,
    node: gs.Node,
    index: int,
    positions: Sequence[NDArray[np.intp] | None],
    made: dict[tuple[str, tuple[bytes, ...]], gs.Constant],
) -> None:
    """Let one input of a node read a constant of fewer elements; those who keep the same ones go on sharing it."""
    tensor = node.inputs[index]
    key = (tensor.name, tuple(b"" if p is None else p.tobytes() for p in positions))
    if key not in made:
        value = model.value(tensor)
        if value is None:
            return
        for axis, kept in enumerate(positions):
            if kept is not None and kept.size != value.shape[axis]:
                value = np.take(value, kept, axis)
        # A name of its own: what the file says about the old one (a declared shape) must not be said of the new one.
        made[key] = model.constant(tensor.name, np.ascontiguousarray(value))
    model.set_input(node, index, made[key])


def _forget_shapes(model: Model, flow: Flow, removed: Removed) -> None:
    """Shapes that were declared for tensors which are smaller now."""
    for node in model.graph.nodes:
        for tensor in node.outputs:
            layout = flow.tensors.get(tensor.name)
            if layout is not None and any(removed[f.labels].any() for f in layout.fields) and not model.is_output(tensor):
                tensor.shape = None


def _compare(model: Model, before: Flow, after: Flow, removed: Removed) -> list[Problem]:
    problems: list[Problem] = []
    for node in model.graph.nodes:
        for tensor in node.outputs:
            old, new = before.tensors.get(tensor.name), after.tensors.get(tensor.name)
            if old is None:
                continue
            labels = _all_labels(old)
            expected = restrict(old, removed) if labels.size else old
            if expected is None:
                problems.append(Problem(node_key(node), f"'{tensor.name}': what is left is empty or not rectangular", labels))
            elif labels.size and (new is None or not same(expected, new, before.table)):
                problems.append(Problem(node_key(node), f"'{tensor.name}' does not have the channels that it should", labels))
            elif new is not None and not labels.size and _all_labels(new).size:
                problems.append(Problem(node_key(node), f"'{tensor.name}' has channels that it had not", _all_labels(new)))
    for output in model.graph.outputs:
        layout = before.layout(output)
        labels = np.zeros(0, np.int64) if layout is None else _all_labels(layout)
        if removed[labels].any():
            problems.append(Problem(output.name, f"graph output '{output.name}' would lose channels", labels))
    return problems


def _all_labels(layout: Layout) -> NDArray[np.int64]:
    parts = [f.labels.reshape(-1) for f in layout.fields]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def same(a: Layout, b: Layout, table: LabelTable) -> bool:
    """Whether two layouts have the same channels in the same places, and the same sizes as far as both are known."""
    a, b = _without_ones(a), _without_ones(b)
    if [len(axis) for axis in a.axes] != [len(axis) for axis in b.axes] or len(a.fields) != len(b.fields):
        return False
    if any(isinstance(s, int) and isinstance(t, int) and s != t for s, t in zip(a.factors, b.factors, strict=True)):
        return False
    mine, other = (sorted(x.fields, key=lambda f: f.at) for x in (a, b))
    return all(
        f.at == g.at and f.labels.shape == g.labels.shape and np.array_equal(table.find(f.labels), table.find(g.labels))
        for f, g in zip(mine, other, strict=True)
    )


def _without_ones(layout: Layout) -> Layout:
    """``layout`` without the labels of factors of size 1: after a Reshape they cannot be told from axes of size 1."""
    for at in reversed(range(len(layout.factors))):
        if layout.factors[at] == 1:
            layout = uncover(layout, at)
    return normal(layout.axes, layout.fields, layout.why)


class Change:
    """The ``Resizing`` of one node: layouts before and after, and edits to the new graph."""

    def __init__(self, model: Model, node: gs.Node, facts: Facts, graph: ChannelGraph, removed: Removed) -> None:
        self._model = model
        self._node = node
        self._facts = facts
        self._flow = graph.flow
        self._old = graph.nodes[node_key(node)]
        self._removed = removed

    @property
    def node(self) -> gs.Node:
        return self._node

    @property
    def facts(self) -> Facts:
        return self._facts

    def before(self, index: int) -> Layout | None:
        return self._flow.operand(self._old, index)

    def after(self, index: int) -> Layout | None:
        return self._rest(self.before(index))

    def out_before(self, index: int) -> Layout | None:
        return self._flow.layout(self._node.outputs[index]) if index < len(self._node.outputs) else None

    def out_after(self, index: int) -> Layout | None:
        return self._rest(self.out_before(index))

    def _rest(self, layout: Layout | None) -> Layout | None:
        return None if layout is None else restrict(layout, self._removed)

    def kept(self, index: int, axis: int) -> NDArray[Any] | None:
        layout = self.before(index)
        return None if layout is None else kept_positions(layout, axis, self._removed)

    def once(self, tag: str) -> int | None:
        return self._flow.memory.once.get((node_key(self._node), tag))

    def value(self, index: int) -> NDArray[Any] | None:
        named = index < len(self._node.inputs) and bool(self._node.inputs[index].name)
        return self._model.value(self._node.inputs[index]) if named else None

    def set_attribute(self, name: str, value: Any) -> None:
        if value is None:
            self._node.attrs.pop(name, None)
        else:
            self._node.attrs[name] = value

    def set_input(self, index: int, value: NDArray[Any]) -> None:
        self._give(self._node, index, value)

    def _give(self, node: gs.Node, index: int, value: NDArray[Any]) -> None:
        old = node.inputs[index].name if index < len(node.inputs) else ""
        constant = self._model.constant(old or f"{node_key(self._node)}_sizes", value)
        while len(node.inputs) < index:
            node.inputs.append(gs.Variable(""))
        if index < len(node.inputs):
            self._model.set_input(node, index, constant)
        else:
            node.inputs.append(constant)

    def set_entry(self, index: int, position: int, value: int) -> bool:
        if index >= len(self._node.inputs):
            return False
        return self._entry(self._node, index, position, value)

    def _entry(self, node: gs.Node, index: int, position: int, value: int) -> bool:
        tensor = node.inputs[index]
        known = self._model.value(tensor)
        if known is not None:
            changed = np.array(known)
            changed.reshape(-1)[position] = value
            self._give(node, index, changed)
            return True
        producer = self._model.producer(tensor)
        if producer is None or producer.op != "Concat":
            return False
        for k, part in enumerate(producer.inputs):
            constant = self._model.value(part)
            shape = self._facts.shape(part) if constant is None else constant.shape
            if shape is None or len(shape) != 1 or not isinstance(shape[0], int):
                return False
            if position < shape[0]:
                if constant is None or int(constant[position]) <= 0:
                    return False
                return self._entry(self._own(node, index, producer), k, position, value)
            position -= shape[0]
        return False

    def _own(self, node: gs.Node, index: int, producer: gs.Node) -> gs.Node:
        """The Concat that an input of ``node`` comes from, or a copy of it for this node where others read it as well."""
        tensor = producer.outputs[0]
        if len(self._model.users(tensor)) == 1 and not self._model.is_output(tensor):
            return producer
        made = self._model.variable(tensor.name, tensor.dtype, tensor.shape)
        name = self._model.fresh(producer.name) if producer.name else ""
        copy = self._model.add(producer.op, list(producer.inputs), [made], dict(producer.attrs), name=name, before=producer)
        self._model.set_input(node, index, made)
        return copy

    def replace(self, op: str, inputs: Sequence[gs.Tensor | NDArray[Any]], attrs: dict[str, Any]) -> None:
        outputs = list(self._node.outputs)
        made = [x if isinstance(x, gs.Tensor) else self._model.constant(f"{node_key(self._node)}_{op}", x) for x in inputs]
        name, place = self._node.name, self._node
        self._model.add(op, made, outputs, attrs, name=name, before=place)
        self._model.remove(place)
