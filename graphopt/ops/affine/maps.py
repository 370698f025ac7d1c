"""The numbers of an affine map, as an expression over an array namespace.

Nothing is computed until ``evaluate``: a map is a leaf (an operator's own weights), a composition or a sum. The expression is the
provenance of a folded kernel: its leaves name their source tensors, and it runs over numpy (in float64) as it runs over torch
(under automatic differentiation), since it uses nothing but reshape, matmul, slices and sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ops.affine.form import Form, Refused, Sizes, add, compose, pointwise

Array = Any
"""An array of the namespace: numpy.ndarray, torch.Tensor."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Values of a map: ``weight`` [C_out, C_in/groups, extent...], or, transposed, [C_in, C_out/groups, extent...]; ``bias``
    [C_out].
    """

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Leaf:
    """One operator's map. ``build`` makes the values over a namespace; ``sources`` name the tensors that they come from."""

    form: Form
    build: Callable[[Any], Kernel]
    sources: tuple[str, ...] = ()


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


AffineMap = Leaf | Compose | SumOf


def identity_of(rank: int, axis: int, channels: int) -> Leaf:
    """The map that leaves a tensor as it is."""
    form = pointwise(rank, axis, channels, biased=False)

    def build(xp: Any) -> Kernel:
        weight = xp.zeros((channels, 1, *form.extent), dtype=xp.float64) + 1.0
        return Kernel(weight, xp.zeros((channels,), dtype=xp.float64))

    return Leaf(form, build)


def composed(second: AffineMap, first: AffineMap, sizes: Sizes) -> AffineMap | Refused:
    """``second`` after ``first`` if that is exact; the identity composes to the other map itself."""
    form = compose(second.form, first.form, sizes)
    return form if isinstance(form, Refused) else Compose(form, second, first)


def summed(parts: Sequence[tuple[AffineMap, float]], sizes: Sizes) -> AffineMap | Refused:
    """The weighted sum of ``parts`` if they can be one map."""
    form = add(tuple(p.form for p, _ in parts), sizes)
    return form if isinstance(form, Refused) else SumOf(form, tuple(parts))


def sources(top: AffineMap) -> tuple[str, ...]:
    """The tensors that a map's values come from, each once, in order."""
    found: dict[str, None] = {}
    seen: set[int] = set()
    stack: list[AffineMap] = [top]
    while stack:
        one = stack.pop()
        if id(one) in seen:  # maps share parts: x + x doubles the paths at every step
            continue
        seen.add(id(one))
        match one:
            case Leaf():
                found.update(dict.fromkeys(one.sources))
            case Compose():
                stack += [one.second, one.first]
            case SumOf():
                stack.extend(part for part, _ in reversed(one.parts))
    return tuple(found)


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
        memo[id(top)] = known
    return known


def _compose(top: Compose, second: Kernel, first: Kernel, xp: Any) -> Kernel:
    f1, f2 = top.first.form, top.second.form
    if f2.diagonal:
        return _scale_outputs(f1, first, second)
    if f1.diagonal:
        return _scale_inputs(f2, second, first)
    groups = top.form.groups
    k1, k2 = coarsen(first.weight, f1.groups, groups, xp), coarsen(second.weight, f2.groups, groups, xp)
    c_in, c_mid, c_out = f1.c_in // groups, f1.c_out // groups, f2.c_out // groups
    flat1 = k1.reshape(groups, c_mid, -1)
    flat2 = k2.reshape(groups, c_out, c_mid, *f2.extent)
    weight = xp.zeros((top.form.c_out, c_in, *top.form.extent), dtype=xp.float64)
    for tap in itertools.product(*(range(0, e, g or 1) for e, g in zip(f2.extent, f2.grid, strict=True))):
        part = (flat2[(..., *tap)] @ flat1).reshape(top.form.c_out, c_in, *f1.extent)
        place = tuple(slice(t * s, t * s + e) for t, s, e in zip(tap, f1.stride, f1.extent, strict=True))
        weight[(..., *place)] += part
    total = k2.reshape(groups, c_out, c_mid, -1).sum(-1)
    bias = second.bias + (total @ first.bias.reshape(groups, c_mid, 1)).reshape(-1)
    return Kernel(weight, bias)


def _scale_outputs(form: Form, kernel: Kernel, scale: Kernel) -> Kernel:
    """diag(scale) after a map; a transposed map keeps its output channels on axis 1, group by group."""
    factor = scale.weight.reshape(-1)
    n = len(form.extent)
    if form.transposed:
        per_group = form.c_out // form.groups
        blocks = kernel.weight.reshape(form.groups, form.c_in // form.groups, per_group, -1)
        weight = (blocks * factor.reshape(form.groups, 1, per_group, 1)).reshape(kernel.weight.shape)
    else:
        weight = kernel.weight * factor.reshape(-1, 1, *([1] * n))
    return Kernel(weight, scale.bias + factor * kernel.bias)


def _scale_inputs(form: Form, kernel: Kernel, scale: Kernel) -> Kernel:
    """A map after diag(scale)."""
    factor, shift = scale.weight.reshape(-1), scale.bias
    if form.transposed:
        return Kernel(kernel.weight * factor.reshape(-1, 1, *([1] * len(form.extent))), kernel.bias)
    groups, width = form.groups, form.c_in // form.groups
    blocks = kernel.weight.reshape(groups, form.c_out // groups, width, -1)
    weight = (blocks * factor.reshape(groups, 1, width, 1)).reshape(kernel.weight.shape)
    bias = kernel.bias + (blocks.sum(-1) @ shift.reshape(groups, width, 1)).reshape(-1)
    return Kernel(weight, bias)


def _sum(top: SumOf, kernels: Sequence[Kernel], xp: Any) -> Kernel:
    form = top.form
    weight = xp.zeros((form.c_out, form.c_in // form.groups, *form.extent), dtype=xp.float64)
    bias = xp.zeros((form.c_out,), dtype=xp.float64)
    for (part, sign), kernel in zip(top.parts, kernels, strict=True):
        place = tuple(
            slice(big - small, big - small + e) for big, small, e in zip(form.begin, part.form.begin, part.form.extent, strict=True)
        )
        weight[(..., *place)] += sign * coarsen(kernel.weight, part.form.groups, form.groups, xp)
        bias = bias + sign * kernel.bias
    return Kernel(weight, bias)


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
