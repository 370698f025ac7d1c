"""Operators that look along an axis: that axis keeps its size, the others pass."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.model import node_key, node_label
from graphopt.ops import attrs
from graphopt.ops.channels.layout import Labels, Layout, select
from graphopt.ops.channels.rule import Average, View
from graphopt.ops.channels.ties import broadcast, seal, seal_inputs, vector
from graphopt.ops.facts import has_input


def axis_of(value: int, rank: int) -> int | None:
    """A possibly negative axis as an index, None if it is out of range."""
    axis = value + rank if value < 0 else value
    return axis if 0 <= axis < rank else None


def axes_of(view: View, rank: int, index: int = 1) -> list[int] | None:
    """The axes that a node names in its attribute ``axes`` or its input ``index``; [] if it names none, None if not constant."""
    if has_input(view.node, index):
        value = view.value(index)
        named = None if value is None else [int(v) for v in value.reshape(-1)]
    else:
        named = list(attrs.ints(view.node, "axes", ()))
    if named is None:
        return None
    found = [axis_of(a, rank) for a in named]
    known = [a for a in found if a is not None]
    return known if len(known) == len(found) else None


def _unknown(view: View) -> Sequence[Layout | None]:
    seal_inputs(view, f"{node_label(view.node)}: its axes or its rank are not known")
    return [None] * len(view.node.outputs)


def softmax(view: View) -> Sequence[Layout | None]:
    """Softmax and its kin: along one axis since opset 13, before along all from that axis on."""
    data = view.layout(0)
    modern = view.facts.opset >= 13
    axis = None if data is None else axis_of(attrs.int_(view.node, "axis", -1 if modern else 1), data.rank)
    if data is None or axis is None:
        return _unknown(view)
    sealed = [axis] if modern else range(axis, data.rank)
    return [seal(view, data, sealed, f"{node_label(view.node)} over the axis")]


def normalise_from(view: View) -> Sequence[Layout | None]:
    """LayerNormalization, RMSNormalization: over all axes from ``axis`` on."""
    data = view.layout(0)
    axis = None if data is None else axis_of(attrs.int_(view.node, "axis", -1), data.rank)
    if data is None or axis is None:
        return _unknown(view)
    why = f"{node_label(view.node)} normalises over the axis (lossy-norm would prune it)"
    if view.lossy and sum(bool(t.name) for t in view.node.outputs) == 1:
        return [_averaged(view, data, range(axis, data.rank), why)]
    for index in range(1, len(view.node.inputs)):
        parameter = view.layout(index) if has_input(view.node, index) else None
        for field in parameter.fields if parameter is not None else ():
            view.freeze(field.labels, why)
    made = seal(view, data, range(axis, data.rank), why)
    return [made, *[None] * (len(view.node.outputs) - 1)]


def _averaged(view: View, data: Layout, over: Sequence[int], why: str) -> Layout:
    """``data``, of which channels along the axes ``over`` may go although the node averages over them."""
    found: list[tuple[int, Labels]] = []
    for axis in over:
        data, labels = vector(view, data, axis, why)
        if labels is not None:
            found.append((axis, labels))
    for index in range(1, len(view.node.inputs) if view.node.op != "ReduceMean" else 1):
        parameter = view.layout(index) if has_input(view.node, index) else None
        if parameter is not None:
            broadcast(view, data, parameter, why)
    view.averages(Average(node_key(view.node), tuple(over), tuple(found)))
    return data


def over_channels(view: View) -> Sequence[Layout | None]:
    """LRN and GroupNormalization: the channel axis keeps its size, and so do its parameters."""
    data = view.layout(0)
    if data is None or data.rank < 2:
        return _unknown(view)
    why = f"{node_label(view.node)} normalises over channels"
    for index in range(1, len(view.node.inputs)):
        parameter = view.layout(index) if has_input(view.node, index) else None
        for field in parameter.fields if parameter is not None else ():
            view.freeze(field.labels, why)
    return [seal(view, data, [1], why)]


def along_axis(view: View) -> Sequence[Layout | None]:
    """LpNormalization, CumSum, ArgMax, TopK and the like, by attribute ``axis``; the other axes pass."""
    data = view.layout(0)
    default = {"LpNormalization": -1, "TopK": -1, "ArgMax": 0, "ArgMin": 0}.get(view.node.op)
    if view.node.op == "CumSum":
        value = view.value(1)
        default = None if value is None or value.size != 1 else int(value.reshape(-1)[0])
    axis = None if data is None or default is None else axis_of(attrs.int_(view.node, "axis", default), data.rank)
    if data is None or axis is None:
        return _unknown(view)
    made = seal(view, data, [axis], f"{node_label(view.node)} over the axis")
    results: list[Layout | None] = []
    for index in range(len(view.node.outputs)):
        shape = view.shape(index)
        if view.node.op in ("ArgMax", "ArgMin"):
            one: list[int | tuple[int | str | None, ...]] = [()] if attrs.int_(view.node, "keepdims", 1) else []
            results.append(select(made, [*range(axis), *one, *range(axis + 1, made.rank)]))
        elif view.node.op == "TopK":
            size = shape[axis] if shape is not None and len(shape) == made.rank else None
            results.append(select(made, [*range(axis), (size,), *range(axis + 1, made.rank)]))
        else:
            results.append(made)
    return results


def reduction(view: View) -> Sequence[Layout | None]:
    """Reduce*: the axes that are reduced keep their sizes, the others pass."""
    data = view.layout(0)
    axes = None if data is None else axes_of(view, data.rank)
    if data is None or axes is None:
        return _unknown(view)
    if not axes and attrs.int_(view.node, "noop_with_empty_axes", 0):
        return [data]
    reduced = axes or list(range(data.rank))
    why = f"{node_label(view.node)} over the axis"
    averaged = view.lossy and view.node.op == "ReduceMean"
    data = _averaged(view, data, reduced, why) if averaged else seal(view, data, reduced, why)
    keep = attrs.int_(view.node, "keepdims", 1)
    wanted: list[int | tuple[int | str | None, ...]] = []
    for axis in range(data.rank):
        if axis not in reduced:
            wanted.append(axis)
        elif keep:
            wanted.append(())
    return [select(data, wanted)]
