"""Layouts: which label every element of a tensor carries along its axes.

An axis is an ordered product of **factors**: after Flatten the last axis of [N, C, H, W] is C x H x W. A factor has a size (a
number, the name of a symbolic dimension, or None if unknown) and may be covered by a **field**: an array with one label for
every index of the factors that it covers, jointly. A removable channel is a set of labels; an element of the tensor goes when a
label of it goes. What no field covers (batch, height, width) cannot shrink, and costs nothing whatever its size, because it has
no array.

    [N, C, H, W]                 axes ((N), (C), (H), (W)),          field over C:          labels[C]
    reshaped to [N, 2, C/2, ..]  axes ((N), (2), (C/2), ..),         field over (2, C/2):   labels[2, C/2]
    transposed, merged again     axes ((N), (C), ..):                labels[C], shuffled
    flattened                    axes ((N), (C, H*W)):               labels[C]

Moving data is moving labels: the functions here are numpy's reshape and transpose on the fields. A layout is kept in normal
form, so that equal layouts compare equal: uncovered factors of size 1 are left out, and neighbours within an axis merge if one
field covers both or both are uncovered numbers. A covered factor stays even at size 1: it is a width that was pruned to one,
not a broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.ops.facts import Dim, Shape

Labels = NDArray[np.int64]
Factors = tuple[Dim, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Labels over the factors ``at`` (ascending indices into the layout's factors); ``labels.ndim == len(at)``."""

    at: tuple[int, ...]
    labels: Labels


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The factors of every axis, and the fields over them.

    Attributes:
        axes: the factors of each axis; () is an axis of size 1.
        fields: labels; every factor is covered by at most one field.
        why: why what is not covered cannot shrink, for people ("graph input 'x'").
    """

    axes: tuple[Factors, ...]
    fields: tuple[Field, ...] = ()
    why: str = ""

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def factors(self) -> Factors:
        """The factors of all axes, one after the other."""
        return tuple(size for axis in self.axes for size in axis)

    def span(self, axis: int) -> range:
        """The indices of the factors of ``axis``."""
        start = sum(len(a) for a in self.axes[:axis])
        return range(start, start + len(self.axes[axis]))

    def axis_of(self, factor: int) -> int:
        """The axis that holds ``factor``."""
        return next(a for a in range(self.rank) if factor in self.span(a))

    def field_at(self, factor: int) -> Field | None:
        """The field that covers ``factor``."""
        return next((f for f in self.fields if factor in f.at), None)

    def fields_on(self, axis: int) -> tuple[Field, ...]:
        """The fields that cover a factor of ``axis``."""
        span = self.span(axis)
        return tuple(f for f in self.fields if any(at in span for at in f.at))

    def size(self, axis: int) -> int | None:
        """The size of ``axis``, None unless all its factors are numbers."""
        return product(self.axes[axis])

    def labels(self, axis: int) -> Labels:
        """All labels that occur along ``axis``."""
        found = [np.unique(f.labels) for f in self.fields_on(axis)]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)


def over_axes(layout: Layout, field: Field) -> Labels | None:
    """The labels of a field as an array of the tensor's rank, of size 1 along axes that it does not cover; None if an axis that
    it covers has a factor of unknown size.
    """
    shape: list[int] = []
    sizes: list[int] = []
    result: list[int] = []
    for axis in range(layout.rank):
        span, size = layout.span(axis), layout.size(axis)
        if not any(at in span for at in field.at):
            result.append(1)
            continue
        if size is None:
            return None
        result.append(size)
        for at in span:
            sizes.append(int(layout.factors[at] or 0))
            shape.append(sizes[-1] if at in field.at else 1)
    return np.broadcast_to(field.labels.reshape(shape), sizes).reshape(result)


def product(factors: Sequence[Dim]) -> int | None:
    """The product of the factors, None unless all are numbers."""
    known = [f for f in factors if isinstance(f, int)]
    return math.prod(known) if len(known) == len(factors) else None


def blank(shape: Shape, why: str) -> Layout:
    """A layout without labels."""
    return normal([(d,) for d in shape], (), why)


def separate(labels: Sequence[Labels | None], sizes: Sequence[Dim], why: str = "") -> Layout:
    """A layout of one factor an axis, each covered by a field of its own or by none."""
    fields = tuple(Field((at,), found) for at, found in enumerate(labels) if found is not None)
    return normal([(d,) for d in sizes], fields, why)


def normal(axes: Sequence[Sequence[Dim]], fields: Sequence[Field], why: str) -> Layout:
    """The normal form of a layout."""
    cover = {at: k for k, field in enumerate(fields) for at in field.at}
    runs: list[list[list[int]]] = []
    sizes: list[Dim] = []
    for axis in axes:
        row: list[list[int]] = []
        for size in axis:
            at = len(sizes)
            sizes.append(size)
            if at not in cover and size == 1:
                continue
            if row and cover.get(row[-1][-1]) == cover.get(at) and (at in cover or _numbers(sizes[row[-1][-1]], size)):
                row[-1].append(at)
            else:
                row.append([at])
        runs.append(row)
    place = {run[0]: index for index, run in enumerate(run for row in runs for run in row)}
    merged = [_merge(field, place) for field in fields]
    return Layout(tuple(tuple(_join([sizes[at] for at in run]) for run in row) for row in runs), tuple(merged), why)


def _numbers(*sizes: Dim) -> bool:
    return all(isinstance(s, int) for s in sizes)


def _join(sizes: Sequence[Dim]) -> Dim:
    return sizes[0] if len(sizes) == 1 else product(sizes)


def _merge(field: Field, place: dict[int, int]) -> Field:
    """The field over merged factors: ``place`` maps the first factor of each run to the run's new index."""
    at: list[int] = []
    shape: list[int] = []
    for old, size in zip(field.at, field.labels.shape, strict=True):
        if old in place:
            at.append(place[old])
            shape.append(size)
        else:
            shape[-1] *= size
    return Field(tuple(at), field.labels.reshape(shape))


def select(layout: Layout, axes: Sequence[int | Factors]) -> Layout:
    """A layout of some axes of ``layout``, by index and in any order, and of new uncovered ones, by their factors.

    An axis that is left out must not be covered; a field that also covers such an axis must be sealed there before.
    """
    new: list[Factors] = []
    moved: dict[int, int] = {}
    count = 0
    for axis in axes:
        factors = layout.axes[axis] if isinstance(axis, int) else axis
        if isinstance(axis, int):
            moved.update((old, count + k) for k, old in enumerate(layout.span(axis)))
        new.append(factors)
        count += len(factors)
    fields = [_move(f, moved) for f in layout.fields if all(at in moved for at in f.at)]
    return normal(new, fields, layout.why)


def _move(field: Field, moved: dict[int, int]) -> Field:
    targets = [moved[at] for at in field.at]
    order = sorted(range(len(targets)), key=lambda k: targets[k])
    return Field(tuple(targets[k] for k in order), np.transpose(field.labels, order))


def split(layout: Layout, factor: int, sizes: Sequence[int]) -> Layout:
    """``layout``, not in normal form, with one factor written as a product."""
    if len(sizes) == 1:
        return layout
    extra = len(sizes) - 1
    axis = layout.axis_of(factor)
    k = factor - layout.span(axis).start
    new = (*layout.axes[axis][:k], *sizes, *layout.axes[axis][k + 1 :])
    fields: list[Field] = []
    for field in layout.fields:
        at: list[int] = []
        shape: list[int] = []
        for old, size in zip(field.at, field.labels.shape, strict=True):
            at.extend(range(factor, factor + extra + 1) if old == factor else [old if old < factor else old + extra])
            shape.extend(sizes if old == factor else [size])
        fields.append(Field(tuple(at), field.labels.reshape(shape)))
    return Layout((*layout.axes[:axis], new, *layout.axes[axis + 1 :]), tuple(fields), layout.why)


def uncover(layout: Layout, factor: int) -> Layout:
    """``layout``, not in normal form, without labels along ``factor``: along it they must be equal, the first is kept."""
    fields: list[Field] = []
    for field in layout.fields:
        if factor not in field.at:
            fields.append(field)
        elif len(field.at) > 1:
            k = field.at.index(factor)
            fields.append(Field((*field.at[:k], *field.at[k + 1 :]), np.take(field.labels, 0, k)))
    return Layout(layout.axes, tuple(fields), layout.why)


def with_axis(layout: Layout, axis: int, factors: Factors, labels: Labels | None = None) -> Layout:
    """``layout`` with another content of ``axis``, covered by ``labels`` (one factor) or not.

    Fields that cover the axis are dropped; they must not cover another axis too.
    """
    span = layout.span(axis)
    shift = len(factors) - len(span)
    fields = [
        Field(tuple(at if at < span.start else at + shift for at in f.at), f.labels)
        for f in layout.fields
        if not any(at in span for at in f.at)
    ]
    if labels is not None:
        fields.append(Field((span.start,), labels))
    return normal([*layout.axes[:axis], factors, *layout.axes[axis + 1 :]], fields, layout.why)


def sized(layout: Layout, shape: Shape | None) -> Layout:
    """``layout`` with the sizes of ``shape`` where it says less than the shape: an uncovered axis of one unknown factor.

    A name stays: that of the batch, which a Reshape's -1 kept, is of more use than the one that shape inference makes up.
    """
    if shape is None or len(shape) != layout.rank:
        return layout
    axes = [
        (size,) if len(axis) == 1 and _says_less(axis[0], size) and not layout.fields_on(a) else axis
        for a, (axis, size) in enumerate(zip(layout.axes, shape, strict=True))
    ]
    return normal(axes, layout.fields, layout.why)


def _says_less(known: Dim, found: Dim) -> bool:
    return (known is None and found is not None) or (isinstance(known, str) and isinstance(found, int))


def restrict(layout: Layout, removed: NDArray[np.bool_]) -> Layout | None:
    """What is left of ``layout`` when all labels l with ``removed[l]`` go; None if that is not a rectangular tensor."""
    sizes = list(layout.factors)
    fields: list[Field] = []
    for field in layout.fields:
        keeps = keep(field, removed)
        if keeps is None:
            return None
        fields.append(Field(field.at, field.labels[np.ix_(*keeps)]))
        for at, kept in zip(field.at, keeps, strict=True):
            sizes[at] = len(kept)
    rest = iter(sizes)
    return Layout(tuple(tuple(next(rest) for _ in axis) for axis in layout.axes), tuple(fields), layout.why)


def keep(field: Field, removed: NDArray[np.bool_]) -> list[NDArray[np.intp]] | None:
    """For each factor of the field the indices that stay; None if what stays is empty or not their product."""
    kept = ~removed[field.labels]
    found = [np.flatnonzero(kept.any(axis=tuple(k for k in range(kept.ndim) if k != axis))) for axis in range(kept.ndim)]
    if not kept.any() or not kept[np.ix_(*found)].all():
        return None
    return found


def kept_positions(layout: Layout, axis: int, removed: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """The indices along ``axis`` that stay; None if they depend on other axes or the size is not known."""
    size = layout.size(axis)
    if size is None:
        return None
    stays = np.ones(tuple(int(f or 0) for f in layout.axes[axis]), bool)
    span = layout.span(axis)
    for field in layout.fields_on(axis):
        keeps = keep(field, removed)
        if keeps is None:
            return None
        for at, kept in zip(field.at, keeps, strict=True):
            if at in span:
                line = np.zeros(int(layout.factors[at] or 0), bool)
                line[kept] = True
                shape = [1] * stays.ndim
                shape[at - span.start] = -1
                stays &= line.reshape(shape)
    return np.flatnonzero(stays.reshape(-1))
