"""The operators that can carry an affine map, and what each way costs.

    scale      Mul and Add, for a region without a kernel that is a scale and a shift
    select     Gather or Slice, for a region without a kernel that selects channels
    matrix     Gemm, or MatMul and Add
    conv       Conv; behind it DepthToSpace where the map has phases
    repeat     Conv and Resize, where all phases are equal
    pool       AveragePool and a 1x1 Conv, where the kernel is equal at all taps
    transpose  ConvTranspose, where there was one

Before a convolution that reads a part of the channels only stands a Slice, and behind one whose constant differs along the border
an Add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from graphopt.analysis.affine import Span
from graphopt.ops.affine import PLAIN, Axis, Form, Kernel, evaluate

KERNELS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that multiply with weights: a region with one of them is written as one of them."""

Way = Literal["scale", "select", "matrix", "conv", "repeat", "pool", "transpose"]

_BROADCASTING = 7
_RESIZE = 11
_CRD = 11
"""Operator sets from which Mul and Add broadcast like numpy, Resize has its present form, and DepthToSpace has a mode."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way: how many operators it takes, multiply-accumulates for one run, elements written, and parameters."""

    way: Way
    operators: int
    macs: int
    written: int
    params: int

    @property
    def cost(self) -> int:
        """Multiply-accumulates, elements written and weights read."""
        return self.macs + self.written + self.params


def recipes(
    span: Span, opset: int, shape: tuple[int, ...] | None, *, kernel: bool, transposed: bool, memo: dict[int, Kernel]
) -> list[Recipe]:
    """All ways to write a span whose root has ``shape`` (None: not known, and then no sizes are). ``kernel``: whether one of its
    operators multiplies with weights; ``transposed``: whether one is a ConvTranspose; ``memo``: values of scales and shifts
    that are known already.
    """
    form = span.map.form
    if not kernel:
        return _without_kernel(span, opset, shape, memo)
    if form.axis != 1 or form.rank == 2:
        return [] if form.border or any(a != PLAIN for a in form.axes) else [_matrix(form, shape, len(span.moves))]
    if span.moves:
        return []
    found = [_conv(form, opset, shape), _repeat(form, opset, shape), _pool(form, shape)]
    if transposed:
        found.append(_transpose(form, shape))
    return [one for one in found if one is not None]


def _without_kernel(span: Span, opset: int, shape: tuple[int, ...] | None, memo: dict[int, Kernel]) -> list[Recipe]:
    form = span.map.form
    if form.border or form.identity or span.moves:
        return []
    size = _outputs(form, shape)
    if form.diagonal and opset >= _BROADCASTING:
        both = form.biased and bool(np.any(np.asarray(evaluate(span.map, np, memo).weight) != 1))
        count = 2 if both else 1
        return [Recipe("scale", count, 0, count * size, count * form.c_out)]
    if form.select is not None and form.rows is None and not form.biased:
        return [Recipe("select", 1, 0, size, 0)]
    return []


def _matrix(form: Form, shape: tuple[int, ...] | None, moves: int) -> Recipe:
    positions = 0 if shape is None else math.prod(shape) // max(form.c_in, 1)
    count = 2 if form.biased and form.axis != 1 else 1
    size = form.c_out * form.c_in
    written = positions * (count * form.c_out + moves * form.c_in)
    return Recipe("matrix", count + moves, positions * size, written, size + form.c_out * form.biased)


def dense(form: Form) -> bool:
    """Whether the kernel must be written out for all channels: its window leaves out rows."""
    return form.rows is not None


def _conv(form: Form, opset: int, shape: tuple[int, ...] | None) -> Recipe | None:
    """Conv, and DepthToSpace for phases."""
    if form.block > 1:
        square = len(form.axes) == 2 and len(set(form.phases)) == 1 and not any(a.crop for a in form.axes)
        if not square or (form.groups > 1 and opset < _CRD):
            return None
    return _convolution(form, shape, "conv", form.axes, form.block, form.block > 1)


def _repeat(form: Form, opset: int, shape: tuple[int, ...] | None) -> Recipe | None:
    if not form.repeated or form.block == 1 or any(a.crop for a in form.axes) or opset < _RESIZE or form.uneven:
        return None
    return _convolution(form, shape, "repeat", form.axes, 1, True)


def _pool(form: Form, shape: tuple[int, ...] | None) -> Recipe | None:
    """The pool comes first, so that the convolution sees fewer positions."""
    if not form.uniform or form.block > 1 or form.border or all(a.extent == 1 for a in form.axes):
        return None
    if any(a.begin < 0 or a.end < 0 or a.grid > 1 or max(a.begin, a.end) >= a.extent for a in form.axes):
        return None
    found = _convolution(form, shape, "pool", (PLAIN,) * len(form.axes), 1, True)
    if found is None:
        return None
    return replace(found, written=found.written + _blocks(form, shape) * form.c_in)


def _convolution(
    form: Form, shape: tuple[int, ...] | None, way: Way, axes: tuple[Axis, ...], rows: int, second: bool
) -> Recipe | None:
    """A convolution with ``rows`` rows for each output channel, over ``axes``, with one more operator before or behind it."""
    columns = form.c_in if dense(form) else form.col_window[1] - form.col_window[0]
    groups = 1 if dense(form) else form.groups
    if columns == 0:
        return None
    sliced = columns < form.c_in
    weights = form.c_out * rows * (columns // groups) * math.prod(a.without_negative_pads().taps for a in axes)
    blocks = _blocks(form, shape)
    size = _outputs(form, shape)
    written = blocks * rows * form.c_out + size * (second and way != "pool") + size * form.border
    source = 0 if shape is None else math.prod(shape) // max(shape[1], 1) * columns
    params = weights + form.biased * form.c_out * (1 if form.border else rows)
    if form.border:
        params += size // (shape[0] if shape else 1)
    count = 1 + second + sliced + form.border
    return Recipe(way, count, weights * blocks, written + source * sliced, params)


def _transpose(form: Form, shape: tuple[int, ...] | None) -> Recipe | None:
    if form.uneven or form.border or form.rows is not None or form.cols is not None:
        return None
    kernels = [transposed(a) for a in form.axes]
    if any(a.stride != 1 for a in form.axes) or any(k is None for k in kernels):
        return None
    taps = math.prod(k.taps for k in kernels if k is not None)
    weights = form.c_out * (form.c_in // form.groups) * taps
    positions = 0 if shape is None else math.prod(shape) // max(shape[1], 1)
    params = weights + form.biased * form.c_out
    return Recipe("transpose", 1, weights * positions, _outputs(form, shape), params)


@dataclass(frozen=True, slots=True)
class Transposed:
    """One axis of a ConvTranspose: taps, pads, output padding, the tap of the whole kernel that its first one is, and dilation."""

    taps: int
    begin: int
    end: int
    extra: int
    first: int
    dilation: int


def transposed(axis: Axis) -> Transposed | None:
    """An axis of stride 1 and phase r as that of a ConvTranspose of stride r.

    Tap t of phase f lies at u = f + r * (extent - 1 - t) of a kernel of r * extent taps, with r * (extent - 1 - begin) pads; what
    no phase uses is cut off at either end.
    """
    r, e = axis.phase, axis.extent
    ranges = [axis.tap_range(f) for f in range(r)]
    low = min(f + r * (e - 1 - last) for f, (_, last) in enumerate(ranges))
    high = max(f + r * (e - 1 - first) for f, (first, _) in enumerate(ranges))
    trimmed = low
    begin = r * (e - 1 - axis.begin) - low
    if begin < 0:
        low, begin = low + begin, 0
    wide = high - low + 1
    end = wide - begin - r * (axis.room + 2) + axis.crop
    if end < 0 and -end >= r:
        wide, end = wide - end, 0
    step = axis.fine if (wide - 1) % axis.fine == 0 and low == trimmed else 1
    return Transposed((wide - 1) // step + 1, begin, max(end, 0), max(-end, 0), low, step)


def _blocks(form: Form, shape: tuple[int, ...] | None) -> int:
    if shape is None:
        return 0
    return shape[0] * math.prod(a.blocks(h) for a, h in zip(form.axes, shape[2:], strict=True))


def _outputs(form: Form, shape: tuple[int, ...] | None) -> int:
    if shape is None:
        return 0
    if form.axis != 1:
        return math.prod(shape) // max(shape[form.axis], 1) * form.c_out
    return shape[0] * form.c_out * math.prod(a.output(h) for a, h in zip(form.axes, shape[2:], strict=True))


def weigh(form: Form, top: tuple[int, ...] | None) -> int | None:
    """Multiply-accumulates of a map with an output of shape ``top``, written as plainly as can be; None where that is not known."""
    if top is None or form.select is not None or form.block > 1:
        return None
    weights = form.c_out * (form.c_in // form.groups if form.cols is None else form.col_window[1] - form.col_window[0])
    return weights * math.prod(a.taps for a in form.axes) * (math.prod(top) // max(top[form.axis], 1))
