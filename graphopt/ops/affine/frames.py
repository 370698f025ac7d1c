"""Scales and shifts for each channel, borders around a tensor, and parts cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.ops.affine.axis import PLAIN, Axis
from graphopt.ops.affine.form import pointwise
from graphopt.ops.affine.maps import Kernel, Leaf, identity_of


def float64(array: NDArray[Any], xp: Any) -> Any:
    """``array`` in the namespace ``xp``."""
    return xp.asarray(np.array(array, np.float64))


def diagonal(rank: int, axis: int, factor: NDArray[Any], shift: NDArray[Any], names: tuple[str, ...], label: str) -> Leaf:
    """A scale and a shift for each channel."""
    form = pointwise(rank, axis, factor.size, biased=bool(np.any(shift)))

    def build(xp: Any) -> Kernel:
        return Kernel(float64(factor, xp).reshape(-1, 1, *form.taps), float64(shift, xp))

    return Leaf(form, build, names, label)


def bordered(
    channels: int, begin: Sequence[int], end: Sequence[int], value: NDArray[Any], sources: tuple[str, ...]
) -> tuple[Leaf, ...]:
    """A border of one value a channel. If the map before has that value as its bias, what is padded is its own continuation."""
    unit = identity_of(len(begin) + 2, 1, channels)
    axes = tuple(Axis(begin=p, end=q) if p or q else PLAIN for p, q in zip(begin, end, strict=True))
    ring = Leaf(replace(unit.form, axes=axes, identity=unit.form.axes == axes), unit.build, label="pad")
    if not np.any(value):
        return (ring,)
    ones = np.ones(channels)
    down = diagonal(len(begin) + 2, 1, ones, -value, sources, "shift")
    return down, ring, diagonal(len(begin) + 2, 1, ones, value, sources, "shift")


def cropped(channels: int, begin: Sequence[int], end: Sequence[int]) -> Leaf:
    """Without what lies near the border."""
    unit = identity_of(len(begin) + 2, 1, channels)
    axes = tuple(Axis(begin=-p, end=-q) if p or q else PLAIN for p, q in zip(begin, end, strict=True))
    return Leaf(replace(unit.form, axes=axes, identity=unit.form.axes == axes), unit.build, label="crop")
