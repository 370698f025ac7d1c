"""The range of every tensor that is quantized, from one pass over the calibration data in bounded memory.

Five rules, all from the same accumulators, which keep a few kilobytes a tensor however much they see:

- ``minmax``: the least and the greatest value. Nothing is clipped.
- ``average``: the mean over the samples of each sample's least and greatest value.
- ``percentile``: the quantiles 0.001 % and 99.999 % of a histogram.
- ``mse``: the range [a, b] that minimises the expected squared error of a histogram's distribution,

      E(a, b) = (b - a)^2 / (12 * 255^2) * P(a <= x <= b) + sum over x outside of p(x) * (distance to the range)^2

  rounding inside, clipping outside, by a search over shrunken copies of the full range (one side at a time, then again).
- ``entropy``: likewise the range that minimises the Kullback-Leibler divergence of the histogram, with what lies outside moved to
  the range's ends, from the same histogram averaged over each of 256 steps (Migacz, "8-bit Inference with TensorRT", 2017).

The histogram has a fixed number of bins over [-R, R); when a value falls outside, R doubles and pairs of bins are added up, so
counts stay exact. Large arrays are sampled with a fixed stride (about ``SAMPLES`` values of each array); extremes are taken over
all.

Zero is always inside a range: padding, Relu and skipped taps need it exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.model import Model
from graphopt.pipeline import Context
from graphopt.runtime.statistics import Accumulator, MinMax
from graphopt.runtime.stream import collect

Rule = Literal["minmax", "average", "percentile", "mse", "entropy"]
AUTO_RULES: tuple[Rule, ...] = ("minmax", "percentile", "mse")
"""Those that are compared where the rule is left open."""

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Range = tuple[float, float]
Loss = Callable[[Floats, Floats, float, float], float]

NOBODY: Mapping[str, Accumulator] = {}

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
        self.samples = 0
        self.lows = self.highs = 0.0

    def update(self, array: Array) -> None:
        """Take in one array."""
        self.extremes.update(array)
        if not self.counted:
            return
        flat = array.reshape(-1)
        if flat.size and np.isfinite(low := float(flat.min())) and np.isfinite(high := float(flat.max())):
            self.samples, self.lows, self.highs = self.samples + 1, self.lows + low, self.highs + high
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
        if rule == "average":
            return self.lows / max(self.samples, 1), self.highs / max(self.samples, 1)
        found = self._percentile() if rule == "percentile" else self._search(rule, min(low, 0.0), max(high, 0.0))
        return max(low, found[0]), min(high, found[1])

    def _edges(self) -> Floats:
        return np.linspace(-self.radius, self.radius, BINS + 1)

    def _percentile(self) -> Range:
        share = np.cumsum(self.counts) / self.counts.sum()
        edges = self._edges()
        return float(edges[np.searchsorted(share, PERCENTILE)]), float(edges[1 + np.searchsorted(share, 1 - PERCENTILE)])

    def _search(self, rule: Rule, low: float, high: float) -> Range:
        """The shrunken copy of [low, high] that the rule likes best."""
        edges = self._edges()
        used = np.flatnonzero(self.counts)
        centres = (edges[used] + edges[used + 1]) / 2
        weights = self.counts[used] / self.counts.sum()
        loss = squared_error if rule == "mse" else divergence
        a, b = low, high
        for _ in range(3):
            if high > 0:
                b = min((high * f for f in SHRINK), key=partial(_of_high, loss, centres, weights, a))
            if low < 0:
                a = min((low * f for f in SHRINK), key=partial(_of_low, loss, centres, weights, b))
        return a, b


SHRINK = tuple(np.linspace(1.0, 0.1, 91).tolist())
"""Candidates as fractions of the full extent of one side; the full one first, so that it wins a tie."""


def squared_error(centres: Floats, weights: Floats, low: float, high: float) -> float:
    """E(low, high) of the module's docstring."""
    outside = np.maximum(centres - high, 0.0) + np.maximum(low - centres, 0.0)
    inside = float(weights[outside == 0.0].sum())
    return ((high - low) / STEPS) ** 2 / 12 * inside + float((weights * outside**2).sum())


def _of_high(loss: Loss, centres: Floats, weights: Floats, low: float, high: float) -> float:
    return loss(centres, weights, low, high)


def _of_low(loss: Loss, centres: Floats, weights: Floats, high: float, low: float) -> float:
    return loss(centres, weights, low, high)


def divergence(centres: Floats, weights: Floats, low: float, high: float) -> float:
    """Kullback-Leibler divergence of what is cut to [low, high] from what is left of it in 256 steps."""
    cut = np.clip(centres, low, high)
    steps = np.minimum((cut - low) / max(high - low, 1e-30) * STEPS, STEPS).round().astype(np.int64)
    inside = (centres >= low) & (centres <= high)
    kept = np.bincount(steps[inside], weights[inside], minlength=STEPS + 1)
    cells = np.bincount(steps[inside], minlength=STEPS + 1)
    left = np.where(inside, kept[steps] / np.maximum(cells[steps], 1), 0.0)
    total = left.sum()
    moved = weights.copy()
    for side, end in ((centres < low, np.flatnonzero(inside)[:1]), (centres > high, np.flatnonzero(inside)[-1:])):
        moved[end] += weights[side].sum()
    moved[~inside] = 0.0
    some = moved > 0
    if not total > 0:
        return math.inf
    return float((moved[some] * np.log(moved[some] / np.maximum(left[some] / total, 1e-30))).sum())


def observe(
    model: Model, tensors: Sequence[str], ctx: Context, *, counted: bool, beside: Mapping[str, Accumulator] = NOBODY
) -> dict[str, Histogram]:
    """Look at each tensor over the context's data; ``beside`` gets those of its own in the same runs.

    What is not finite somewhere says so in its ``extremes``.
    """
    seen = {name: Histogram(counted=counted) for name in tensors}
    wanted: dict[str, Accumulator] = {**beside, **seen}
    wanted |= {name: _Both(seen[name], beside[name]) for name in seen if name in beside}
    feeds = ctx.feeds
    with ctx.progress("calibrate", len(feeds)) as bar:
        collect(model, wanted, feeds, advance=bar.advance)
    return seen


class _Both:
    """Two accumulators of one tensor."""

    def __init__(self, first: Accumulator, second: Accumulator) -> None:
        self.first, self.second = first, second

    def update(self, array: Array) -> None:
        self.first.update(array)
        self.second.update(array)
