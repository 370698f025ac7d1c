"""Fits of one operator, as matrices: least squares with a ridge, matched moments, and fits that know what a flat function forgives.

With x what an operator reads and y what it should make,

    minimise  E |W x + b - y|^2 + lambda d |W - W0|^2,        d the mean variance of a feature,

a ridge toward the weights W0 that there are. *Matching* scales the rows of W and moves b, so that each output has the mean and the
variance that it should have: least squares shrinks what it cannot predict.

*Relaxed targets*. Let nothing but a function that is flat outside [l, h] read s + W x + b (Relu, Clip, HardSwish below -3; s is a
bias or a shortcut). A sum that should lie below l may lie anywhere below it, so the error of a position is the distance of
z = W x + b to a set: {y} where l <= s + y <= h, else {z: s + z <= l} or {z: s + z >= h}. Its least mean square is found by turns,

    t = the point of the set that is nearest to W x + b,        W, b = the ridge fit to t,

of which neither raises the error (after Zhang et al., "Accelerating Very Deep Convolutional Networks for Classification and
Detection", arXiv:1505.06798, who alternate likewise). Each turn is a step down the gradient in the metric of the fit, whose matrix
stays the same; it is taken from a point a little ahead of W, b, which is faster though no longer monotone (Beck and Teboulle, "A
Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", 2009). Matched then are mean and variance of what the
function lets through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from graphopt.passes.prune.layers import Layer, Sums

Array = NDArray[Any]
Floats = NDArray[np.float64]
Part = tuple[Array, Array, Array]

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths that are tried, relative to the mean variance of a feature."""

_ROUNDING = 1e-9
"""A variance that is a smaller share of the mean square is rounding."""

_MOST_STRETCH = 2.0
"""Matching scales no output by more than this, nor by less than its inverse."""

_TURNS = 12
"""Of relaxed targets, and of moments behind a function."""
_STILL = 1e-3
"""A share of all weights: where a turn moves them by less, they have arrived."""
_AGAIN = 4
"""Of relaxed targets, from a fit to most of the samples."""

_CHUNK = 2**24
"""Bytes of a matrix of samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Weights of a layer [blocks, outputs, columns] and what is to be added to its bias [blocks, outputs]."""

    weight: Floats
    shift: Floats
    ridge: float = 0.0

    @property
    def finite(self) -> bool:
        """Whether all of it is numbers."""
        return bool(np.isfinite(self.weight).all() and np.isfinite(self.shift).all())


@dataclass(slots=True, eq=False)
class Samples:
    """What an operator is fitted to: sums, and where a flat function follows the samples themselves.

    Attributes:
        sums: over all of it.
        flat: l and h (the module's docstring), if a flat function follows.
        parts: x [blocks, positions, columns], y [blocks, positions, outputs] and s, like y or with one position for all.
    """

    sums: Sums
    flat: tuple[float, float] | None = None
    parts: list[Part] = field(default_factory=list[Part])
    _waiting: list[Part] = field(default_factory=list[Part])

    @staticmethod
    def of(layer: Layer, flat: tuple[float, float] | None) -> Samples:
        """None yet."""
        return Samples(Sums.of(layer), flat)

    def add(self, x: Array, y: Array, added: Array) -> None:
        """Take in samples."""
        self.sums.add(x, y)
        if self.flat is None:
            return
        self._waiting.append((x.astype(np.float32), y.astype(np.float32), added.astype(np.float32)))
        if sum(part[0].nbytes for part in self._waiting) >= _CHUNK:
            self._gather()

    def _gather(self) -> None:
        """Small parts into a large one."""
        if self._waiting:
            x, y, added = zip(*self._waiting, strict=True)
            alike = all(a.shape[1] == 1 for a in added)
            self.parts.append((np.concatenate(x, 1), np.concatenate(y, 1), added[0] if alike else np.concatenate(added, 1)))
            self._waiting = []

    def plus(self, other: Samples) -> Samples:
        """Both."""
        self._gather()
        other._gather()
        return Samples(self.sums.plus(other.sums), self.flat, [*self.parts, *other.parts])

    def chunks(self) -> Iterator[Part]:
        """The samples, some positions at a time."""
        self._gather()
        for x, y, added in self.parts:
            step = max(1, _CHUNK // (4 * x.shape[0] * max(x.shape[2], y.shape[2])))
            for start in range(0, x.shape[1], step):
                part = slice(start, start + step)
                yield x[:, part], y[:, part], added if added.shape[1] == 1 else added[:, part]


REFITTED, MATCHED, BOTH = "refitted", "matched", "refitted, matched"
RELAXED, RELAXED_MATCHED = "relaxed", "relaxed, matched"


def candidates_of(fit: Samples, held: Sums, base: Fit, *, biased: bool) -> dict[str, Fit]:
    """The fits that ``fit`` and ``held`` give besides ``base``, by name. ``biased``: whether a bias can be fitted.

    Moments are matched behind a flat function, where one follows, rather than before it.
    """
    found: dict[str, Fit | None] = {}
    refitted = found[REFITTED] = best_ridge(fit.sums, held, base, constant=biased)
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number is left out below
        relaxed = relaxed_fit(fit, base, refitted or Fit(base.weight, base.shift, RIDGES[-1]), constant=biased)
        behind = matched_behind(fit, relaxed) if biased and relaxed is not None else None
    if relaxed is not None:
        found[RELAXED], found[RELAXED_MATCHED] = relaxed, behind
    elif biased:
        found[MATCHED] = matched(fit.sums, base)
        found[BOTH] = None if refitted is None else matched(fit.sums, refitted)
    return {name: made for name, made in found.items() if made is not None and made.finite}


def again(name: str, samples: Samples, base: Fit, chosen: Fit, *, biased: bool) -> Fit:
    """The fit that was ``chosen`` under that name, from other samples; itself where they give none."""
    with np.errstate(over="ignore", invalid="ignore"):
        made = _again(name, samples, base, chosen, biased=biased)
    return chosen if made is None or not made.finite else made


def _again(name: str, samples: Samples, base: Fit, chosen: Fit, *, biased: bool) -> Fit | None:
    if name == MATCHED:
        return matched(samples.sums, base)
    if name in (RELAXED, RELAXED_MATCHED):
        relaxed = relaxed_fit(samples, base, chosen, constant=biased, turns=_AGAIN)
        return relaxed if relaxed is None or name == RELAXED else matched_behind(samples, relaxed)
    refitted = ridge_fit(samples.sums, base, chosen.ridge, constant=biased)
    return refitted if refitted is None or name == REFITTED else matched(samples.sums, refitted)


def ridge_fit(sums: Sums, base: Fit, ridge: float, *, constant: bool) -> Fit | None:
    """Least squares with a ridge toward ``base``; None if it cannot be solved. ``constant``: whether a bias is fitted."""
    system = _System(sums, base, ridge, constant=constant)
    return system.fit(sums.xy, sums.y) if system.solvable else None


def best_ridge(fit: Sums, held: Sums, base: Fit, *, constant: bool) -> Fit | None:
    """The fit with the least error on held-out samples; None if that is ``base``."""
    best, least = None, float(held.error(base.weight, base.shift).sum())
    for ridge in RIDGES:
        made = ridge_fit(fit, base, ridge, constant=constant)
        error = float("inf") if made is None else float(held.error(made.weight, made.shift).sum())
        if error < least:
            best, least = made, error
    return best


def matched(sums: Sums, fit: Fit) -> Fit:
    """``fit`` with the mean and the variance of each output as they should be."""
    n = sums.count
    mean_x, mean_y = sums.x / n, sums.y / n
    covariance = sums.xx / n - mean_x[:, :, None] * mean_x[:, None, :]
    have = np.maximum(np.einsum("gok,gok->go", fit.weight @ covariance, fit.weight), 0)
    want = np.maximum(sums.yy / n - mean_y**2, 0)
    known = (have > _ROUNDING * (have + np.square(mean_y))) & (have > 0)
    stretch = np.sqrt(np.divide(want, have, out=np.ones_like(want), where=known)).clip(1 / _MOST_STRETCH, _MOST_STRETCH)
    weight = fit.weight * stretch[:, :, None]
    return Fit(weight, mean_y - np.einsum("gok,gk->go", weight, mean_x), fit.ridge)


def relaxed_fit(samples: Samples, base: Fit, start: Fit, *, constant: bool, turns: int = _TURNS) -> Fit | None:
    """The fit to relaxed targets, from ``start`` and with its ridge; None where nothing is relaxed, or it cannot be solved."""
    sums, flat = samples.sums, samples.flat
    if flat is None:
        return None
    system = _System(sums, base, start.ridge, constant=constant)
    if not system.solvable:
        return None
    fit = at = start
    for turn in range(turns):
        # Of what is made, exactly, plus of what is amiss: that is small, and may be summed from float32.
        weight = at.weight.transpose(0, 2, 1)
        xy = sums.xx @ weight + sums.x[:, :, None] * at.shift[:, None]
        y = (sums.x[:, None] @ weight)[:, 0] + sums.count * at.shift
        for x, wanted, added in samples.chunks():
            made = _made(x, at)
            amiss = _nearest(made, wanted, added, flat) - made
            xy += x.transpose(0, 2, 1) @ amiss
            y += amiss.sum(1, dtype=np.float64)
        found = system.fit(xy, y)
        if found is None:
            return None
        if np.square(found.weight - at.weight).sum() < _STILL**2 * np.square(found.weight).sum():
            return found
        ahead = turn / (turn + 3)
        at = Fit(found.weight + ahead * (found.weight - fit.weight), found.shift + ahead * (found.shift - fit.shift))
        fit = found
    return fit


def matched_behind(samples: Samples, fit: Fit) -> Fit:
    """``fit`` with mean and variance of what the flat function lets through as they should be."""
    if samples.flat is None:
        return matched(samples.sums, fit)
    low, high = samples.flat
    made = [_made(x, fit) for x, _, _ in samples.chunks()]
    added = [s for _, _, s in samples.chunks()]
    mean, deviation = _moments(np.clip(y + s, low, high) for _, y, s in samples.chunks())
    middle, _ = _moments(made)
    stretch, place = np.ones_like(middle), middle
    for _ in range(_TURNS):
        scale, shift = stretch.astype(np.float32), (place - stretch * middle).astype(np.float32)
        have, spread = _moments(np.clip(z * scale + (s + shift), low, high) for z, s in zip(made, added, strict=True))
        known = (spread > _ROUNDING * np.abs(mean)) & (spread > 0)
        factor = np.divide(deviation, spread, out=np.ones_like(spread), where=known)
        stretch = (stretch * factor).clip(1 / _MOST_STRETCH, _MOST_STRETCH)
        place = place + mean - have
    weight = fit.weight * stretch.transpose(0, 2, 1)
    return Fit(weight, (place - stretch * (middle - fit.shift[:, None]))[:, 0], fit.ridge)


def _moments(parts: Iterable[Array]) -> tuple[Floats, Floats]:
    """Mean and deviation over all positions of parts [blocks, positions, outputs]: [blocks, 1, outputs] each."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for part in parts:
        count += part.shape[1]
        total = total + part.sum(1, keepdims=True, dtype=np.float64)
        squares = squares + np.square(part).sum(1, keepdims=True, dtype=np.float64)
    mean = total / max(count, 1)
    return mean, np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0.0))


def _made(x: Array, fit: Fit) -> Array:
    """W x + b, in the type of the samples."""
    made: Array = x @ fit.weight.transpose(0, 2, 1).astype(x.dtype) + fit.shift[:, None].astype(x.dtype)
    return made


def _nearest(z: Array, y: Array, added: Array, flat: tuple[float, float]) -> Array:
    """The point nearest to z of what may be."""
    low, high = flat[0] - added, flat[1] - added
    return np.where(y < low, np.minimum(z, low), np.where(y > high, np.maximum(z, high), y))


class _System:
    """The equations of a ridge fit, whatever the targets are."""

    def __init__(self, sums: Sums, base: Fit, ridge: float, *, constant: bool) -> None:
        n = sums.count
        self._count, self._base, self._ridge, self._constant = n, base, ridge, constant
        self._x = sums.x / n
        self._xx = sums.xx / n
        if constant:
            self._xx = self._xx - self._x[:, :, None] * self._x[:, None, :]
        # What is less than rounding of the uncentred sums is no variance.
        energy = np.trace(sums.xx, axis1=1, axis2=2) / n
        width = self._xx.shape[1]
        scale = (np.trace(self._xx, axis1=1, axis2=2) + _ROUNDING * energy) / width + np.finfo(float).tiny ** 0.5
        self._full = self._xx + (ridge * scale)[:, None, None] * np.eye(width)
        self._factor: tuple[Floats, bool] | None = None
        self.solvable = True
        if len(self._full) == 1:
            try:
                self._factor = scipy.linalg.cho_factor(self._full[0], lower=True, check_finite=False)
            except scipy.linalg.LinAlgError:
                self.solvable = False

    def fit(self, xy: Floats, y: Floats) -> Fit | None:
        """The fit to targets with these sums of x y^T and of y."""
        xy, mean_y = xy / self._count, y / self._count
        if self._constant:
            xy = xy - self._x[:, :, None] * mean_y[:, None, :]
        else:
            xy = xy - self._x[:, :, None] * self._base.shift[:, None, :]
        step = self._solved(xy - self._xx @ self._base.weight.transpose(0, 2, 1))
        if step is None:
            return None
        weight = self._base.weight + step.transpose(0, 2, 1)
        shift = mean_y - np.einsum("gok,gk->go", weight, self._x) if self._constant else self._base.shift
        return Fit(weight, shift, self._ridge)

    def _solved(self, right: Floats) -> Floats | None:
        if self._factor is not None:
            return np.asarray(scipy.linalg.cho_solve(self._factor, right[0], check_finite=False), np.float64)[None]
        try:
            return np.asarray(np.linalg.solve(self._full, right), np.float64)
        except np.linalg.LinAlgError:
            return None
