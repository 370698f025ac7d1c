"""Operators that keep channels apart: functions of one element, arithmetic after broadcasting, and work on spatial axes alone."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.model import node_label
from graphopt.ops import attrs
from graphopt.ops.channels.axes import axis_of
from graphopt.ops.channels.layout import Layout, select
from graphopt.ops.channels.rule import View
from graphopt.ops.channels.ties import broadcast, couple, seal, seal_inputs
from graphopt.ops.facts import has_input


def unary(view: View) -> Sequence[Layout | None]:
    """Every output has the labels of the first input; other inputs are scalars."""
    data = view.layout(0)
    for index in range(1, len(view.node.inputs)):
        other = view.layout(index) if has_input(view.node, index) else None
        if other is not None and any(other.axes):
            seal_inputs(view, f"{node_label(view.node)}: an operand that is not a scalar")
            return [None] * len(view.node.outputs)
    return [data] * len(view.node.outputs)


def elementwise(view: View) -> Sequence[Layout | None]:
    """Operands broadcast against each other, as numpy does."""
    why = node_label(view.node)
    layouts = [view.layout(k) for k in range(len(view.node.inputs))]
    known = [x for x in layouts if x is not None]
    if len(known) != len(layouts) or not known:
        seal_inputs(view, f"{why}: an operand of unknown rank")
        return [None]
    made = known[0]
    for other in known[1:]:
        made = broadcast(view, made, other, why)
    return [made]


def per_channel(view: View) -> Sequence[Layout | None]:
    """Parameters of one value a channel (BatchNormalization, InstanceNormalization), channels on axis 1."""
    why = node_label(view.node)
    data = view.layout(0)
    if (
        data is None
        or data.rank < 2
        or attrs.int_(view.node, "training_mode", 0)
        or sum(bool(t.name) for t in view.node.outputs) > 1
    ):
        seal_inputs(view, f"{why}: in training mode, or of unknown rank")
        return [None] * len(view.node.outputs)
    if view.node.op == "InstanceNormalization":
        data = seal(view, data, range(2, data.rank), f"{why} normalises over the axis")
    for index in range(1, len(view.node.inputs)):
        parameter = view.layout(index)
        if parameter is None or parameter.rank != 1:
            seal_inputs(view, f"{why}: a parameter that is not a vector")
            return [None]
        couple(view, data, 1, parameter, 0, why)
    return [data, *[None] * (len(view.node.outputs) - 1)]


def spatial(view: View) -> Sequence[Layout | None]:
    """Pooling: batch and channels pass, the spatial axes are worked on."""
    why = f"{node_label(view.node)}: a spatial axis"
    data = view.layout(0)
    if data is None or data.rank < 3:
        seal_inputs(view, f"{node_label(view.node)}: an input of unknown rank")
        return [None] * len(view.node.outputs)
    data = seal(view, data, range(2, data.rank), why)
    made: list[Layout | None] = []
    for index in range(len(view.node.outputs)):
        shape = view.shape(index)
        known = shape is not None and len(shape) == data.rank
        out = select(data, [0, 1, *[(shape[a] if known and shape is not None else None,) for a in range(2, data.rank)]])
        made.append(Layout(out.axes, out.fields, why))
    # MaxPool's second output holds flat indices, which count through channels.
    if len(view.node.outputs) > 1 and view.node.outputs[1].name:
        for field in data.fields:
            view.freeze(field.labels, f"{why}; indices of maxima")
    return made


def global_pool(view: View) -> Sequence[Layout | None]:
    """Global pooling: the spatial axes become 1."""
    why = node_label(view.node)
    data = view.layout(0)
    if data is None or data.rank < 3:
        seal_inputs(view, f"{why}: an input of unknown rank")
        return [None]
    data = seal(view, data, range(2, data.rank), f"{why}: a spatial axis")
    return [select(data, [0, 1, *[()] * (data.rank - 2)])]


def opaque(view: View) -> Sequence[Layout | None]:
    """Nothing is known that would let a channel go."""
    seal_inputs(view, f"{node_label(view.node)}: it looks across channels, or by data")
    return [None] * len(view.node.outputs)


def quantizer(view: View) -> Sequence[Layout | None]:
    """QuantizeLinear and DequantizeLinear: one scale and zero point for the tensor, or one for each channel of ``axis``."""
    why = node_label(view.node)
    data = view.layout(0)
    if data is None:
        seal_inputs(view, f"{why}: an input of unknown rank")
        return [None]
    for index in (1, 2):
        if not has_input(view.node, index):
            continue
        scale = view.layout(index)
        axis = axis_of(attrs.int_(view.node, "axis", 1), data.rank)
        if scale is not None and not any(scale.axes):
            continue
        if scale is None or scale.rank != 1 or axis is None:
            seal_inputs(view, f"{why}: scales in blocks, or of unknown rank")
            return [None]
        couple(view, data, axis, scale, 0, why)
    return [data]
