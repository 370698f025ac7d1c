"""The structure of an affine map, and when composing or adding two of them is exact.

A map takes a tensor with C_in channels to one with C_out: kernel K[C_out, C_in/groups, extent...], bias b[C_out], a stride and
zero pads on each side. Dilation is not a parameter of its own: the kernel lies on its full extent, and ``grid`` is the greatest
common divisor of the offsets at which it has taps.

Composition, second after first (extents e, strides s, pads p), on each spatial axis:

    extent = (e2 - 1) * s1 + e1        stride = s1 * s2        pad = p1 + s1 * p2

It has the right output size always, because floor((floor(a / s1) + c) / s2) = floor((a + s1 * c) / (s1 * s2)). Its values are
right if p2 = 0. If p2 > 0, the second map reads zeros where the composed one reads the first map's continuation, so the first
must have no bias, and its continuation must vanish there:

    before the start:  position -1 of the first map reads up to input -s1 - p1 + e1 - 1, which must be below 0
    after the end:     position O1 reads from input O1 * s1 - p1, which must be H or more; p1_end >= e1 - 1 guarantees it

Addition: the branches need equal strides and equal output sizes. Pad by the largest begin pad P, put each kernel at offset
P - p_b in the union support, and choose the end pad that gives the common output size: with c = p + p_end - e equal for all
branches the sizes agree for every input; otherwise only for a known H. A branch never reads beyond its own pad, whatever the
union's is.

Networks repeat themselves, and the same few forms meet again and again: what two of them compose to is remembered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

_REMEMBERED = 2**14

Sizes = tuple[int | None, ...]
"""Spatial sizes of a map's input; None where not known."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why something is not an exact affine map: a code (one a reason) and a sentence."""

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Form:
    """Everything about an affine map but its numbers.

    Attributes:
        rank, axis: of the tensors, and where their channels lie.
        weights: weights of the kernel, gaps left out: multiply-accumulates at one output position.
        diagonal: a scale and a shift per channel, nothing else.
    """

    rank: int
    axis: int
    c_in: int
    c_out: int
    groups: int
    extent: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    biased: bool = False
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    weights: int = field(init=False, repr=False, compare=False)
    diagonal: bool = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = (self.rank, self.axis, self.c_in, self.c_out, self.groups, self.extent, self.grid, self.stride, self.begin, self.end)
        object.__setattr__(self, "_hash", hash((key, self.biased, self.transposed, self.output_padding)))
        object.__setattr__(self, "weights", self.c_out * (self.c_in // self.groups) * math.prod(self.taps))
        object.__setattr__(self, "diagonal", self._is_diagonal())

    def __hash__(self) -> int:
        return self._hash

    @property
    def taps(self) -> tuple[int, ...]:
        """Kernel taps on each axis once the gaps of the dilation are left out."""
        return tuple((e - 1) // g + 1 if g else 1 for e, g in zip(self.extent, self.grid, strict=True))

    def _is_diagonal(self) -> bool:
        return (
            self.groups == self.c_in == self.c_out
            and not self.transposed
            and all(e == 1 for e in self.extent)
            and all(s == 1 for s in self.stride)
            and not any(self.begin)
            and not any(self.end)
        )

    def output_size(self, sizes: Sizes) -> Sizes:
        """Spatial sizes of the output (ONNX Conv: floor)."""
        return tuple(
            None if h is None else (h + b + t - e) // s + 1
            for h, b, t, e, s in zip(sizes, self.begin, self.end, self.extent, self.stride, strict=True)
        )


def pointwise(rank: int, axis: int, channels: int, biased: bool) -> Form:
    """The form of a scale and a shift per channel."""
    n = rank - 2 if axis == 1 else 0
    return Form(rank, axis, channels, channels, channels, (1,) * n, (0,) * n, (1,) * n, (0,) * n, (0,) * n, biased)


@lru_cache(_REMEMBERED)
def compose(second: Form, first: Form, sizes: Sizes) -> Form | Refused:
    """``second`` after ``first``, whose input has ``sizes``, if that is exact."""
    form = interior(second, first)
    if isinstance(form, Refused) or form.transposed:
        return form
    padded = any(second.begin) or any(second.end)
    if padded and first.biased:
        return Refused("bias-under-padding", "a bias lies before zero padding: the border of the one kernel would differ")
    if padded and not _ring_is_zero(second, first, sizes):
        return Refused("border-continues", "zero padding cuts off what the first kernel computes beyond the border")
    return form


@lru_cache(_REMEMBERED)
def interior(second: Form, first: Form) -> Form | Refused:
    """``second`` after ``first`` away from the border: the form that it would have if padding were no obstacle."""
    if (second.rank, second.axis) != (first.rank, first.axis):
        return Refused("layout", "the two maps take their channels from different axes")
    if second.c_in != first.c_out:
        return Refused("channels", f"{first.c_out} channels meet a map of {second.c_in}")
    if first.transposed or second.transposed:
        return _compose_transposed(second, first)
    return Form(
        rank=first.rank,
        axis=first.axis,
        c_in=first.c_in,
        c_out=second.c_out,
        groups=math.gcd(first.groups, second.groups),
        extent=tuple((e2 - 1) * s1 + e1 for e2, s1, e1 in zip(second.extent, first.stride, first.extent, strict=True)),
        grid=tuple(math.gcd(g1, g2 * s1) for g1, g2, s1 in zip(first.grid, second.grid, first.stride, strict=True)),
        stride=tuple(a * b for a, b in zip(first.stride, second.stride, strict=True)),
        begin=tuple(p1 + s1 * p2 for p1, s1, p2 in zip(first.begin, first.stride, second.begin, strict=True)),
        end=tuple(p1 + s1 * p2 for p1, s1, p2 in zip(first.end, first.stride, second.end, strict=True)),
        biased=first.biased or second.biased,
    )


def _compose_transposed(second: Form, first: Form) -> Form | Refused:
    if first.transposed and second.diagonal:
        return replace(first, biased=first.biased or second.biased)
    if second.transposed and first.diagonal:
        if first.biased:
            return Refused("bias-before-transposed", "a bias before a transposed convolution does not reach every output alike")
        return second
    return Refused("transposed", "a transposed convolution composes with a scale and shift per channel only")


def _ring_is_zero(second: Form, first: Form, sizes: Sizes) -> bool:
    """Whether the first map's continuation vanishes where the second one pads."""
    outputs = first.output_size(sizes)
    for i, (before, after) in enumerate(zip(second.begin, second.end, strict=True)):
        extent, stride, begin, end = first.extent[i], first.stride[i], first.begin[i], first.end[i]
        if before and begin < extent - stride:
            return False
        if after and end < extent - 1:
            size, output = sizes[i], outputs[i]
            if size is None or output is None or output * stride - begin < size:
                return False
    return True


@lru_cache(_REMEMBERED)
def add(forms: tuple[Form, ...], sizes: Sizes) -> Form | Refused:
    """The sum of maps of one tensor with ``sizes``."""
    lead = forms[0]
    if any(f.transposed for f in forms):
        return Refused("transposed", "branches with a transposed convolution are not added")
    if any((f.rank, f.axis, f.c_in) != (lead.rank, lead.axis, lead.c_in) for f in forms):
        return Refused("layout", "the branches take their channels from different axes")
    if any(f.c_out != lead.c_out for f in forms):
        return Refused("broadcast", "the branches have different numbers of channels")
    if any(f.stride != lead.stride for f in forms):
        return Refused("strides", "the branches have different strides")
    n = len(lead.extent)
    begin = tuple(max(f.begin[i] for f in forms) for i in range(n))
    extent = tuple(max(begin[i] - f.begin[i] + f.extent[i] for f in forms) for i in range(n))
    spans = [{f.begin[i] + f.end[i] - f.extent[i] for f in forms} for i in range(n)]
    outputs = {f.output_size(sizes) for f in forms}
    for i, span in enumerate(spans):
        if len(span) > 1 and (sizes[i] is None or len({o[i] for o in outputs}) > 1):
            return Refused("sizes", "the branches have different output sizes, or the same by chance of the input's size")
    end = tuple(max(spans[i]) - begin[i] + extent[i] for i in range(n))
    grid = tuple(math.gcd(*(g for f in forms for g in (f.grid[i], begin[i] - f.begin[i]))) for i in range(n))
    return replace(
        lead,
        groups=math.gcd(*(f.groups for f in forms)),
        extent=extent,
        grid=grid,
        begin=begin,
        end=end,
        biased=any(f.biased for f in forms),
    )
