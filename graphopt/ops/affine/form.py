"""The structure of an affine map, and when composing or adding two of them is exact.

A map takes a tensor with C_in channels to one with C_out. Along each spatial axis it is what ``axis`` describes; across channels
it is a matrix of kernels, of which the structure is known in four ways:

    groups     the matrix is block diagonal, with so many blocks of equal size
    window     nothing but these rows and columns is other than zero (and ``groups`` speaks of the blocks within): the map reads a
               part of the channels, or writes a part
    select     the matrix has one 1 in each row, at the column that is listed (-1: none). Slice, Split, Gather and channel shuffles
               are such maps, and so is the embedding of one operand of a Concat into the whole
    identity   y = x

So a Concat of maps of one tensor is a sum of embedded maps, and a sum of maps whose windows lie along the diagonal is one grouped
map: Split, a convolution for each part and Concat are found to be one grouped convolution.

Networks repeat themselves, and the same few forms meet again and again: what two of them compose to is remembered.

A bias is a number for each output channel; ``uneven`` where it also differs between the phases of a block; ``border`` where it
differs along the spatial axes. The last comes of zero padding behind a bias: the padded zeros do not get the bias. Where the
input's size is known, the map is still a kernel and a constant, one for each element of the output.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from graphopt.ops.affine.axis import MOST_PHASES, PLAIN, Axis, factors, follow, union, unrolled, vanishes

Sizes = tuple[int | None, ...]
"""Spatial sizes of a map's input; None where not known."""

Window = tuple[int, int]

_REMEMBERED = 2**14


@dataclass(frozen=True, slots=True)
class Refused:
    """Why something is not an exact affine map: a code (one a reason) and a sentence."""

    code: str
    why: str


MANY_PHASES = Refused("too-large", f"one element would become a block of more than {MOST_PHASES} along an axis")


@dataclass(frozen=True, slots=True)
class Form:
    """Everything about an affine map but its numbers (see the module's docstring).

    Attributes:
        axis: where the tensors have their channels: 1, or the last.
        axes: the spatial axes; the tensors have two more.
        rows, cols: the window; None for all rows or columns.
        repeated: all phases of a block are equal (nearest resizing, and what works on each position by itself).
        relabels: row f of channel c is channel c * block + f and nothing more, as DepthToSpace has it.
        uniform: the kernel is the same at all taps (average pooling, likewise).
        approximate: it is not exact at the border; the caller asked for that.
        phases: of a block, on each axis.
        block: output elements in a block.
        elements: of the kernel.
        padded: whether it reads zeros beyond its input.
    """

    axis: int
    c_in: int
    c_out: int
    groups: int
    axes: tuple[Axis, ...] = ()
    biased: bool = False
    uneven: bool = False
    border: bool = False
    identity: bool = False
    select: tuple[int, ...] | None = None
    rows: Window | None = None
    cols: Window | None = None
    relabels: bool = False
    repeated: bool = False
    uniform: bool = False
    approximate: bool = False
    phases: tuple[int, ...] = field(init=False, repr=False, compare=False)
    block: int = field(init=False, repr=False, compare=False)
    elements: int = field(init=False, repr=False, compare=False)
    padded: bool = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = (self.axis, self.c_in, self.c_out, self.groups, self.rows, self.cols, self.select)
        flags = (self.biased, self.uneven, self.border, self.identity, self.repeated, self.relabels, self.uniform, self.approximate)
        object.__setattr__(self, "_hash", hash((sizes, self.axes, flags)))
        # Asked for at every turn: kept.
        object.__setattr__(self, "phases", tuple([a.phase for a in self.axes]))
        object.__setattr__(self, "block", math.prod(self.phases))
        (a, b), (c, d) = self.row_window, self.col_window
        object.__setattr__(self, "elements", (b - a) * self.block * ((d - c) // max(self.groups, 1)) * math.prod(self.taps))
        object.__setattr__(self, "padded", any(a.begin > 0 or a.end > 0 for a in self.axes))

    def __hash__(self) -> int:
        return self._hash

    @property
    def rank(self) -> int:
        """Of the tensors."""
        return len(self.axes) + 2

    @property
    def extent(self) -> tuple[int, ...]:
        """Of the kernel, gaps included."""
        return tuple(a.extent for a in self.axes)

    @property
    def taps(self) -> tuple[int, ...]:
        """Of the kernel, on each axis: its extent without the gaps."""
        return tuple(a.taps for a in self.axes)

    @property
    def row_window(self) -> Window:
        """The rows that may be other than zero."""
        return self.rows or (0, self.c_out)

    @property
    def col_window(self) -> Window:
        """The columns that may be other than zero."""
        return self.cols or (0, self.c_in)

    @property
    def pointwise(self) -> bool:
        """Each position by itself."""
        return all(a == PLAIN for a in self.axes)

    @property
    def diagonal(self) -> bool:
        """A scale and a shift per channel, nothing else."""
        full = self.rows is None and self.cols is None
        return self.groups == self.c_in == self.c_out and full and self.select is None and self.pointwise

    def output_size(self, sizes: Sizes) -> Sizes:
        """Spatial sizes of the output."""
        return tuple(None if h is None else a.output(h) for h, a in zip(sizes, self.axes, strict=True))


def pointwise(rank: int, axis: int, channels: int, biased: bool) -> Form:
    """The form of a scale and a shift per channel."""
    return Form(axis, channels, channels, channels, (PLAIN,) * (rank - 2), biased)


def selection(rank: int, axis: int, channels: int, index: Sequence[int]) -> Form:
    """The form of a map whose row o is channel ``index[o]``, or zero where that is -1."""
    rows = [o for o, i in enumerate(index) if i >= 0]
    used = [i for i in index if i >= 0]
    form = Form(axis, channels, len(index), 1, (PLAIN,) * (rank - 2), select=tuple(index))
    if not used:
        return replace(form, rows=(0, 0), cols=(0, 0))
    return _windowed(form, (min(rows), max(rows) + 1), (min(used), max(used) + 1), 1)


def _windowed(form: Form, rows: Window, cols: Window, groups: int) -> Form:
    full = (None if rows == (0, form.c_out) else rows, None if cols == (0, form.c_in) else cols)
    return replace(form, rows=full[0], cols=full[1], groups=groups)


# -- composition -------------------------------------------------------------------------------------------------------------


@lru_cache(_REMEMBERED)
def compose(second: Form, first: Form, sizes: Sizes, approximate: bool = False) -> Form | Refused:
    """``second`` after ``first``, whose input has ``sizes``, if that is exact. ``approximate`` takes it in any case where only the
    border is not exact.
    """
    form = interior(second, first)
    if isinstance(form, Refused) or not second.padded:
        return form
    if not all(map(vanishes, second.axes, first.axes, sizes)):
        refused = Refused("border-continues", "zero padding cuts off what the first kernel computes beyond the border")
    elif first.biased:
        refused = Refused("bias-under-padding", "a bias lies before zero padding: the border of the one kernel would differ")
    else:
        return form
    if approximate:
        return replace(form, approximate=True)
    if refused.code == "bias-under-padding" and all(h is not None for h in sizes):
        return replace(form, border=True)
    return refused


@lru_cache(_REMEMBERED)
def interior(second: Form, first: Form) -> Form | Refused:
    """``second`` after ``first`` away from the border: the form that it would have if padding were no obstacle."""
    if (second.rank, second.axis) != (first.rank, first.axis):
        return Refused("layout", "the two maps take their channels from different axes")
    if second.c_in != first.c_out:
        return Refused("layout", f"{first.c_out} channels meet a map of {second.c_in}")
    axes: list[Axis] = []
    for late, early in zip(second.axes, first.axes, strict=True):
        if late.phase * early.phase > MOST_PHASES:
            return MANY_PHASES
        axis = follow(late, early)
        if axis is None:
            return Refused("phases", "a stride that does not fit the blocks before it")
        axes.append(axis)
    form = Form(
        axis=first.axis,
        c_in=first.c_in,
        c_out=second.c_out,
        groups=1,
        axes=tuple(axes),
        biased=first.biased or second.biased,
        uneven=second.uneven or first.uneven or (first.biased and second.block > 1 and not second.repeated),
        border=first.border or second.border,
        repeated=(first.repeated and second.pointwise) or (second.repeated and first.block == 1),
        uniform=(first.uniform and second.pointwise) or (second.uniform and first.pointwise),
        approximate=first.approximate or second.approximate,
    )
    if second.select is not None and first.select is not None:
        chosen = [first.select[i] if i >= 0 else -1 for i in second.select]
        return selection(first.rank, first.axis, first.c_in, chosen)
    return _windowed(form, *_matrix(second, first))


def _matrix(second: Form, first: Form) -> tuple[Window, Window, int]:
    """Rows, columns and groups of the product of two matrices."""
    if second.select is not None:
        return picked(np.asarray(second.select), first)
    if first.select is not None:
        return scattered(second, np.asarray(first.select))
    if second.diagonal:
        return first.row_window, first.col_window, first.groups
    if first.diagonal:
        return second.row_window, second.col_window, second.groups
    groups = math.gcd(first.groups, second.groups) if second.col_window == first.row_window else 1
    return second.row_window, first.col_window, groups


def picked(index: NDArray[np.int64], first: Form) -> tuple[Window, Window, int]:
    """The rows ``index`` of a map: groups that none of them comes from are left out, the others kept where they stay blocks."""
    (a, b), (c, d) = first.row_window, first.col_window
    inside = (index >= a) & (index < b)
    places = np.flatnonzero(inside)
    if not places.size:
        return (0, 0), (0, 0), 1
    low, high = int(places[0]), int(places[-1]) + 1
    owner = np.where(inside, (index - a) // ((b - a) // first.groups), -1)[low:high]
    lowest, count = int(owner[owner >= 0].min()), int(owner.max() - owner[owner >= 0].min()) + 1
    width = (d - c) // first.groups
    cols = (c + lowest * width, c + (lowest + count) * width)
    for groups in _divisors(count, high - low):
        block = np.repeat(np.arange(groups), (high - low) // groups)
        if np.all((owner < 0) | ((owner - lowest) // (count // groups) == block)):
            return (low, high), cols, groups
    return (low, high), cols, 1


def scattered(second: Form, index: NDArray[np.int64]) -> tuple[Window, Window, int]:
    """A map that reads the channels ``index`` of another tensor; its groups are kept where they stay blocks."""
    c, d = second.col_window
    used = index[c:d]
    if not (used >= 0).any():
        return second.row_window, (0, 0), 1
    low, high = int(used[used >= 0].min()), int(used.max()) + 1
    for groups in _divisors(second.groups, high - low):
        block = np.repeat(np.arange(groups), used.size // groups)
        if np.all((used < 0) | ((used - low) // ((high - low) // groups) == block)):
            return second.row_window, (low, high), groups
    return second.row_window, (low, high), 1


def _divisors(first: int, second: int) -> list[int]:
    """Common divisors, greatest first."""
    common = math.gcd(first, second)
    return [n for n in range(common, 0, -1) if common % n == 0]


# -- sums --------------------------------------------------------------------------------------------------------------------


@lru_cache(_REMEMBERED)
def add(forms: tuple[Form, ...], sizes: Sizes) -> Form | Refused:
    """The sum of maps of one tensor with ``sizes``."""
    lead = forms[0]
    if any((f.rank, f.axis, f.c_in) != (lead.rank, lead.axis, lead.c_in) for f in forms):
        return Refused("layout", "the branches take their channels from different axes")
    if any(f.c_out != lead.c_out for f in forms):
        return Refused("sizes", "the branches have different numbers of channels")
    axes: list[Axis] = []
    for i, size in enumerate(sizes):
        axis = _add_axis([f.axes[i] for f in forms], size)
        if isinstance(axis, Refused):
            return axis
        axes.append(axis)
    form = Form(
        axis=lead.axis,
        c_in=lead.c_in,
        c_out=lead.c_out,
        groups=1,
        axes=tuple(axes),
        biased=any(f.biased for f in forms),
        uneven=any(f.uneven for f in forms),
        border=any(f.border for f in forms),
        repeated=all(f.repeated for f in forms) and len({f.phases for f in forms}) == 1,
        approximate=any(f.approximate for f in forms),
    )
    return _windowed(form, *_joined(forms))


def _add_axis(axes: list[Axis], size: int | None) -> Axis | Refused:
    times = factors(axes)
    if times is None:
        return Refused("strides", "the branches have different strides")
    if times[0] * axes[0].phase > MOST_PHASES:
        return MANY_PHASES
    alike = [unrolled(a, n, size) for a, n in zip(axes, times, strict=True)]
    known = [a for a in alike if a is not None]
    found = union(known, size) if len(known) == len(axes) else None
    if found is None:
        return Refused("sizes", "the branches have different output sizes, or the same by chance of the input's size")
    return found


def _joined(forms: Sequence[Form]) -> tuple[Window, Window, int]:
    """Rows, columns and groups of the sum of several matrices."""
    used = [f for f in forms if f.row_window[0] < f.row_window[1] and f.col_window[0] < f.col_window[1]]
    if not used:
        return (0, 0), (0, 0), 1
    windows = {(f.row_window, f.col_window) for f in used}
    if len(windows) == 1:
        return (*windows.pop(), math.gcd(*(f.groups for f in used)))
    tiles = sorted(used, key=lambda f: f.row_window)
    rows = (tiles[0].row_window[0], max(f.row_window[1] for f in used))
    cols = (min(f.col_window[0] for f in used), max(f.col_window[1] for f in used))
    units = {(_width(f.row_window) / f.groups, _width(f.col_window) / f.groups) for f in tiles}
    along = all(b.row_window[0] == a.row_window[1] and b.col_window[0] == a.col_window[1] for a, b in itertools.pairwise(tiles))
    return rows, cols, sum(f.groups for f in tiles) if along and len(units) == 1 else 1


def _width(window: Window) -> int:
    return window[1] - window[0]
