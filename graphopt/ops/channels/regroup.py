"""Reshape on layouts: regrouping factors, and finding factors that two layouts share.

Reshape keeps the row-major order of elements, so a new axis is a run of old factors. Matching goes axis by axis from both ends:
an axis takes whole factors while their product divides its size, and the head (from the right, the tail) of a factor that its
size divides. Symbolic factors match axes of the same name. What is left between takes part as a whole if one axis is left (that
is Reshape's -1), or if no labels are in it; otherwise its labels are lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ops.channels.layout import Field, Layout, normal, product, split
from graphopt.ops.facts import Dim


@dataclass(frozen=True, slots=True)
class Copy:
    """A dimension of Reshape's target that is the input's axis ``axis``, whatever its size (Reshape's 0)."""

    axis: int


@dataclass(frozen=True, slots=True)
class One:
    """A dimension of Reshape's target that is 1, and all that is left of an axis that had channels."""


Target = Dim | Copy | One


@dataclass(slots=True)
class _Piece:
    """A part of a factor: ``count`` of it, after (from the right: before) what others took."""

    factor: int
    size: Dim


def lost_factors(layout: Layout, target: Sequence[Target]) -> list[int]:
    """The covered factors of ``layout`` whose labels cannot follow it into the shape ``target``."""
    _, middle, axes = _match(layout, target)
    if len(axes) == 1 or not middle:
        return []
    return sorted({p.factor for p in middle if layout.field_at(p.factor) is not None})


def reshaped(layout: Layout, target: Sequence[Target]) -> Layout:
    """``layout`` in the shape ``target``. ``lost_factors`` must be uncovered before."""
    ends, middle, axes = _match(layout, target)
    pieces: dict[int, list[_Piece]] = dict(ends)
    if len(axes) == 1:
        pieces[axes[0]] = middle
    elif axes:
        pieces.update((a, [_Piece(-1, _size(layout, target[a]))]) for a in axes)
    return _assemble(layout, [pieces[a] for a in range(len(target))])


def _size(layout: Layout, target: Target) -> Dim:
    if isinstance(target, One):
        return 1
    return layout.size(target.axis) if isinstance(target, Copy) else target


def _assemble(layout: Layout, axes: Sequence[Sequence[_Piece]]) -> Layout:
    """The layout whose axes are ``axes``: pieces in order; pieces of one factor that follow each other split it."""
    parts: dict[int, list[int]] = {}
    pieces = [p for axis in axes for p in axis if p.factor >= 0]
    times = Counter(p.factor for p in pieces)
    for piece in pieces:
        if times[piece.factor] > 1 or layout.factors[piece.factor] != piece.size:
            parts.setdefault(piece.factor, []).append(int(piece.size or 0))
    fine = layout
    for factor in sorted(parts, reverse=True):
        fine = split(fine, factor, parts[factor])
    # The factors of `fine` come in the order of the pieces; a piece of factor -1 stands for factors without labels.
    if all(p.factor >= 0 for axis in axes for p in axis):
        return normal([[p.size for p in axis] for axis in axes], fine.fields, layout.why)
    first: dict[int, int] = {}
    at = 0
    for factor in range(len(layout.factors)):
        first[factor] = at
        at += len(parts.get(factor, [0]))
    moved: dict[int, int] = {}
    seen = dict.fromkeys(first, 0)
    for count, piece in enumerate(p for axis in axes for p in axis):
        if piece.factor >= 0:
            moved[first[piece.factor] + seen[piece.factor]] = count
            seen[piece.factor] += 1
    fields = [Field(tuple(moved[k] for k in f.at), f.labels) for f in fine.fields if all(k in moved for k in f.at)]
    return normal([[p.size for p in axis] for axis in axes], fields, layout.why)


def _match(layout: Layout, target: Sequence[Target]) -> tuple[dict[int, list[_Piece]], list[_Piece], list[int]]:
    """Pieces of the axes matched from either end, the pieces between, and the axes between."""
    pool = [_Piece(k, size) for k, size in enumerate(layout.factors)]
    found: dict[int, list[_Piece]] = {}
    axes = list(range(len(target)))
    for right in (False, True):
        while axes:
            axis = axes[-1 if right else 0]
            taken = _take(layout, pool, target[axis], right)
            if taken is None:
                break
            got, pool = taken
            found[axis] = got
            axes.pop(-1 if right else 0)
    return found, pool, axes


def _take(layout: Layout, pool: list[_Piece], want: Target, right: bool) -> tuple[list[_Piece], list[_Piece]] | None:
    """The pieces at one end of ``pool`` that make up one axis, and the rest; None if they do not."""
    if isinstance(want, Copy):
        span = layout.span(want.axis)
        ends = pool[len(pool) - len(span) :] if right else pool[: len(span)]
        if [(p.factor, p.size) for p in ends] != [(k, layout.factors[k]) for k in span]:
            return None
        return ends, pool[: len(pool) - len(span)] if right else pool[len(span) :]
    rest = pool[::-1] if right else list(pool)
    if isinstance(want, One):
        got = [_left_of_one(layout, rest, right)]
    elif isinstance(want, str):
        if not rest or rest[0].size != want:
            return None
        got = [rest.pop(0)]
    elif isinstance(want, int):
        taken = _take_number(rest, want)
        if taken is None:
            return None
        got = taken
    else:
        return None
    return (got[::-1], rest[::-1]) if right else (got, rest)


def _left_of_one(layout: Layout, rest: list[_Piece], right: bool) -> _Piece:
    """The piece for an axis of which one channel is left: a factor of size 1, or 1 x of the factor that its neighbour takes."""
    if rest and rest[0].size == 1:
        return rest.pop(0)
    if rest and layout.field_at(rest[0].factor) is not None:
        return _Piece(rest[0].factor, 1)
    before = (rest[0].factor + (1 if right else -1)) if rest else (0 if right else len(layout.factors) - 1)
    covered = 0 <= before < len(layout.factors) and layout.field_at(before) is not None
    return _Piece(before if covered else -1, 1)


def _take_number(rest: list[_Piece], want: int) -> list[_Piece] | None:
    got: list[_Piece] = []
    if want == 1 and rest and rest[0].size == 1:
        return [rest.pop(0)]  # a width that was pruned to one
    while want != 1:
        head = rest[0] if rest else None
        if head is None or not isinstance(head.size, int) or head.size == 0 or want == 0:
            return None
        if want % head.size == 0:
            got.append(rest.pop(0))
            want //= head.size
        elif head.size % want == 0:
            rest[0] = _Piece(head.factor, head.size // want)
            got.append(_Piece(head.factor, want))
            want = 1
        else:
            return None
    return got


def common(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[list[list[int]], list[list[int]]] | None:
    """How to split the factors of two axes of equal size so that they agree, factor by factor; None if they cannot.

    A factor that need not be split (a symbolic one always) has an empty list.
    """
    splits: tuple[list[list[int]], list[list[int]]] = ([[] for _ in a], [[] for _ in b])
    i = j = 0
    left: Dim = a[0] if a else 1
    right: Dim = b[0] if b else 1
    while i < len(a) and j < len(b):
        step = _common_step(left, right)
        if step is None:
            return None
        if isinstance(left, int) and isinstance(right, int):
            splits[0][i].append(step)
            splits[1][j].append(step)
            left, right = left // step, right // step
        else:
            left = right = 1
        if left == 1:
            i += 1
            left = a[i] if i < len(a) else 1
        if right == 1:
            j += 1
            right = b[j] if j < len(b) else 1
    if product(a[i:]) != 1 or product(b[j:]) != 1:
        return None
    return splits


def _common_step(left: Dim, right: Dim) -> int | None:
    if isinstance(left, int) and isinstance(right, int) and left > 0 and right > 0:
        small, big = sorted((left, right))
        return small if big % small == 0 else None
    return 1 if left is not None and left == right else None


def refine(layout: Layout, axis: int, splits: Sequence[Sequence[int]]) -> Layout:
    """``layout``, not in normal form, with the factors of ``axis`` split as ``common`` said."""
    for factor, sizes in reversed(list(zip(layout.span(axis), splits, strict=True))):
        layout = split(layout, factor, sizes) if sizes else layout
    return layout
