"""Steps that channel rules are made of: each changes layouts, and says through the view what that takes.

``seal`` is the central one. An axis that must keep its size (softmax, a spatial axis of a convolution, a graph output) is
sealed: along each of its covered factors the labels become one, so that a channel that also lives on other axes may still go as
a whole; where the factor is all that its field covers, the labels are frozen. This gives pixel shuffle its r*r ties without a
rule that knows of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from graphopt.ops.channels.layout import Field, Labels, Layout, normal, select, uncover, with_axis
from graphopt.ops.channels.regroup import common, refine
from graphopt.ops.channels.rule import View


def seal_factor(view: View, layout: Layout, factor: int, why: str) -> Layout:
    """``layout``, not in normal form, after ``factor`` was said to keep its size."""
    field = layout.field_at(factor)
    if field is None:
        return layout
    if len(field.at) == 1:
        view.freeze(field.labels, why)
    else:
        k = field.at.index(factor)
        view.equate(field.labels, np.take(field.labels, [0], k), why)
    return uncover(layout, factor)


def seal_factors(view: View, layout: Layout, factors: Sequence[int], why: str) -> Layout:
    """``layout`` in normal form after all of ``factors`` were sealed; ``why`` is then why what has no labels cannot shrink."""
    found = any(layout.field_at(factor) is not None for factor in factors)
    for factor in factors:
        layout = seal_factor(view, layout, factor, why)
    return normal(layout.axes, layout.fields, why if found else layout.why)


def seal(view: View, layout: Layout, axes: Sequence[int], why: str) -> Layout:
    """``layout`` after ``axes`` were said to keep their sizes."""
    return seal_factors(view, layout, [at for axis in axes for at in layout.span(axis)], why)


def seal_all(view: View, layout: Layout, why: str) -> Layout:
    """``layout`` after all its axes were said to keep their sizes: all its labels are frozen or one."""
    return seal(view, layout, range(layout.rank), why)


def seal_joint(view: View, layout: Layout, why: str) -> Layout:
    """``layout`` without labels over several axes at once: a computed weight may have them."""
    crossing = [f for f in layout.fields if len({layout.axis_of(at) for at in f.at}) > 1]
    return seal_factors(view, layout, [at for f in crossing for at in f.at], f"{why}: a weight with channels across its axes")


def seal_inputs(view: View, why: str) -> None:
    """Freeze every input of the node."""
    for index in range(len(view.node.inputs)):
        layout = view.layout(index)
        if layout is not None:
            for field in layout.fields:
                view.freeze(field.labels, why)


def isolate(view: View, layout: Layout, axis: int, why: str) -> Layout:
    """``layout`` in which at most one field covers ``axis``, and it covers no other axis."""
    span = layout.span(axis)
    others = [at for field in layout.fields_on(axis) for at in field.at if at not in span]
    layout = seal_factors(view, layout, others, why)
    fields = layout.fields_on(axis)
    if len(fields) > 1:
        # Remembered: with fewer channels another one may be the widest.
        fields = tuple(sorted(fields, key=lambda f: f.at))
        widest = view.once(f"widest on axis {axis}: {why}", lambda: int(np.argmax([f.labels.size for f in fields])))
        others = [at for k, f in enumerate(fields) if k != widest for at in f.at]
        layout = seal_factors(view, layout, others, f"{why}: an axis with channels of two kinds")
    return layout


def vector(view: View, layout: Layout, axis: int, why: str) -> tuple[Layout, Labels | None]:
    """The labels along ``axis``, one an element, and the layout after that was made possible; None if there are none."""
    if not layout.fields_on(axis):
        return layout, None
    if layout.size(axis) is None:
        return seal(view, layout, [axis], f"{why}: an axis of unknown size"), None
    layout = isolate(view, layout, axis, why)
    fields, span = layout.fields_on(axis), layout.span(axis)
    if not fields:
        return layout, None
    shape = [int(f or 0) for f in layout.axes[axis]]
    inner = [size if at in fields[0].at else 1 for at, size in zip(span, shape, strict=True)]
    return layout, np.broadcast_to(fields[0].labels.reshape(inner), shape).reshape(-1)


def pick(layout: Layout, axis: int, indices: NDArray[np.int64]) -> Layout | None:
    """``layout`` with the elements ``indices`` of an axis that is one factor, with their labels; None if it is not one.

    Labels over this axis and others jointly stay so: of [3, heads, dims] the first is [heads, dims].
    """
    if len(layout.axes[axis]) != 1 or not layout.fields_on(axis):
        return None
    at = layout.span(axis).start
    fields = [Field(f.at, np.take(f.labels, indices, f.at.index(at))) if at in f.at else f for f in layout.fields]
    axes = [(int(indices.size),) if a == axis else factors for a, factors in enumerate(layout.axes)]
    return normal(axes, fields, layout.why)


def vector_or_fixed(view: View, layout: Layout, axis: int, tag: str, why: str) -> tuple[Layout, Labels | None]:
    """Like ``vector``, with frozen labels where there are none; None only if the size is not known."""
    layout, labels = vector(view, layout, axis, why)
    size = layout.size(axis)
    if labels is None and size is not None:
        return layout, view.fixed(size, tag, layout.why or why)
    return layout, labels


def couple(view: View, a: Layout, a_axis: int, b: Layout, b_axis: int, why: str) -> None:
    """Say that an axis of ``a`` and one of ``b`` are the same channels, in order; neither is used afterwards."""
    a, first = vector(view, a, a_axis, why)
    b, second = vector(view, b, b_axis, why)
    if first is not None and second is not None and first.shape == second.shape:
        view.equate(first, second, why)
        return
    for labels, other in ((first, b), (second, a)):
        if labels is not None:
            view.freeze(labels, other.why or why)


def broadcast(view: View, a: Layout, b: Layout, why: str) -> Layout:
    """The layout of an element-wise operator on ``a`` and ``b``: labels that meet go together, size 1 meets nothing."""
    rank = max(a.rank, b.rank)
    a = select(a, [*[()] * (rank - a.rank), *range(a.rank)])
    b = select(b, [*[()] * (rank - b.rank), *range(b.rank)])
    for axis in range(rank):
        a, b = _stretched(view, a, b, axis, why), _stretched(view, b, a, axis, why)
    for axis in range(rank):
        a, b = _align(view, a, b, axis, why)
    a, b = _drop_one_sided(view, a, b, why)
    axes, from_a, from_b = _join_axes(a, b)
    fields_a = [Field(tuple(from_a[k] for k in f.at), f.labels) for f in a.fields]
    fields_b = [Field(tuple(from_b[k] for k in f.at), f.labels) for f in b.fields]
    for f in fields_a:
        for g in fields_b:
            if set(f.at) & set(g.at):
                view.equate(*_embed(f, g), why)
    taken = {k for f in fields_a for k in f.at}
    fields_a += [g for g in fields_b if not taken & set(g.at)]
    return normal(axes, fields_a, a.why or b.why)


def _stretched(view: View, layout: Layout, other: Layout, axis: int, why: str) -> Layout:
    """``layout`` without labels on ``axis`` where its one channel (a slice of one) meets several: it stays, and is for all."""
    if layout.axes[axis] == () or layout.size(axis) != 1:
        return layout
    # Remembered: of the several one may be left.
    tag = f"stretched on axis {axis}: {layout.labels(axis).min(initial=-1)}"
    if not view.once(tag, lambda: int(other.size(axis) != 1)):
        return layout
    return seal(view, layout, [axis], f"{why}: one channel for all of the other operand")


def _align(view: View, a: Layout, b: Layout, axis: int, why: str) -> tuple[Layout, Layout]:
    """Give ``axis`` the same factors in both, or no labels."""
    if a.axes[axis] == () or b.axes[axis] == () or not (a.fields_on(axis) or b.fields_on(axis)):
        return a, b
    splits = common(a.axes[axis], b.axes[axis])
    if splits is not None:
        return refine(a, axis, splits[0]), refine(b, axis, splits[1])
    reason = f"{why}: channels meet an axis of other or unknown size"
    return _seal_raw(view, a, axis, f"{reason} ({b.why})"), _seal_raw(view, b, axis, f"{reason} ({a.why})")


def _seal_raw(view: View, layout: Layout, axis: int, why: str) -> Layout:
    for at in layout.span(axis):
        layout = seal_factor(view, layout, at, why)
    return layout


def _drop_one_sided(view: View, a: Layout, b: Layout, why: str) -> tuple[Layout, Layout]:
    """Keep factors whole that only one of two aligned layouts covers, where the other has elements of its own."""
    for axis in range(a.rank):
        if a.axes[axis] == () or b.axes[axis] == ():
            continue
        covered = [{k for k, at in enumerate(x.span(axis)) if x.field_at(at) is not None} for x in (a, b)]
        for k in sorted(covered[0] - covered[1]):
            a = _whole_factor(view, a, a.span(axis)[k], b.why or why)
        for k in sorted(covered[1] - covered[0]):
            b = _whole_factor(view, b, b.span(axis)[k], a.why or why)
    return a, b


def _whole_factor(view: View, layout: Layout, factor: int, why: str) -> Layout:
    """``layout`` after ``factor`` was said to keep its size; labels over it and others stay, as many go for each index of it."""
    field = layout.field_at(factor)
    if field is None or len(field.at) == 1:
        sealed = seal_factor(view, layout, factor, why)
        return Layout(sealed.axes, sealed.fields, why)
    k = field.at.index(factor)
    view.alike(np.moveaxis(field.labels, k, 0).reshape(field.labels.shape[k], -1), why)
    return layout


def _join_axes(a: Layout, b: Layout) -> tuple[list[tuple[int | str | None, ...]], dict[int, int], dict[int, int]]:
    """The axes of the result, and where the factors of either operand are in them."""
    axes: list[tuple[int | str | None, ...]] = []
    places: tuple[dict[int, int], dict[int, int]] = ({}, {})
    count = 0
    for axis in range(a.rank):
        mine, other = a.axes[axis], b.axes[axis]
        chosen = mine or other
        if mine and other and not (a.fields_on(axis) or b.fields_on(axis)) and all(isinstance(s, int) for s in other):
            chosen = other
        for x, place in ((a, places[0]), (b, places[1])):
            if x.fields_on(axis):
                place.update((at, count + k) for k, at in enumerate(x.span(axis)))
        axes.append(chosen)
        count += len(chosen)
    return axes, *places


def _embed(f: Field, g: Field) -> tuple[Labels, Labels]:
    """The labels of two fields over the factors of both, to be broadcast."""
    at = sorted({*f.at, *g.at})
    return (
        f.labels.reshape([f.labels.shape[f.at.index(k)] if k in f.at else 1 for k in at]),
        g.labels.reshape([g.labels.shape[g.at.index(k)] if k in g.at else 1 for k in at]),
    )


def index_axis(layout: Layout, axis: int, labels: Labels) -> Layout:
    """``layout`` with another vector of labels along ``axis``."""
    return with_axis(layout, axis, (labels.size,), labels)
