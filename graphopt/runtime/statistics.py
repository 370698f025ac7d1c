"""Statistics of tensors that never fit into memory at once: each takes one array after the other and keeps a few numbers.

All sums are float64. None of the accumulators grows with the number of arrays it has seen.

- ``MinMax``: the range, of the tensor or of each channel.
- ``Moments``: mean and variance of each channel, merged pairwise: with n1, m1, S1 of what was seen and n2, m2, S2 of
  the new array (S the sum of squared deviations) d = m2 - m1, n = n1 + n2, m = m1 + d n2/n, S = S1 + S2 + d^2 n1 n2/n
  (Chan, Golub, LeVeque, "Algorithms for computing the sample variance", 1983). The plain sum of squares would cancel.
- ``Gram``: sum of x x^T and sum of x over all positions, x a vector of channels. Uncentred, so that it adds up;
  ``covariance`` centres it. A position is an element of all axes but the channel axis. With ``positions=p`` every array
  contributes p of its positions, drawn without replacement and with a seed: the time for one array is then bounded by p
  C^2, whatever its size.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

_CHUNK_BYTES = 2**24
"""Positions are converted to float64 in pieces of about this size."""


class Accumulator(Protocol):
    """What ``collect`` fills."""

    def update(self, array: Array) -> None:
        """Take in one array."""
        ...


def rows_of(array: Array, axis: int) -> Array:
    """The array as [positions, channels], channels along ``axis``; a view where possible. A scalar is one position."""
    if array.ndim == 0:
        return array.reshape(1, 1)
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


class MinMax:
    """The least and the greatest finite value, of the whole tensor (``axis=None``) or of each channel along ``axis``.

    Attributes:
        low, high: arrays, of shape [] or [channels]; inf and -inf before the first finite value.
        count: how many finite elements were seen; ``nonfinite``: how many NaN and infinite ones.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self.low: Floats = np.asarray(np.inf)
        self.high: Floats = np.asarray(-np.inf)
        self.count = 0
        self.nonfinite = 0

    def update(self, array: Array) -> None:
        """Take in one array."""
        if array.size == 0:
            return
        values = array.reshape(-1, 1) if self.axis is None else rows_of(array, self.axis)
        low, high = _extremes(values)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            finite = np.isfinite(values)
            self.nonfinite += int(values.size - np.count_nonzero(finite))
            self.count += int(np.count_nonzero(finite))
            low = np.where(finite, values, np.inf).min(axis=0).astype(np.float64)
            high = np.where(finite, values, -np.inf).max(axis=0).astype(np.float64)
        else:
            self.count += values.size
        shape = () if self.axis is None else low.shape
        self.low = np.minimum(self.low, low.reshape(shape))
        self.high = np.maximum(self.high, high.reshape(shape))

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest value over all channels; (0, 0) if no finite value was seen."""
        if self.count == 0:
            return 0.0, 0.0
        return float(self.low.min()), float(self.high.max())


def _extremes(values: Array) -> tuple[Floats, Floats]:
    # NaN comes through min and max, so a clean pair proves a clean array.
    return values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)


class Moments:
    """Mean and variance of each channel along ``axis`` (of the whole tensor for ``axis=None``), in one pass.

    Attributes:
        count: positions seen.
        mean: [channels], float64.
    """

    def __init__(self, axis: int | None = 1) -> None:
        self.axis = axis
        self.count = 0
        self.mean: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)

    def update(self, array: Array) -> None:
        """Take in one array."""
        values = array.reshape(-1, 1) if self.axis is None else rows_of(array, self.axis)
        if self.count == 0:
            self.mean = np.zeros(values.shape[1])
            self._squares = np.zeros(values.shape[1])
        step = _chunk_rows(values.shape[1])
        for start in range(0, values.shape[0], step):
            self._merge(values[start : start + step].astype(np.float64))

    def _merge(self, values: Floats) -> None:
        n = values.shape[0]
        mean = values.mean(axis=0)
        delta = mean - self.mean
        total = self.count + n
        self._squares = self._squares + ((values - mean) ** 2).sum(axis=0) + delta**2 * (self.count * n / total)
        self.mean = self.mean + delta * (n / total)
        self.count = total

    @property
    def variance(self) -> Floats:
        """[channels], the population's: the sum of squared deviations over the count."""
        return self._squares / max(self.count, 1)


class Gram:
    """Second moments of vectors of ``channels`` along ``axis``, uncentred.

    Attributes:
        matrix: [channels, channels], sum over the positions used of x x^T.
        sum: [channels], sum of x.
        count: positions used; ``seen``: positions there were.
    """

    def __init__(self, channels: int, axis: int = 1, *, positions: int | None = None, seed: int = 0) -> None:
        if positions is not None and positions < 1:
            raise ValueError(f"positions={positions}: at least one is needed")
        self.channels = channels
        self.axis = axis
        self.positions = positions
        self.matrix: Floats = np.zeros((channels, channels))
        self.sum: Floats = np.zeros(channels)
        self.count = 0
        self.seen = 0
        self._random = np.random.default_rng(seed)

    def update(self, array: Array) -> None:
        """Take in one array; ValueError if it does not have ``channels`` channels along ``axis``."""
        values = rows_of(array, self.axis)
        if values.shape[1] != self.channels:
            raise ValueError(f"{values.shape[1]} channels along axis {self.axis} of {array.shape}, not {self.channels}")
        total = values.shape[0]
        self.seen += total
        if self.positions is not None and total > self.positions:
            chosen = self._random.choice(total, self.positions, replace=False, shuffle=False)
            values = values[np.sort(chosen)]
        step = _chunk_rows(self.channels)
        for start in range(0, values.shape[0], step):
            part = values[start : start + step].astype(np.float64)
            self.matrix += part.T @ part
            self.sum += part.sum(axis=0)
        self.count += values.shape[0]

    @property
    def mean(self) -> Floats:
        """[channels]"""
        return self.sum / max(self.count, 1)

    @property
    def second_moment(self) -> Floats:
        """[channels, channels]: ``matrix`` over the count."""
        return self.matrix / max(self.count, 1)

    @property
    def covariance(self) -> Floats:
        """[channels, channels], the population's."""
        return self.second_moment - np.outer(self.mean, self.mean)


def _chunk_rows(channels: int) -> int:
    return max(1, math.floor(_CHUNK_BYTES / (8 * max(channels, 1))))
