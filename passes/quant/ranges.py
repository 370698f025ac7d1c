"""The range of every tensor that is quantized, from one pass over the calibration data in bounded memory.

Three rules, all from the same accumulators, which keep a few kilobytes a tensor however much they see:

- ``minmax``: the least and the greatest value. Nothing is clipped.
- ``percentile``: the quantiles 0.001 % and 99.999 % of a histogram.
- ``mse``: the range [a, b] that minimises the expected squared error of a histogram's distribution,

      E(a, b) = (b - a)^2 / (12 * 255^2) * P(a <= x <= b) + sum over x outside of p(x) * (distance to the range)^2

  rounding inside, clipping outside, by a search over shrunken copies of the full range (one side at a time, then again).

The histogram has a fixed number of bins over [-R, R); when a value falls outside, R doubles and pairs of bins are added up, so
counts stay exact. Large arrays are sampled with a fixed stride (about ``SAMPLES`` values of each array); extremes are taken over
all.

Zero is always inside a range: padding, Relu and skipped taps need it exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.model import Model
from graphopt.pipeline import Context
from graphopt.runtime.statistics import MinMax
from graphopt.runtime.stream import collect

Rule = Literal["minmax", "percentile", "mse"]
RULES: tuple[Rule, ...] = ("minmax", "percentile", "mse")
Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Range = tuple[float, float]

BINS = 4096
SAMPLES = 1 << 16
PERCENTILE = 1e-5
STEPS = 255


class Histogram:
    """Extremes, and with ``counted`` counts over [-R, R) in ``BINS`` bins; see the module's docstring."""

    def __init__(self, *, counted: bool) -> None:
        self.counted = counted
        self.extremes = MinMax()
        self.counts = np.zeros(BINS, np.int64)
        self.radius = 0.0

    def update(self, array: Array) -> None:
        """Take in one array."""
        self.extremes.update(array)
        if not self.counted:
            return
        flat = array.reshape(-1)
        values = flat[:: max(1, flat.size // SAMPLES)]
        values = values[np.isfinite(values)]
        if not values.size:
            return
        self._reach(float(np.abs(values).max()))
        # Dividing by a power of two is exact, so a value falls into the bin that holds it, whatever the radius was when it came.
        places = np.floor(values.astype(np.float64) * (BINS / 2 / self.radius)).astype(np.int64) + BINS // 2
        self.counts += np.bincount(places, minlength=BINS)

    def _reach(self, greatest: float) -> None:
        if self.radius == 0.0:
            # A power of two: every later radius is one as well, and bins of two histograms would line up.
            self.radius = 2.0 ** math.ceil(math.log2(max(greatest, 2.0**-100)))
        while greatest >= self.radius:
            self.counts = np.concatenate(
                [np.zeros(BINS // 4, np.int64), self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 4, np.int64)]
            )
            self.radius *= 2

    def range(self, rule: Rule) -> Range:
        """By the rule; never wider than what was seen."""
        low, high = self.extremes.range
        if rule == "minmax" or not self.counts.any():
            return low, high
        found = self._percentile() if rule == "percentile" else self._mse(min(low, 0.0), max(high, 0.0))
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


def observe(model: Model, tensors: Sequence[str], ctx: Context, *, counted: bool) -> dict[str, Histogram]:
    """Look at each tensor over the context's data. What is not finite somewhere says so in its ``extremes``."""
    seen = {name: Histogram(counted=counted) for name in tensors}
    feeds = ctx.feeds
    with ctx.progress("calibrate", len(feeds)) as bar:
        collect(model, seen, feeds, advance=bar.advance)
    return seen
