"""Operators that sum over channels with weights: they end labels and begin new ones.

The weight's columns carry the labels of the data's channels, its rows those of the output. They are labels of a constant, so
two readers of one initializer agree by themselves, or of what is computed from one (a dequantized weight) or from data.

Grouped convolutions read the data in g blocks of C/g channels with one set of columns for all: removing column j removes
channel j of every block, so the blocks shrink alike, and so do the blocks of the output, which must stay of equal size. Where
there are more blocks than channels in a block, as in a depthwise convolution, whole blocks go instead: channels of one block and
the outputs that it feeds are one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.model import node_key, node_label
from graphopt.ops import attrs
from graphopt.ops.channels.layout import Labels, Layout, normal, over_axes, select, uncover, with_axis
from graphopt.ops.channels.rule import Mixer, Product, Resizing, View
from graphopt.ops.channels.ties import broadcast, couple, seal, seal_all, seal_factors, seal_joint, vector
from graphopt.ops.facts import has_input

GROUPING = "blockwise"


def conv(view: View) -> Sequence[Layout | None]:
    """Conv: weight [C_out, C_in/g, kernel...], bias [C_out]."""
    return [_convolution(view, columns=1, rows=0)]


def conv_transpose(view: View) -> Sequence[Layout | None]:
    """ConvTranspose: weight [C_in, C_out/g, kernel...], bias [C_out]."""
    return [_convolution(view, columns=0, rows=1)]


def _convolution(view: View, *, columns: int, rows: int) -> Layout | None:
    node, why = view.node, node_label(view.node)
    data, weight, shape = view.layout(0), view.layout(1), view.shape(0)
    if data is None or weight is None or data.rank < 3 or weight.rank != data.rank:
        return _opaque(view, data, weight, f"{why}: its rank is not known")
    weight = seal_joint(view, weight, why)
    groups = attrs.int_(node, "group", 1)
    spatial = range(2, data.rank)
    data = seal(view, data, spatial, f"{why}: a spatial axis")
    weight = seal(view, weight, spatial, f"{why}: the kernel")
    sizes = (weight.size(columns) or 0, weight.size(rows) or 0)
    # Remembered: when all blocks but one are gone, the one is still a block.
    blockwise = bool(view.once(GROUPING, lambda: _blockwise(groups, *sizes, columns)))
    view.mixes(Mixer(node_key(node), 0, 1, 2, 1, columns, rows, groups, blockwise, rows_in_data_order=rows == 0))
    if groups == 1 and not blockwise:
        couple(view, data, 1, weight, columns, why)
        _, out = vector(view, weight, rows, why)
    else:
        out = _grouped(view, data, weight, columns, rows, groups, blockwise)
    count = (weight.size(rows) or 0) * (groups if rows == 1 else 1)
    if out is None and count > 1:
        out = view.fixed(count, "rows", _unlabelled(weight, why))
    _couple_bias(view, 2, out, why)
    return _output(data, 1, out, shape, why)


def _unlabelled(weight: Layout, why: str) -> str:
    return f"{why}: its weight cannot shrink ({weight.why})"


def _blockwise(groups: int, columns: int, rows: int, column_axis: int) -> int:
    """Whether blocks go as a whole: there are more of them than channels in one, on either side."""
    inputs, outputs = (columns, rows // groups) if column_axis == 1 else (columns // groups, rows)
    return int(groups > 1) and int(inputs == 1 or groups > max(inputs, outputs))


def _grouped(view: View, data: Layout, weight: Layout, columns: int, rows: int, groups: int, blockwise: bool) -> Labels | None:
    """The labels of the output of a grouped convolution, after those of data, columns and rows were tied."""
    why = f"{node_label(view.node)}: blocks of a grouped convolution"
    data, source = vector(view, data, 1, why)
    weight, column = vector(view, weight, columns, why)
    weight, row = vector(view, weight, rows, why)
    long, short = (row, column) if columns == 1 else (column, row)  # the axes that count through all blocks, and within one
    if short is None and weight.size(1) == 1:
        short = view.fixed(1, "block", why)
    if source is None and row is not None and columns == 1 and not blockwise and row.size % groups == 0:
        # What is read stays; what is made may shrink all the same.
        view.freeze(column if column is not None else row[:0], data.why or why)
        view.alike(row.reshape(groups, -1), why)
        return row
    if source is None or long is None or short is None or source.size % groups or long.size % groups:
        for labels in (source, column, row):
            if labels is not None:
                view.freeze(labels, data.why or why)
        return row if row is None or rows == 0 else np.tile(row, groups)
    blocks, inputs = long.reshape(groups, -1), source.reshape(groups, -1)
    if blockwise:
        view.freeze(short, why)
        view.equate(inputs, inputs[:, :1], why)
        view.equate(blocks, blocks[:, :1], why)
        view.equate(inputs[:, :1], blocks[:, :1], why)
        return row if rows == 0 else np.repeat(blocks[:, 0], short.size)
    view.alike(blocks, why)
    if columns == 1:
        view.alike(np.concatenate([inputs, short[None]]), why)
        return row
    view.equate(inputs, blocks, why)
    return np.tile(short, groups)


def _couple_bias(view: View, index: int, out: Labels | None, why: str) -> None:
    bias = view.layout(index) if has_input(view.node, index) else None
    if out is None or not has_input(view.node, index):
        for field in bias.fields if bias is not None else ():
            view.freeze(field.labels, why)
        return
    if bias is None:
        view.freeze(out, f"{why}: a bias of unknown rank")
        return
    bias, labels = vector(view, bias, bias.rank - 1, why) if bias.rank else (bias, None)
    if labels is not None and labels.shape == out.shape:
        view.equate(labels, out, f"{why}: its bias")
    elif bias.rank and bias.axes[-1]:
        view.freeze(out, f"{why}: its bias ({bias.why})")


def _output(data: Layout, axis: int, out: Labels | None, shape: tuple[int | str | None, ...] | None, why: str) -> Layout:
    """The data's layout with new labels along ``axis``, and spatial axes of new sizes."""
    made = select(data, [a if a < axis else _spatial(shape, a) for a in range(data.rank)])
    made = _with_channels(made, axis, out)
    return Layout(made.axes, made.fields, f"a spatial or batch axis of {why}")


def _with_channels(layout: Layout, axis: int, out: Labels | None) -> Layout:
    """``layout`` with channels along ``axis``; a single one that has no label is an axis of size 1, which broadcasts."""
    return with_axis(layout, axis, ()) if out is None else with_axis(layout, axis, (out.size,), out)


def _spatial(shape: tuple[int | str | None, ...] | None, axis: int) -> tuple[int | str | None, ...]:
    return (shape[axis],) if shape is not None and axis < len(shape) else (None,)


def _opaque(view: View, data: Layout | None, weight: Layout | None, why: str) -> Layout | None:
    for layout in (data, weight):
        if layout is not None:
            seal_all(view, layout, why)
    return None


def gemm(view: View) -> Sequence[Layout | None]:
    """Gemm: alpha op(A) op(B) + beta C, B constant; rows and columns of B by transB."""
    node, why = view.node, node_label(view.node)
    data, weight = view.layout(0), view.layout(1)
    if data is None or weight is None or data.rank != 2 or weight.rank != 2:
        return [_opaque(view, data, weight, f"{why}: its rank is not known")]
    if attrs.int_(node, "transA", 0):
        data = select(data, (1, 0))
    weight = seal_joint(view, weight, why)
    columns, rows = (1, 0) if attrs.int_(node, "transB", 0) else (0, 1)
    axis = 0 if attrs.int_(node, "transA", 0) else 1
    view.mixes(Mixer(node_key(node), 0, 1, 2, axis, columns, rows))
    couple(view, data, 1, weight, columns, why)
    _, out = vector(view, weight, rows, why)
    if out is None and weight.size(rows) != 1:
        out = view.fixed(weight.size(rows) or 0, "rows", _unlabelled(weight, why))
    bias = view.layout(2) if has_input(node, 2) else None
    if bias is not None and bias.rank == 2:
        bias = seal(view, bias, [0], why)
    _couple_bias(view, 2, out, why)
    made = _with_channels(select(data, [0, ()]), 1, out)
    return [Layout(made.axes, made.fields, data.why or why)]


def matmul(view: View) -> Sequence[Layout | None]:
    """MatMul, as numpy.matmul: a mixer with a constant matrix on one side; else the axis that is summed over keeps its size."""
    why = node_label(view.node)
    for data, weight in ((0, 1), (1, 0)):
        if view.known(weight) and not view.known(data):
            made = _product(view, data, weight, why)
            if made is not None:
                return [made]
    left, right = view.layout(0), view.layout(1)
    if left is None or right is None or left.rank < 2 or right.rank < 2:
        return [_opaque(view, left, right, f"{why}: a product of two computed tensors")]
    return [contraction(view, left, right, why, list(range(left.rank)))]


def contraction(view: View, left: Layout, right: Layout, why: str, order: Sequence[int | None]) -> Layout:
    """Both operands computed, [..., M, K] and [..., K, N]: the channels that are summed over are the same, and end here.

    ``order`` says which axis of the first input each axis of ``left`` is, None for one of size 1 that it has not.

    Where they are labelled jointly with another axis (dimensions of a head with the heads) only one of the two can shrink: the
    dimensions, alike in every head, or whole heads.
    """
    axes = (left.rank - 1, right.rank - 2)
    if view.heads:
        left, right = (_whole(view, x, axis, f"{why}: heads go as a whole") for x, axis in zip((left, right), axes, strict=True))
    wide = [over_axes(left, f) for f in left.fields_on(axes[0])]
    if all(labels is not None for labels in wide):
        left, right = _in_every_head(view, left, right, axes, why)
    left, first = vector(view, left, axes[0], f"{why}: dimensions of a head go in every head")
    right, second = vector(view, right, axes[1], f"{why}: dimensions of a head go in every head")
    if first is not None and second is not None and first.shape == second.shape:
        view.equate(first, second, why)
        along = first.reshape([-1 if a == axes[0] else 1 for a in range(left.rank)])
        for labels in wide:
            view.multiplies(Product(node_key(view.node), 0, _as_given(along if labels is None else labels, order)))
    else:
        for labels, other in ((first, right), (second, left)):
            if labels is not None:
                view.freeze(labels, f"{why}: a sum over channels and what cannot shrink ({other.why})")
    left = select(left, [*range(axes[0]), ()])
    right = select(right, [*range(axes[1]), (), right.rank - 1])
    return broadcast(view, left, right, why)


def _as_given(labels: Labels, order: Sequence[int | None]) -> Labels:
    """Labels over axes in another order, over the axes as they are."""
    known = [a for a in order if a is not None]
    labels = np.squeeze(labels, tuple(k for k, a in enumerate(order) if a is None))
    return np.transpose(labels, [known.index(a) for a in range(len(known))])


def _in_every_head(view: View, left: Layout, right: Layout, axes: tuple[int, int], why: str) -> tuple[Layout, Layout]:
    """Dimensions of a head that are labelled with the head: as many go in every head, and each is one channel of both."""
    fields = [x.fields_on(axis) for x, axis in zip((left, right), axes, strict=True)]
    if not all(len(f) == 1 and len(x.axes[a]) == 1 for f, x, a in zip(fields, (left, right), axes, strict=True)):
        return left, right
    wide: list[Labels] = []
    for (found,), x, axis in zip(fields, (left, right), axes, strict=True):
        k = found.at.index(x.span(axis).start)
        wide.append(np.moveaxis(found.labels, k, -1).reshape(-1, found.labels.shape[k]))
    if wide[0].shape != wide[1].shape or len(wide[0]) == 1:
        return left, right
    view.equate(wide[0], wide[1], why)
    view.alike(wide[0], why)
    return (_one_head(left, axes[0]), _one_head(right, axes[1]))


def _one_head(layout: Layout, axis: int) -> Layout:
    """``layout`` with the labels of the first head for all."""
    (found,) = layout.fields_on(axis)
    others = [at for at in found.at if at not in layout.span(axis)]
    for at in others:
        layout = uncover(layout, at)
    return normal(layout.axes, layout.fields, layout.why)


def _whole(view: View, layout: Layout, axis: int, why: str) -> Layout:
    """``layout`` without labels along ``axis`` that are also labels along another."""
    span = layout.span(axis)
    joint = [f for f in layout.fields_on(axis) if not set(f.at) <= set(span)]
    return seal_factors(view, layout, [at for f in joint for at in f.at if at in span], why)


def _product(view: View, data_index: int, weight_index: int, why: str) -> Layout | None:
    data, weight = view.layout(data_index), view.layout(weight_index)
    if data is None or weight is None or weight.rank != 2 or data.rank < 2:
        return None
    weight = seal_joint(view, weight, why)
    right = weight_index == 1
    axis = data.rank - (1 if right else 2)
    columns, rows = (0, 1) if right else (1, 0)
    view.mixes(Mixer(node_key(view.node), data_index, weight_index, None, axis, columns, rows))
    couple(view, data, axis, weight, columns, why)
    _, out = vector(view, weight, rows, why)
    if out is None and weight.size(rows) != 1:
        out = view.fixed(weight.size(rows) or 0, "rows", _unlabelled(weight, why))
    # The other axes keep their labels: the contracted one is replaced, with no field left on it.
    rest = _without(data, axis)
    made = _with_channels(rest, axis, out)
    return Layout(made.axes, made.fields, data.why or why)


def _without(data: Layout, axis: int) -> Layout:
    """``data`` with an axis of size 1 in place of a contracted one; fields that covered it are gone (``couple`` tied them)."""
    return select(data, [a if a != axis else () for a in range(data.rank)])


def resize_groups(change: Resizing) -> None:
    """The new ``group`` of a convolution, after whole blocks went."""
    groups = attrs.int_(change.node, "group", 1)
    before, after = change.before(0), change.after(0)
    if groups == 1 or not change.once(GROUPING) or before is None or after is None:
        return
    old, new = before.size(1), after.size(1)
    if old and new and new != old:
        change.set_attribute("group", new * groups // old)
