"""The numbers of an affine map, as an expression over an array namespace.

Nothing is computed until ``evaluate``: a map is a leaf (an operator's own weights), a composition or a sum. The expression is the
provenance of a folded kernel: its leaves name their source tensors, and it runs over numpy (in float64) as it runs over torch
(under automatic differentiation), since it uses nothing but reshape, matmul, slices and sums.

A kernel has one row for each output channel and phase, channels first: for a block of 2 x 2, row 4 * o + 2 * f + g is phase (f, g)
of channel o. It is stored for the window of its form only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphopt.ops.affine.axis import laid, places
from graphopt.ops.affine.form import Form, Refused, Sizes, add, compose, pointwise, selection

ULPS = 16.0
"""Units in the last place, of the sum of the magnitudes of what a number is the sum of, below which it counts as rounding."""

LARGEST = 2**28
"""Elements of a kernel that is made: 2 GiB in float64."""

Array = Any
"""An array of the namespace: numpy.ndarray, torch.Tensor."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Values of a map: ``weight`` [rows * block, columns / groups, taps...] for the rows and columns of the form's window, and
    ``bias`` [C_out * block]. The gaps of a dilated kernel are not stored.
    """

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Leaf:
    """One operator's map. ``build`` makes the values over a namespace; ``sources`` name the tensors that they come from. ``label``
    stands for it in a formula.
    """

    form: Form
    build: Callable[[Any], Kernel]
    sources: tuple[str, ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True)
class Compose:
    """``second`` after ``first``."""

    form: Form
    second: AffineMap
    first: AffineMap


@dataclass(frozen=True, slots=True)
class SumOf:
    """A weighted sum of maps of one tensor."""

    form: Form
    parts: tuple[tuple[AffineMap, float], ...]


@dataclass(frozen=True, slots=True)
class Unbiased:
    """A map whose bias is zero but for the rounding of the numbers that it comes from."""

    form: Form
    inner: AffineMap


@dataclass(frozen=True, slots=True)
class Relaid:
    """A map that works on each position by itself, for tensors of other axes."""

    form: Form
    inner: AffineMap


AffineMap = Leaf | Compose | SumOf | Unbiased | Relaid


def identity_of(rank: int, axis: int, channels: int) -> Leaf:
    """The map that leaves a tensor as it is."""
    form = replace(pointwise(rank, axis, channels, biased=False), identity=True)

    def build(xp: Any) -> Kernel:
        weight = xp.zeros((channels, 1, *form.taps), dtype=xp.float64) + 1.0
        return Kernel(weight, xp.zeros((channels,), dtype=xp.float64))

    return Leaf(form, build, label="I")


def select(rank: int, axis: int, channels: int, index: Sequence[int]) -> Leaf:
    """Channels by number; -1 for zero."""
    form = selection(rank, axis, channels, index)
    (a, b), (c, d) = form.row_window, form.col_window
    places = [(o, i) for o, i in enumerate(index) if i >= 0]

    def build(xp: Any) -> Kernel:
        weight = xp.zeros((b - a, d - c, *form.taps), dtype=xp.float64)
        for o, i in places:
            weight[o - a, i - c] = 1.0
        return Kernel(weight, xp.zeros((form.c_out,), dtype=xp.float64))

    return Leaf(form, build, label="select")


def relaid(step: Leaf, rank: int, axis: int) -> Leaf:
    """A step that works on each position by itself, for tensors of ``rank`` with their channels at ``axis``."""
    form = replace(step.form, axis=axis, axes=pointwise(rank, axis, 1, biased=False).axes)

    def build(xp: Any) -> Kernel:
        kernel = step.build(xp)
        return Kernel(_reshaped(kernel.weight, form), kernel.bias)

    return replace(step, form=form, build=build)


def _reshaped(weight: Array, form: Form) -> Array:
    return weight.reshape(*weight.shape[:2], *form.taps)


def composed(second: AffineMap, first: AffineMap, sizes: Sizes, approximate: bool = False) -> AffineMap | Refused:
    """``second`` after ``first`` if that is exact; the identity composes to the other map itself."""
    form = compose(second.form, first.form, sizes, approximate)
    if isinstance(form, Refused):
        return form
    if second.form.identity:
        return first
    if first.form.identity:
        return second
    if form.elements > LARGEST and not form.uniform:
        return Refused("too-large", f"its kernel would have {form.elements} elements")
    return select(form.rank, form.axis, form.c_in, form.select) if form.select is not None else Compose(form, second, first)


def summed(parts: Sequence[tuple[AffineMap, float]], sizes: Sizes) -> AffineMap | Refused:
    """The weighted sum of ``parts`` if they can be one map."""
    form = add(tuple(p.form for p, _ in parts), sizes)
    if isinstance(form, Form) and form.elements > LARGEST:
        return Refused("too-large", f"its kernel would have {form.elements} elements")
    return form if isinstance(form, Refused) else SumOf(form, tuple(parts))


def evaluate(top: AffineMap, xp: Any = np, memo: dict[int, Kernel] | None = None) -> Kernel:
    """The values of a map over the namespace ``xp`` (numpy, or torch), in float64."""
    memo = {} if memo is None else memo
    known = memo.get(id(top))
    if known is None:
        match top:
            case Leaf():
                known = top.build(xp)
            case Compose():
                known = _compose(top, evaluate(top.second, xp, memo), evaluate(top.first, xp, memo), xp)
            case SumOf():
                known = _sum(top, [evaluate(p, xp, memo) for p, _ in top.parts], xp)
            case Unbiased():
                inner = evaluate(top.inner, xp, memo)
                known = Kernel(inner.weight, xp.zeros((len(inner.bias),), dtype=xp.float64))
            case Relaid():
                inner = evaluate(top.inner, xp, memo)
                known = Kernel(_reshaped(inner.weight, top.form), inner.bias)
        memo[id(top)] = known
    return known


def averaged(top: AffineMap) -> AffineMap | None:
    """What remains of a ``uniform`` map behind the mean over its window: a map of each position by itself, that is, a matrix.
    So the mean of a whole image is never multiplied into a matrix tap by tap. None where the map is not such a product.
    """
    if not top.form.uniform or top.form.pointwise:
        return top if top.form.pointwise else None
    match top:
        case Leaf():
            return identity_of(top.form.rank, top.form.axis, top.form.c_in)
        case Compose():
            second, first = averaged(top.second), averaged(top.first)
            made = None if second is None or first is None else composed(second, first, (None,) * len(top.form.axes))
            return None if isinstance(made, Refused) else made
        case Unbiased():
            inner = averaged(top.inner)
            return None if inner is None else Unbiased(replace(inner.form, biased=False, uneven=False), inner)
        case _:
            return None


def rewindowed(weight: Array, form: Form, wanted: Form, xp: Any) -> Array:
    """The kernel of a map of each position by itself with the window and the groups of another form of that map."""
    if (form.row_window, form.col_window, form.groups) == (wanted.row_window, wanted.col_window, wanted.groups):
        return weight
    (a, b), (c, d), groups = wanted.row_window, wanted.col_window, wanted.groups
    full = xp.zeros((form.c_out, form.c_in), dtype=xp.float64)
    rows, cols = slice(*form.row_window), slice(*form.col_window)
    full[rows, cols] = coarsen(weight, form.groups, 1, xp).reshape(rows.stop - rows.start, cols.stop - cols.start)
    height, width = (b - a) // groups, (d - c) // groups
    cut = full[a:b, c:d].reshape(groups, height, groups, width)
    return xp.stack([cut[g, :, g] for g in range(groups)]).reshape(b - a, width, *((1,) * len(wanted.axes)))


def unbiased(whole: AffineMap, unit: float) -> AffineMap | None:
    """``whole`` without its bias, if that is nothing but the rounding of the numbers that it comes from: at most ``ULPS`` units in
    the last place (``unit``) of the sum of the terms' magnitudes. Training code that pads with the bias writes x - b, padding, + b.
    """
    form = whole.form
    if form.border or not form.biased:
        return None
    rest = np.abs(np.asarray(_bias(whole, np, {}, {}))).max(initial=0.0)
    terms = np.abs(np.asarray(_bias(magnitudes(whole, {}), np, {}, {}))).max(initial=0.0)
    return Unbiased(replace(form, biased=False, uneven=False), whole) if rest <= ULPS * unit * terms else None


def magnitudes(top: AffineMap, memo: dict[int, AffineMap]) -> AffineMap:
    """The map with all numbers replaced by their magnitudes."""
    known = memo.get(id(top))
    if known is None:
        match top:
            case Leaf():
                known = Leaf(top.form, lambda xp: _magnitude(top.build(xp), xp))
            case Compose():
                known = Compose(top.form, magnitudes(top.second, memo), magnitudes(top.first, memo))
            case SumOf():
                known = SumOf(top.form, tuple((magnitudes(p, memo), abs(factor)) for p, factor in top.parts))
            case Unbiased():
                known = Unbiased(top.form, magnitudes(top.inner, memo))
            case Relaid():
                known = Relaid(top.form, magnitudes(top.inner, memo))
        memo[id(top)] = known
    return known


def _magnitude(kernel: Kernel, xp: Any) -> Kernel:
    return Kernel(xp.abs(kernel.weight), xp.abs(kernel.bias))


# -- composition -------------------------------------------------------------------------------------------------------------


def _compose(top: Compose, second: Kernel, first: Kernel, xp: Any) -> Kernel:
    f1, f2 = top.first.form, top.second.form
    if f2.select is not None:
        return _pick(top.form, f2.select, f1, first, xp)
    if f1.select is not None:
        return _scatter(top.form, f2, second, f1.select, xp)
    if f2.diagonal:
        return _scale_outputs(f1, first, second)
    if f1.diagonal:
        return _scale_inputs(f2, second, first)
    if f2.relabels and f1.block == 1 and f1.rows is None:
        return Kernel(coarsen(first.weight, f1.groups, top.form.groups, xp), first.bias + second.bias)
    return _multiply(top.form, f2, second, f1, first, xp)


def _multiply(form: Form, f2: Form, second: Kernel, f1: Form, first: Kernel, xp: Any) -> Kernel:
    """The general product: over all taps of the second map, its matrix times the kernel of the first one's phase there."""
    groups = form.groups
    (a, b), (c, d) = f1.row_window, f2.col_window
    k1 = coarsen(first.weight, f1.groups, groups, xp).reshape(groups, (b - a) // groups, f1.block, -1)
    k2 = coarsen(second.weight, f2.groups, groups, xp)
    rows, width = (f2.row_window[1] - f2.row_window[0]) // groups, (d - c) // groups
    k2 = k2.reshape(groups, rows * f2.block, width, *f2.taps)
    columns = (f1.col_window[1] - f1.col_window[0]) // groups
    low, high = max(a, c), max(min(b, d), max(a, c))
    inner = k2 if groups > 1 else k2[:, :, low - c : high - c]
    k1 = k1 if groups > 1 else k1[:, low - a : high - a]
    steps, blocks = _steps(f2, f1)
    weight = xp.zeros((groups, rows, *blocks, columns, *form.taps), dtype=xp.float64)
    for step in itertools.product(*map(range, steps)):
        for tap in _taps(f2):
            found = [places(x2, x1, u, t * x2.grid) for x2, x1, u, t in zip(f2.axes, f1.axes, step, tap, strict=True)]
            phase = _flat([f for _, f in found], f1.phases)
            at = (slice(None), slice(None), *(i for u in step for i in (u, slice(None))))
            place = tuple(laid(y, x, q * x.stride) for y, x, (q, _) in zip(form.axes, f1.axes, found, strict=True))
            part = inner[(..., *tap)] @ k1[:, :, phase]
            weight[(*at, slice(None), *place)] += part.reshape(groups, rows, *f2.phases, columns, *f1.taps)
    r, s = f2.row_window
    bias = _shift(f2, second, f1, first.bias if f1.biased else None, xp)
    return Kernel(weight.reshape((s - r) * form.block, columns, *form.taps), bias)


def _steps(f2: Form, f1: Form) -> tuple[list[int], list[int]]:
    """Over how many outputs of the second map the phases of the first one repeat, and the phases of the product, axis by axis."""
    steps = [a1.phase // math.gcd(a1.phase, a2.stride) for a1, a2 in zip(f1.axes, f2.axes, strict=True)]
    return steps, [n for pair in zip(steps, f2.phases, strict=True) for n in pair]


def _taps(form: Form) -> Iterator[tuple[int, ...]]:
    """The numbers of the taps; number t lies at t * grid."""
    return itertools.product(*map(range, form.taps))


def _shift(f2: Form, second: Kernel, f1: Form, bias: Array | None, xp: Any) -> Array:
    """The bias of the general product: the second map's own, and its matrix, over all taps, times the first one's."""
    steps, blocks = _steps(f2, f1)
    whole = xp.zeros((f2.c_out, *blocks), dtype=xp.float64) + second.bias.reshape(f2.c_out, *(n for p in f2.phases for n in (1, p)))
    if bias is not None:
        (a, b), (c, d), groups = f2.row_window, f2.col_window, f2.groups
        k2 = second.weight.reshape(groups, (b - a) // groups * f2.block, (d - c) // groups, *f2.taps)
        b1 = bias.reshape(f1.c_out, f1.block)[c:d].reshape(groups, (d - c) // groups, f1.block)
        for step in itertools.product(*map(range, steps)):
            at = (slice(a, b), *(i for u in step for i in (u, slice(None))))
            for tap in _taps(f2):
                found = [places(x2, x1, u, t * x2.grid)[1] for x2, x1, u, t in zip(f2.axes, f1.axes, step, tap, strict=True)]
                part = k2[(..., *tap)] @ b1[:, :, _flat(found, f1.phases)].reshape(groups, -1, 1)
                whole[at] += part.reshape(b - a, *f2.phases)
    return whole.reshape(-1)


def _bias(top: AffineMap, xp: Any, memo: dict[int, Kernel], known: dict[int, Array]) -> Array:
    """The bias of a map by itself: no kernels are multiplied for it."""
    found = known.get(id(top))
    if found is None:
        form = top.form
        match top:
            case Compose() if form.biased and not form.select:
                found = _bias_of_product(top, xp, memo, known)
            case SumOf() if form.biased:
                found = _sum_of_biases(top, [_bias(part, xp, memo, known) for part, _ in top.parts], xp)
            case Relaid() if form.biased:
                found = _bias(top.inner, xp, memo, known)
            case _:
                found = evaluate(top, xp, memo).bias if form.biased else xp.zeros((form.c_out * form.block,), dtype=xp.float64)
        known[id(top)] = found
    return found


def _bias_of_product(top: Compose, xp: Any, memo: dict[int, Kernel], known: dict[int, Array]) -> Array:
    f2, f1 = top.second.form, top.first.form
    first = _bias(top.first, xp, memo, known) if f1.biased else None
    if f2.select is not None:
        index = xp.asarray(np.asarray(f2.select))
        rows = xp.zeros((f1.c_out * f1.block,), dtype=xp.float64) if first is None else first
        return (rows.reshape(f1.c_out, f1.block)[index] * (index >= 0).reshape(-1, 1)).reshape(-1)
    if isinstance(top.second, Leaf) and f2.uniform and f1.block == 1:  # the mean of a constant
        return _bias(top.first, xp, memo, known)
    return _shift(f2, evaluate(top.second, xp, memo), f1, first, xp)


def _flat(index: Sequence[int], sizes: Sequence[int]) -> int:
    place = 0
    for i, size in zip(index, sizes, strict=True):
        place = place * size + i
    return place


def _scale_outputs(form: Form, kernel: Kernel, scale: Kernel) -> Kernel:
    """diag(scale) after a map."""
    a, b = form.row_window
    factor = scale.weight.reshape(-1, 1)
    weight = (kernel.weight.reshape(b - a, -1) * factor[a:b]).reshape(kernel.weight.shape)
    bias = kernel.bias.reshape(form.c_out, form.block) * factor + scale.bias.reshape(-1, 1)
    return Kernel(weight, bias.reshape(-1))


def _scale_inputs(form: Form, kernel: Kernel, scale: Kernel) -> Kernel:
    """A map after diag(scale)."""
    (a, b), (c, d), groups = form.row_window, form.col_window, form.groups
    factor, shift = scale.weight.reshape(-1)[c:d], scale.bias[c:d]
    width = (d - c) // groups
    blocks = kernel.weight.reshape(groups, (b - a) * form.block // groups, width, -1)
    weight = (blocks * factor.reshape(groups, 1, width, 1)).reshape(kernel.weight.shape)
    added = (blocks.sum(-1) @ shift.reshape(groups, width, 1)).reshape(-1)
    bias = kernel.bias + 0.0 * kernel.bias
    bias[a * form.block : b * form.block] += added
    return Kernel(weight, bias)


def _pick(form: Form, index: tuple[int, ...], f1: Form, first: Kernel, xp: Any) -> Kernel:
    """The rows ``index`` of a map, each placed among the columns of the group that it falls into."""
    (a, b), (c, d), block = f1.row_window, f1.col_window, f1.block
    (low, high), (left, right) = form.row_window, form.col_window
    old, new = (d - c) // f1.groups, (right - left) // form.groups
    source = first.weight.reshape(b - a, -1, *f1.taps)
    source = source.reshape(b - a, block, old, *f1.taps)
    weight = xp.zeros((high - low, block, new, *form.taps), dtype=xp.float64)
    moves: dict[int, tuple[list[int], list[int]]] = {}
    for o in range(low, high):
        if a <= index[o] < b:
            start = c + (index[o] - a) // ((b - a) // f1.groups) * old
            shift = start - left - (o - low) // ((high - low) // form.groups) * new
            to, origin = moves.setdefault(shift, ([], []))
            to.append(o - low)
            origin.append(index[o] - a)
    for shift, (to, origin) in moves.items():
        weight[to, :, shift : shift + old] = source[origin]
    rows = [i for i in index if i >= 0]
    bias = xp.zeros((form.c_out, block), dtype=xp.float64)
    bias[[o for o, i in enumerate(index) if i >= 0]] = first.bias.reshape(f1.c_out, block)[rows]
    return Kernel(weight.reshape((high - low) * block, new, *form.taps), bias.reshape(-1))


def _scatter(form: Form, f2: Form, second: Kernel, index: tuple[int, ...], xp: Any) -> Kernel:
    """A map of the channels ``index`` of another tensor, as a map of all of that."""
    (a, b), (c, d), (left, right) = f2.row_window, f2.col_window, form.col_window
    old, new = (d - c) // f2.groups, (right - left) // form.groups
    rows = (b - a) * f2.block // f2.groups
    weight = xp.zeros(((b - a) * f2.block, new, *f2.taps), dtype=xp.float64)
    for group in range(f2.groups):
        start = left + group * form.groups // f2.groups * new
        here = slice(group * rows, (group + 1) * rows)
        used = [(m, i - start) for m, i in enumerate(index[c + group * old : c + (group + 1) * old]) if i >= 0]
        if len({i for _, i in used}) == len(used):
            weight[here, [i for _, i in used]] = second.weight[here, [m for m, _ in used]]
        else:  # a channel that is read twice
            for m, i in used:
                weight[here, i] += second.weight[here, m]
    return Kernel(weight, second.bias)


# -- sums --------------------------------------------------------------------------------------------------------------------


def _sum(top: SumOf, kernels: Sequence[Kernel], xp: Any) -> Kernel:
    form = top.form
    rows, columns = form.row_window[1] - form.row_window[0], (form.col_window[1] - form.col_window[0]) // form.groups
    total = xp.zeros((1,), dtype=xp.float64)
    weights: dict[tuple[int, ...], Array] = {}
    for (part, sign), kernel in zip(top.parts, kernels, strict=True):
        inner = part.form
        times = [n // p for n, p in zip(form.phases, inner.phases, strict=True)]
        blocks = [n for pair in zip(times, inner.phases, strict=True) for n in pair]
        split = tuple(blocks)
        if split not in weights:
            weights[split] = xp.zeros((rows, *blocks, columns, *form.taps), dtype=xp.float64)
        weight, here, there = _embedded(form, inner, kernel.weight, xp)
        weight = weight.reshape(-1, *inner.phases, weight.shape[1], *inner.taps)
        for step in itertools.product(*map(range, times)):
            at = tuple(i for u in step for i in (u, slice(None)))
            place = tuple(
                laid(big, small, big.begin - small.begin + small.stride * u)
                for big, small, u in zip(form.axes, inner.axes, step, strict=True)
            )
            weights[split][(here, *at, there, *place)] += sign * weight
    weight = sum((w.reshape(rows * form.block, columns, *form.taps) for w in weights.values()), total)
    return Kernel(weight, _sum_of_biases(top, [k.bias for k in kernels], xp))


def _sum_of_biases(top: SumOf, biases: Sequence[Array], xp: Any) -> Array:
    form = top.form
    total = xp.zeros((form.c_out * form.block,), dtype=xp.float64)
    for (part, sign), bias in zip(top.parts, biases, strict=True):
        inner = part.form
        times = [n // p for n, p in zip(form.phases, inner.phases, strict=True)]
        spread = xp.zeros((form.c_out, *(n for pair in zip(times, inner.phases, strict=True) for n in pair)), dtype=xp.float64)
        spread = spread + bias.reshape(form.c_out, *(n for p in inner.phases for n in (1, p)))
        total = total + sign * spread.reshape(-1)
    return total


def _embedded(form: Form, inner: Form, weight: Array, xp: Any) -> tuple[Array, slice, slice]:
    """A summand's kernel with the groups of the sum, and the rows and columns of the sum's window where it lies."""
    (a, b), (c, d) = inner.row_window, inner.col_window
    row, column = a - form.row_window[0], c - form.col_window[0]
    here = slice(row, row + b - a)
    if (form.row_window, form.col_window) == ((a, b), (c, d)):
        return coarsen(weight, inner.groups, form.groups, xp), here, slice(None)
    if form.groups > 1:  # a tile of the diagonal, or nothing at all
        return weight, here, slice(0, weight.shape[1])
    dense = coarsen(weight, inner.groups, 1, xp)
    return dense, here, slice(column, column + dense.shape[1])


def coarsen(weight: Array, groups: int, fewer: int, xp: Any) -> Array:
    """The same map with fewer groups: each block of ``groups // fewer`` groups becomes one with a block-diagonal kernel."""
    if groups == fewer:
        return weight
    c_out, width, *extent = weight.shape
    ratio, rows = groups // fewer, c_out // groups
    wide = xp.zeros((c_out, width * ratio, *extent), dtype=xp.float64)
    for group in range(groups):
        column = (group % ratio) * width
        here = slice(group * rows, (group + 1) * rows)
        wide[here, column : column + width] = weight[here]
    return wide
