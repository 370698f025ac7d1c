"""Running a map in float64, and the constant that it adds.

Zero padding behind a bias makes the map's constant differ along the border. That constant is what the map makes of an input of
zeros, computed step by step with the padding of each step.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.ops.affine.form import Form
from graphopt.ops.affine.maps import ULPS, AffineMap, Compose, Kernel, Leaf, Relaid, SumOf, Unbiased, evaluate, magnitudes

Array = NDArray[Any]


def run(form: Form, kernel: Kernel, x: Array) -> Array:
    """A map of ``x`` [C_in, sizes...], channels first: [C_out, sizes...]."""
    sizes = x.shape[1:]
    blocks = [a.blocks(h) for a, h in zip(form.axes, sizes, strict=True)]
    (a, b), (c, d), groups = form.row_window, form.col_window, form.groups
    source, starts = _padded(form, x[c:d], blocks)
    out = np.zeros((form.c_out, form.block, *blocks))
    weight = np.asarray(kernel.weight)
    weight = weight.reshape(groups, -1, (d - c) // groups, *form.taps)
    total = np.zeros(((b - a) * form.block, math.prod(blocks)))
    for tap in itertools.product(*map(range, form.taps)):
        here: tuple[Any, ...] = (..., *tap)
        places = tuple(
            slice(start + t * axis.grid, start + t * axis.grid + axis.stride * (n - 1) + 1, axis.stride)
            for start, t, axis, n in zip(starts, tap, form.axes, blocks, strict=True)
        )
        seen = source[(slice(None), *places)].reshape(groups, (d - c) // groups, -1)
        total += (weight[here] @ seen).reshape(total.shape)
    out[a:b] = total.reshape(b - a, form.block, *blocks)
    out += np.asarray(kernel.bias).reshape(form.c_out, form.block, *([1] * len(blocks)))
    return _interleaved(form, out, sizes)


def _padded(form: Form, x: Array, blocks: list[int]) -> tuple[Array, list[int]]:
    """The input with all zeros that the map reads, and where tap 0 of block 0 lies in it."""
    pads, starts = [(0, 0)], list[int]()
    for axis, size, count in zip(form.axes, x.shape[1:], blocks, strict=True):
        before = max(axis.begin, 0)
        last = axis.stride * (count - 1) - axis.begin + axis.extent - 1
        pads.append((before, max(last - size + 1, 0)))
        starts.append(before - axis.begin)
    return np.pad(x, pads), starts


def _interleaved(form: Form, out: Array, sizes: tuple[int, ...]) -> Array:
    """[C, block, n...] with the phases put between the elements of their axes."""
    n = len(form.axes)
    split = out.reshape(form.c_out, *form.phases, *out.shape[2:])
    order = [0, *(i for k in range(n) for i in (1 + n + k, 1 + k))]
    wide = split.transpose(order).reshape(form.c_out, *(p * s for p, s in zip(form.phases, out.shape[2:], strict=True)))
    return wide[(slice(None), *(slice(a.output(h)) for a, h in zip(form.axes, sizes, strict=True)))]


def constant(top: AffineMap, sizes: tuple[int, ...]) -> Array:
    """What a map makes of zeros of ``sizes``: [C_out, sizes...]."""
    return _constant(top, sizes, {}, {})


def even(top: AffineMap, sizes: tuple[int, ...], unit: float) -> Array | None:
    """The constant [C_out] of a map if it is the same all over but for rounding; ``unit`` is that of the numbers that it comes
    from. A border that was written with a bias is such a one, and one that is cut off again.
    """
    values = constant(top, sizes)
    values = values.reshape(len(values), -1)
    terms = constant(magnitudes(top, {}), sizes).reshape(len(values), -1)
    same = np.ptp(values, axis=1) <= ULPS * unit * terms.max(axis=1)
    return (values.max(axis=1) + values.min(axis=1)) / 2 if values.size and same.all() else None


def _constant(top: AffineMap, sizes: tuple[int, ...], kernels: dict[int, Kernel], memo: dict[int, Array]) -> Array:
    known = memo.get(id(top))
    if known is not None:
        return known
    match top:
        case Leaf():
            known = _spread(top.form, np.asarray(top.build(np).bias), sizes)
        case Compose():
            known = run(top.second.form, evaluate(top.second, np, kernels), _constant(top.first, sizes, kernels, memo))
        case SumOf():
            known = sum(
                (factor * _constant(part, sizes, kernels, memo) for part, factor in top.parts),
                np.zeros(1),
            )
        case Unbiased():
            known = _spread(top.form, np.zeros(top.form.c_out * top.form.block), sizes)
        case Relaid():
            known = _constant(top.inner, sizes, kernels, memo)
    memo[id(top)] = known
    return known


def _spread(form: Form, bias: Array, sizes: tuple[int, ...]) -> Array:
    blocks = [a.blocks(h) for a, h in zip(form.axes, sizes, strict=True)]
    shaped = bias.reshape(form.c_out, form.block, *([1] * len(blocks)))
    return _interleaved(form, np.broadcast_to(shaped, (form.c_out, form.block, *blocks)), sizes)
