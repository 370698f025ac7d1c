"""The operators that can carry an affine map, and what each way costs.

    scale      Mul and Add, for a region without a kernel that is a scale and a shift
    select     Gather or Slice, for a region without a kernel that selects channels
    matrix     Gemm, or MatMul and Add
    conv       Conv; behind it DepthToSpace where the map has phases
    repeat     Conv and Resize, where all phases are equal
    pool       AveragePool, or GlobalAveragePool, and a 1x1 Conv, where the kernel is equal at all taps
    transpose  ConvTranspose, where there was one

Before a convolution that reads a part of the channels only stands a Slice, and behind one whose constant differs along the border
an Add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from graphopt.analysis.affine import Span
from graphopt.ops.affine import PLAIN, AffineMap, Axis, Compose, Form, Leaf, Relaid, Unbiased
from graphopt.passes.fold.price import Price, Step

Way = Literal["scale", "select", "matrix", "conv", "repeat", "pool", "transpose"]

Written = tuple[Way, list[Step]]

_BROADCASTING = 7
_RESIZE = 11
_CRD = 11
"""Operator sets from which Mul and Add broadcast like numpy, Resize has its present form, and DepthToSpace has a mode."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way: its operators, and what they cost together.

    Attributes:
        macs: multiply-accumulates for one run.
        written: elements written.
        params: elements of weights.
    """

    way: Way
    steps: tuple[Step, ...]
    cost: float
    macs: int = field(init=False)
    written: int = field(init=False)
    params: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "macs", sum([s.macs for s in self.steps]))
        object.__setattr__(self, "written", sum([s.written for s in self.steps]))
        object.__setattr__(self, "params", sum([s.params for s in self.steps]))

    @property
    def operators(self) -> int:
        """How many there are."""
        return len(self.steps)


class Recipes:
    """The ways for one model. What a region costs depends on its form and on the size of its root alone (and, without a kernel, on
    whether it scales), and networks repeat themselves: each is priced once.

    Args:
        opset: of the model.
        price: of an operator.
    """

    def __init__(self, opset: int, price: Price) -> None:
        self._opset = opset
        self._price = price
        self._scaling: dict[int, bool] = {}
        self._known: dict[tuple[Form, tuple[int, ...] | None, str, int], list[Recipe]] = {}

    def of(self, span: Span, shape: tuple[int, ...] | None, *, kernel: bool, transposed: bool) -> list[Recipe]:
        """All ways to write a span whose root has ``shape`` (None: not known, and then no sizes are). ``kernel``: whether one of
        its operators multiplies with weights; ``transposed``: whether one is a ConvTranspose.
        """
        form, moves = span.map.form, len(span.moves)
        if kernel:
            kind = "transposed" if transposed else "kernel"
        else:
            kind = "scale" if form.biased and _scales(span.map, self._scaling) else "shift"
        known = self._known.get((form, shape, kind, moves))
        if known is None:
            written = _with_kernel(form, self._opset, shape, transposed, moves) if kernel else []
            if not kernel and not moves:
                written = _without_kernel(form, self._opset, shape, scales=kind == "scale")
            known = self._known[form, shape, kind, moves] = self._priced(written)
        return known

    def _priced(self, found: list[Written]) -> list[Recipe]:
        return [Recipe(way, tuple(steps), sum(map(self._price, steps))) for way, steps in found]


def _with_kernel(form: Form, opset: int, shape: tuple[int, ...] | None, transposed: bool, moves: int) -> list[Written]:
    if form.axis != 1 or form.rank == 2:
        return [] if form.border or any(a != PLAIN for a in form.axes) else [_matrix(form, shape, moves)]
    if moves:
        return []
    found = [_conv(form, opset, shape), _repeat(form, opset, shape), _pool(form, shape)]
    if transposed:
        found.append(_transpose(form, shape))
    return [one for one in found if one is not None]


def _without_kernel(form: Form, opset: int, shape: tuple[int, ...] | None, *, scales: bool) -> list[Written]:
    if form.border or form.identity:
        return []
    size = _outputs(form, shape)
    if form.diagonal and opset >= _BROADCASTING:
        ops = ("Mul",) if not form.biased else ("Mul", "Add") if scales else ("Add",)
        return [("scale", [Step(op, size, params=form.c_out, read=size) for op in ops])]
    if form.select is not None and form.rows is None and not form.biased:
        return [("select", [Step("Gather", size, read=_elements(shape))])]
    return []


def _scales(top: AffineMap, known: dict[int, bool]) -> bool:
    """Whether a diagonal map multiplies by anything, as far as its parts tell: two factors may still come to one."""
    found = known.get(id(top))
    if found is None:
        match top:
            case Leaf():
                found = not top.form.identity and bool(np.any(np.asarray(top.build(np).weight) != 1))
            case Compose():
                found = _scales(top.second, known) or _scales(top.first, known)
            case Unbiased() | Relaid():
                found = _scales(top.inner, known)
            case _:
                found = True
        known[id(top)] = found
    return found


def _matrix(form: Form, shape: tuple[int, ...] | None, moves: int) -> Written:
    positions = 0 if shape is None else math.prod(shape) // max(form.c_in, 1)
    size, wide, read = form.c_out * form.c_in, positions * form.c_out, positions * form.c_in
    apart = form.biased and form.axis != 1
    params = size + form.c_out * (form.biased and not apart)
    op = "Gemm" if form.axis == 1 else "MatMul"
    steps = [Step("Reshape", read, read=read)] * moves
    steps.append(Step(op, wide, positions * size, params, channels=form.c_out, read=read))
    return "matrix", [*steps, *([Step("Add", wide, params=form.c_out, read=wide)] if apart else [])]


def dense(form: Form) -> bool:
    """Whether the kernel must be written out for all channels: its window leaves out rows."""
    return form.rows is not None


def _conv(form: Form, opset: int, shape: tuple[int, ...] | None) -> Written | None:
    """Conv, and DepthToSpace for phases."""
    if form.block > 1:
        square = len(form.axes) == 2 and len(set(form.phases)) == 1 and not any(a.crop for a in form.axes)
        if not square or (form.groups > 1 and opset < _CRD):
            return None
    steps = _convolution(form, shape, form.axes, form.block)
    if steps is None:
        return None
    size = _outputs(form, shape)
    if form.block > 1:
        steps.append(Step("DepthToSpace", size, read=size))
    if form.border:
        steps.append(Step("Add", size, params=size // max(shape[0] if shape else 1, 1), read=size))
    return "conv", steps


def _repeat(form: Form, opset: int, shape: tuple[int, ...] | None) -> Written | None:
    if not form.repeated or form.block == 1 or any(a.crop for a in form.axes) or opset < _RESIZE or form.uneven or form.border:
        return None
    steps = _convolution(form, shape, form.axes, 1)
    size = _outputs(form, shape)
    return None if steps is None else ("repeat", [*steps, Step("Resize", size, read=size // form.block)])


def _pool(form: Form, shape: tuple[int, ...] | None) -> Written | None:
    """The pool comes first, so that the convolution sees fewer positions."""
    if not form.uniform or form.block > 1 or form.border or all(a.extent == 1 for a in form.axes):
        return None
    if any(a.begin < 0 or a.end < 0 or a.grid > 1 or max(a.begin, a.end) >= a.extent for a in form.axes):
        return None
    steps = _convolution(form, shape, (PLAIN,) * len(form.axes), 1)
    if steps is None:
        return None
    op = "GlobalAveragePool" if whole_image(form, None if shape is None else shape[2:]) else "AveragePool"
    return "pool", [*steps, Step(op, _blocks(form, shape) * form.c_in, read=_elements(shape))]


def whole_image(form: Form, sizes: tuple[int, ...] | None) -> bool:
    """Whether the kernel covers just the image: runtimes and quantizers know the mean of all of it by a name of its own."""
    return sizes == form.extent and not form.padded


def _convolution(form: Form, shape: tuple[int, ...] | None, axes: tuple[Axis, ...], rows: int) -> list[Step] | None:
    """Conv with ``rows`` rows for each output channel over ``axes``; a Slice before it where it reads a part of the channels."""
    columns = form.c_in if dense(form) else form.col_window[1] - form.col_window[0]
    groups = 1 if dense(form) else form.groups
    if columns == 0:
        return None
    taps = math.prod(a.without_negative_pads().taps for a in axes)
    channels, blocks = form.c_out * rows, _blocks(form, shape)
    weights = channels * (columns // groups) * taps
    source = _elements(shape) // form.c_in * columns
    steps = [Step("Slice", source, read=source)] if columns < form.c_in else []
    kind = "dense" if groups == 1 else "depthwise" if columns == groups else "grouped"
    params = weights + (0 if form.border else form.biased * channels)
    gathered = blocks * taps * (groups if kind == "grouped" else 1)
    steps.append(Step("Conv", blocks * channels, weights * blocks, params, kind, channels, gathered, source))
    return steps


def _transpose(form: Form, shape: tuple[int, ...] | None) -> Written | None:
    if form.uneven or form.border or form.rows is not None or form.cols is not None:
        return None
    kernels = [transposed(a) for a in form.axes]
    if any(a.stride != 1 for a in form.axes) or any(k is None for k in kernels):
        return None
    taps = math.prod(k.taps for k in kernels if k is not None)
    weights = form.c_out * (form.c_in // form.groups) * taps
    positions = _elements(shape) // form.c_in
    params, size = weights + form.biased * form.c_out, _outputs(form, shape)
    step = Step("ConvTranspose", size, weights * positions, params, "", form.c_out, positions * taps, _elements(shape))
    return "transpose", [step]


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


def _elements(shape: tuple[int, ...] | None) -> int:
    return 0 if shape is None else math.prod(shape)


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
