"""A tensor as another one's elements in other axes, and when that is an affine map.

Reshape, Transpose and their like do to whole axes what they do to elements. So each axis of the result is written as a product of
factors, the outermost first: of an axis of size 6 = 2 * 3 the outer factor has size 2 and stride 3, the inner size 3 and stride 1.
Reshape cuts and joins factors, Transpose reorders them, Expand and Tile add factors that repeat. Sizes need not be known: a factor
of unknown size is never cut, and what is left over when all other axes are accounted for is the remaining axis.

When the result has the axes of a feature map again (batch, channels, spatial), it is a map of the base: the factors of the channels
that ended up among the channels are a selection (a channel shuffle), those that ended up behind a spatial axis are
phases (DepthToSpace), and spatial factors that ended up among the channels are strides (SpaceToDepth).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphopt.ops.affine.axis import PLAIN, Axis
from graphopt.ops.affine.form import Form
from graphopt.ops.affine.frames import bordered, cropped
from graphopt.ops.affine.maps import Kernel, Leaf, relaid, select
from graphopt.ops.facts import Dim, Shape

_REPEATED = -1


@dataclass(frozen=True, slots=True)
class Factor:
    """A part of axis ``axis`` of the base; axis -1 is none: elements repeat."""

    axis: int
    size: Dim
    stride: int = 1


Factors = tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A border: ``widths`` of all spatial axes, begin and end in turn, and on each side one value for each channel."""

    widths: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    sources: tuple[str, ...] = ()

    def leaves(self) -> tuple[Leaf, ...] | None:
        """What it does to a map; None if the sides differ."""
        used = [v for v, width in zip(self.values, self.widths, strict=True) if width]
        if any(v != used[0] for v in used):
            return None
        value = np.asarray(self.values[0] if not used else used[0])
        return bordered(value.size, self.widths[::2], self.widths[1::2], value, self.sources)


@dataclass(frozen=True, slots=True)
class View:
    """``steps`` of a base tensor, channels at ``axis``, in the axes ``dims``. ``shape``: of the base after the steps, and after the
    ``frame`` that follows them.
    """

    shape: Shape
    axis: int
    dims: tuple[Factors, ...]
    steps: tuple[Leaf, ...] = ()
    frame: Frame | None = None

    def maps(self) -> tuple[Leaf, ...] | None:
        """All that is done to the base before its axes are changed."""
        border = () if self.frame is None else self.frame.leaves()
        return None if border is None else (*self.steps, *border)

    def overwritten(self, side: int, width: int, values: tuple[float, ...], source: str) -> View | None:
        """With the border on one side written over: what was there does not matter."""
        channels, rank = len(values), len(self.shape)
        known = self.frame or Frame((0,) * (2 * rank - 4), ((0.0,) * channels,) * (2 * rank - 4))
        maps = self.steps
        if known.widths[side] not in (0, width):
            return None
        if known.widths[side] == 0:
            if any(known.widths):
                return None
            cut = [width if i == side else 0 for i in range(2 * rank - 4)]
            maps = (*maps, cropped(channels, cut[::2], cut[1::2]))
        widths = tuple(width if i == side else w for i, w in enumerate(known.widths))
        new = tuple(values if i == side else v for i, v in enumerate(known.values))
        return replace(self, steps=maps, frame=Frame(widths, new, (*known.sources, source)))

    def channels_at(self, place: int) -> int | None:
        """The axis of the base that stands whole, and alone, at ``place`` and may be taken for the channels."""
        here = self.dims[place] if 0 <= place < len(self.dims) else ()
        axis = here[0].axis if len(here) == 1 else _REPEATED
        if axis not in (1, len(self.shape) - 1) or axis == 0 or here != _whole(axis, self.shape[axis]):
            return None
        return axis if axis == self.axis or not (self.steps or self.frame) else None

    def then(self, step: Leaf, place: int) -> View | None:
        """One more step, which works on each position by itself and finds its channels at ``place``."""
        axis, maps = self.channels_at(place), self.maps()
        if axis is None or maps is None:
            return None
        turned = relaid(step, len(self.shape), axis)
        shape = tuple(turned.form.c_out if a == axis else d for a, d in enumerate(self.shape))
        dims = tuple(_whole(axis, shape[axis]) if p == place else d for p, d in enumerate(self.dims))
        return replace(self, shape=shape, axis=axis, dims=dims, steps=(*maps, turned), frame=None)


def of(shape: Shape, axis: int, frame: Frame | None = None) -> View:
    """A tensor as itself, or, with a ``frame``, as another one with a border."""
    return View(shape, axis, tuple(_whole(i, d) for i, d in enumerate(shape)), (), frame)


def _whole(axis: int, size: Dim) -> Factors:
    return () if size == 1 else (Factor(axis, size),)


# -- operators ---------------------------------------------------------------------------------------------------------------


def transposed(view: View, order: Sequence[int]) -> View | None:
    """Axes in another order."""
    if sorted(order) != list(range(len(view.dims))):
        return None
    return replace(view, dims=tuple(view.dims[i] for i in order))


def reshaped(view: View, shape: Shape, copied: frozenset[int] = frozenset()) -> View | None:
    """The same elements in ``shape``. ``copied``: axes that take their size from the same axis of the input."""
    rest = [f for dim in view.dims for f in dim]
    front: list[Factors] = []
    while len(front) < len(shape):
        at = len(front)
        same = view.dims[at] if at in copied and at < len(view.dims) else None
        taken = _take(rest, shape[at], same, 1)
        if taken is None:
            break
        front.append(taken)
    back: list[Factors] = []
    while len(front) + len(back) < len(shape):
        taken = _take(rest, shape[len(shape) - 1 - len(back)], None, -1)
        if taken is None:
            break
        back.insert(0, taken)
    missing = len(shape) - len(front) - len(back)
    if missing > 1 or (missing == 0 and rest):
        return None
    middle = [tuple(rest)] if missing else []
    return replace(view, dims=tuple(map(_joined, (*front, *middle, *back))))


def _joined(factors: Factors) -> Factors:
    """Neighbours that an earlier cut parted."""
    found: list[Factor] = []
    for f in factors:
        last = found[-1] if found else None
        if last is not None and last.axis == f.axis != _REPEATED and _adjoin(last, f):
            found[-1] = Factor(f.axis, int(last.size or 1) * int(f.size or 1), f.stride)
        else:
            found.append(f)
    return tuple(found)


def _adjoin(outer: Factor, inner: Factor) -> bool:
    return isinstance(outer.size, int) and isinstance(inner.size, int) and outer.stride == inner.size * inner.stride


def _take(rest: list[Factor], size: Dim, same: Factors | None, step: int) -> Factors | None:
    """Take the factors of one axis from the front (``step`` 1) or back (-1) of ``rest``; None, and nothing taken, if they are not
    known to be those.
    """
    ends = rest if step == 1 else rest[::-1]
    if same is not None and tuple(ends[: len(same)]) == same:
        del rest[: len(same)]
        return same
    if size is None or isinstance(size, str):
        if size is None or not ends or ends[0].size != size:
            return None
        return (rest.pop(0 if step == 1 else -1),)
    taken: list[Factor] = []
    left = size
    while left > 1:
        if len(taken) >= len(ends):
            return None
        factor = ends[len(taken)]
        if not isinstance(factor.size, int):
            return None
        common = math.gcd(factor.size, left)
        if common == factor.size:
            taken.append(factor)
            left //= factor.size
            continue
        if common != left:
            return None
        outer = Factor(factor.axis, left if step == 1 else factor.size // left, 0)
        inner = Factor(factor.axis, factor.size // left if step == 1 else left, factor.stride)
        outer = replace(outer, stride=factor.stride * int(inner.size or 1))
        kept = len(taken) + 1
        ends[kept - 1 : kept] = [outer, inner] if step == 1 else [inner, outer]
        if step == -1:
            rest[:] = ends[::-1]
        taken.append(ends[kept - 1])
        left = 1
    if size < 1:
        return None
    if taken:
        del rest[slice(len(taken)) if step == 1 else slice(-len(taken), None)]
    return tuple(taken) if step == 1 else tuple(reversed(taken))


def repeated(view: View, times: Sequence[int]) -> View | None:
    """Every axis repeated as a whole, as Tile does it."""
    if len(times) != len(view.dims) or min(times) < 1:
        return None
    return replace(view, dims=tuple((*_copies(n), *d) for n, d in zip(times, view.dims, strict=True)))


def expanded(view: View, shape: Shape) -> View | None:
    """Axes of size 1 repeated, and new ones in front, up to ``shape``."""
    added = len(shape) - len(view.dims)
    if added < 0:
        return None
    dims: list[Factors] = []
    for size, dim in zip(shape, ((),) * added + view.dims, strict=True):
        if dim:
            dims.append(dim)
        elif isinstance(size, int):
            dims.append(_copies(size))
        else:
            return None
    return replace(view, dims=tuple(dims))


def _copies(times: int) -> Factors:
    return (Factor(_REPEATED, times),) if times > 1 else ()


# -- back to a map -----------------------------------------------------------------------------------------------------------


def as_steps(view: View) -> tuple[Leaf, ...] | None:
    """The view as maps of the base, one after the other; None if its axes are not those of such a map."""
    shape, axis = view.shape, view.axis
    channels = shape[axis]
    if len(view.dims) != len(shape) or not isinstance(channels, int) or view.dims[0] != _whole(0, shape[0]):
        return None
    spatial = [a for a in range(1, len(shape)) if a != axis]
    inner, phases = _spatial(view, spatial)
    if inner is None:
        return None
    tail = [f for group in phases for f in group]
    moved = [*view.dims[axis], *tail]
    index = _index(channels, moved, axis, [f for f in inner if f is not None])
    if index is None:
        return None
    strides = tuple(int(f.size or 1) if f is not None else 1 for f in inner)
    blocks = tuple(math.prod(int(f.size or 1) for f in group) for group in phases)
    if axis != 1 and (math.prod(strides) > 1 or math.prod(blocks) > 1):
        return None
    rank, wide = len(shape), channels * math.prod(strides)
    steps: list[Leaf] = []
    if wide > channels:
        steps.append(space_to_depth(channels, strides))
    if index != tuple(range(wide)):
        steps.append(select(rank, axis, wide, index))
    if math.prod(blocks) > 1:
        steps.append(depth_to_space(len(index) // math.prod(blocks), blocks))
    maps = view.maps()
    return None if maps is None else (*maps, *steps)


def _spatial(view: View, spatial: list[int]) -> tuple[list[Factor | None] | None, list[Factors]]:
    """For each spatial axis: its factor among the channels, if any, and the factors of the channels behind it."""
    inner: list[Factor | None] = []
    phases: list[Factors] = []
    for a in spatial:
        here = view.dims[a]
        among = [f for f in view.dims[view.axis] if f.axis == a]
        own = [f for f in here if f.axis == a]
        if not among and tuple(own) == _whole(a, view.shape[a]):
            inner.append(None)
        elif len(among) == 1 and len(own) <= 1 and among[0].stride == 1 and all(f.stride == among[0].size for f in own):
            size = view.shape[a]
            if not isinstance(size, int) or math.prod(int(f.size or 1) for f in (*own, *among)) != size:
                return None, []
            inner.append(among[0])
        else:
            return None, []
        if own and here[0] != own[0]:
            return None, []
        phases.append(here[len(own) :])
    return inner, phases


def _index(channels: int, moved: Sequence[Factor], axis: int, inner: Sequence[Factor]) -> tuple[int, ...] | None:
    """For each row of the result the channel that it is, the inner factors of the spatial axes counted as channels."""
    own = sorted((f for f in moved if f.axis == axis), key=lambda f: -f.stride)
    copies = [f for f in moved if f.axis == _REPEATED]
    order = [*own, *inner]
    if len(order) + len(copies) != len(moved) or any(not isinstance(f.size, int) for f in moved):
        return None
    sizes = [int(f.size or 1) for f in order]
    if math.prod(sizes[: len(own)]) != channels or len(set(order)) != len(order):
        return None
    places = np.arange(math.prod(sizes)).reshape(sizes)
    places = np.broadcast_to(places.reshape((*sizes, *([1] * len(copies)))), (*sizes, *(int(f.size or 1) for f in copies)))
    free = list(range(len(order), len(order) + len(copies)))
    axes = [free.pop(0) if f.axis == _REPEATED else order.index(f) for f in moved]
    return tuple(int(i) for i in places.transpose(axes).reshape(-1))


# -- the maps ----------------------------------------------------------------------------------------------------------------


def depth_to_space(channels: int, blocks: Sequence[int]) -> Leaf:
    """To ``channels`` channels: the phases of a channel lie side by side (mode CRD)."""
    axes = tuple(Axis(phase=r, support=((0, 0),) * r) if r > 1 else PLAIN for r in blocks)
    block = math.prod(blocks)
    form = Form(1, channels * block, channels, channels, axes, relabels=True)

    def build(xp: Any) -> Kernel:
        eye = xp.eye(block, dtype=xp.float64)
        weight = xp.zeros((channels, block, block, *form.taps), dtype=xp.float64)
        weight[...] = eye.reshape(1, block, block, *form.taps)
        bias = xp.zeros((channels * block,), dtype=xp.float64)
        return Kernel(weight.reshape(channels * block, block, *form.taps), bias)

    return Leaf(form, build, label="depth_to_space")


def space_to_depth(channels: int, strides: Sequence[int]) -> Leaf:
    """From ``channels`` channels: the phases of a channel lie side by side."""
    axes = tuple(Axis(extent=r, grid=1, stride=r) if r > 1 else PLAIN for r in strides)
    block = math.prod(strides)
    form = Form(1, channels, channels * block, channels, axes)

    def build(xp: Any) -> Kernel:
        eye = xp.eye(block, dtype=xp.float64)
        weight = xp.zeros((channels, block, 1, *strides), dtype=xp.float64)
        weight[...] = eye.reshape(1, block, 1, *strides)
        bias = xp.zeros((channels * block,), dtype=xp.float64)
        return Kernel(weight.reshape(channels * block, 1, *strides), bias)

    return Leaf(form, build, label="space_to_depth")
