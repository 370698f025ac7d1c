"""The range of every tensor that is quantized, from one pass over the calibration data in bounded memory.

Three rules, each an accumulator that keeps a few kilobytes however much it sees:

- ``minmax``: the least and the greatest value. Nothing is clipped.
- ``percentile``: the quantiles 0.001 % and 99.999 % of a histogram.
- ``mse``: the range [a, b] that minimises the expected squared error of a histogram's distribution,

      E(a, b) = (b - a)^2 / (12 * 255^2) * P(a <= x <= b) + sum over x outside of p(x) * (distance to the range)^2

  rounding inside, clipping outside, by a search over shrunken copies of the full range (one side at a time, then again).

The histogram has a fixed number of bins over [-R, R); when a value falls outside R doubles and pairs of bins are added up, so counts
stay exact. Large arrays are sampled with a fixed stride (at most ``SAMPLES`` values of each array); extremes are taken over all.

Zero is always inside a range: padding, Relu and skipped taps need it exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.model import Model
from graphopt.pipeline import Context
from graphopt.runtime.statistics import MinMax
from graphopt.runtime.stream import collect

Rule = Literal["minmax", "percentile", "mse"]
Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Range = tuple[float, float]

BINS = 4096
SAMPLES = 1 << 16
PERCENTILE = 1e-5
STEPS = 255


class Collector(Protocol):
    """An accumulator with a range to give."""

    def update(self, array: Array) -> None:
        """Take in one array."""
        ...

    @property
    def nonfinite(self) -> int:
        """How many NaN and infinite values there were."""
        ...

    @property
    def range(self) -> Range:
        """The range by this collector's rule."""
        ...


class Histogram:
    """Counts over [-R, R) in ``BINS`` bins; see the module's docstring."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.extremes = MinMax()
        self.counts = np.zeros(BINS, np.int64)
        self.radius = 0.0

    def update(self, array: Array) -> None:
        """Take in one array."""
        self.extremes.update(array)
        flat = array.reshape(-1)
        values = flat[:: max(1, flat.size // SAMPLES)]
        values = values[np.isfinite(values)]
        if not values.size:
            return
        self._reach(float(np.abs(values).max()))
        places = ((values / self.radius + 1.0) * (BINS / 2)).astype(np.int64)
        self.counts += np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)

    def _reach(self, greatest: float) -> None:
        if self.radius == 0.0:
            # A power of two: every later radius is one as well, and bins of two histograms would line up.
            self.radius = 2.0 ** math.ceil(math.log2(max(greatest, 2.0**-100)))
        while greatest >= self.radius:
            self.counts = np.concatenate(
                [np.zeros(BINS // 4, np.int64), self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 4, np.int64)]
            )
            self.radius *= 2

    @property
    def nonfinite(self) -> int:
        """How many NaN and infinite values there were."""
        return self.extremes.nonfinite

    @property
    def range(self) -> Range:
        """By the rule; never wider than what was seen."""
        low, high = self.extremes.range
        if not self.counts.any():
            return low, high
        found = self._percentile() if self.rule == "percentile" else self._mse(min(low, 0.0), max(high, 0.0))
        return max(low, found[0]), min(high, found[1])

    def _edges(self) -> Floats:
        return np.linspace(-self.radius, self.radius, BINS + 1)

    def _percentile(self) -> Range:
        share = np.cumsum(self.counts) / self.counts.sum()
        edges = self._edges()
        return float(edges[np.searchsorted(share, PERCENTILE)]), float(edges[1 + np.searchsorted(share, 1 - PERCENTILE)])

    def _mse(self, low: float, high: float) -> Range:
        edges = self._edges()
        used = np.flatnonzero(self.counts)
        centres = (edges[used] + edges[used + 1]) / 2
        weights = self.counts[used] / self.counts.sum()
        a, b = low, high
        for _ in range(3):
            if high > 0:
                b = _best([high * f for f in SHRINK], partial(_error_of_high, centres, weights, a))
            if low < 0:
                a = _best([low * f for f in SHRINK], partial(_error_of_low, centres, weights, b))
        return a, b


SHRINK = tuple(np.linspace(1.0, 0.1, 91).tolist())
"""Candidates as fractions of the full extent of one side; the full one first, so that it wins a tie."""


def squared_error(centres: Floats, weights: Floats, low: float, high: float) -> float:
    """E(low, high) of the module's docstring."""
    outside = np.maximum(centres - high, 0.0) + np.maximum(low - centres, 0.0)
    inside = float(weights[outside == 0.0].sum())
    return ((high - low) / STEPS) ** 2 / 12 * inside + float((weights * outside**2).sum())


def _error_of_high(centres: Floats, weights: Floats, low: float, high: float) -> float:
    return squared_error(centres, weights, low, high)


def _error_of_low(centres: Floats, weights: Floats, high: float, low: float) -> float:
    return squared_error(centres, weights, low, high)


def _best(candidates: Sequence[float], error: Callable[[float], float]) -> float:
    return min(candidates, key=error)


def ranges(model: Model, tensors: Sequence[str], rule: Rule, ctx: Context) -> dict[str, Range]:
    """The range of each tensor over the context's data.

    Raises:
        DataError: GO820, a tensor has a NaN or an infinite value.
    """
    collectors: Mapping[str, Collector] = {n: MinMax() if rule == "minmax" else Histogram(rule) for n in tensors}
    feeds = ctx.feeds
    with ctx.progress("calibrate", len(feeds)) as bar:
        collect(model, collectors, feeds, advance=bar.advance)
    for name, collector in collectors.items():
        if collector.nonfinite:
            raise DataError(
                "GO820",
                f"tensor '{name}'",
                f"{collector.nonfinite} values are NaN or infinite on the calibration data",
                "check the data's preprocessing, or keep the node that overflows in float",
            )
    return {name: collector.range for name, collector in collectors.items()}
