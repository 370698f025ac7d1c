"""How far one output is from another, summed up over any number of runs.

With r the reference's values, c the candidate's and e = c - r, over all elements of all runs:

    max_abs   max |e|
    range     max(r, 0) - min(r, 0): the reference's range, zero included
    rel       max_abs / range; 0 if both are 0, infinite if only the range is
    sqnr_db   10 log10(sum r^2 / sum e^2): infinite where c = r
    cosine    sum r c / sqrt(sum r^2 sum c^2); 1 where both are 0
    top1      for class scores ([N, K] or [N, K, 1, 1], K > 1): the share of rows whose greatest score is the same class
    psnr_db   for images ([N, 1 or 3 or 4, H, W]): 10 log10(range^2 / mean e^2)

Zero belongs to the range because rounding errors scale with the values, not with their spread: an output of 1000.0 and
1000.1 is not off when it is off by 1e-4. NaN and infinities must be in the same places, and are left out of the sums.
Integers, booleans and strings must be equal: ``mismatch`` is the share of elements that are not, and ``rel`` is then 0
or infinite. Where the outputs cannot be compared at all (another shape, another type) ``failure`` says why, and ``rel``
is infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kind = Literal["classes", "image", "tensor", "exact"]


@dataclass(frozen=True, slots=True)
class OutputDrift:
    """The distance between two outputs; the module's docstring defines the figures.

    ``sqnr_db`` and ``cosine`` are None for outputs that are compared for equality, ``top1`` and ``psnr_db`` for outputs
    of other kinds.
    """

    name: str
    kind: Kind
    max_abs: float
    range: float
    rel: float
    sqnr_db: float | None
    cosine: float | None
    top1: float | None = None
    psnr_db: float | None = None
    mismatch: float = 0.0
    failure: str | None = None


class Measure:
    """Adds up one output over the runs; ``result`` gives the figures. Memory does not grow with the runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failure: str | None = None
        self._kind: Kind | None = None
        self._max_abs = 0.0
        self._low = self._high = 0.0
        self._signal = self._noise = self._power = self._product = 0.0
        self._count = self._different = self._rows = self._agreed = 0

    def update(self, reference: object, candidate: object, run: int) -> None:
        """Take in what run number ``run`` gave. After a failure nothing more is looked at."""
        if self.failure is None:
            self.failure = self._add(reference, candidate, f"in run {run}")

    def _add(self, reference: object, candidate: object, where: str) -> str | None:
        if isinstance(reference, (list, tuple)):
            return self._sequence(cast(list[object], reference), candidate, where)
        if reference is None or candidate is None:
            return None if reference is candidate else f"{where} only one of them has a value"
        if _is_array(reference) and _is_array(candidate):
            return self._arrays(np.asarray(cast(Any, reference)), np.asarray(cast(Any, candidate)), where)
        return self._equal_values(reference, candidate, where)

    def _sequence(self, reference: list[object], candidate: object, where: str) -> str | None:
        self._kind = self._kind or "tensor"
        other: list[object] | None = list(cast(list[object], candidate)) if isinstance(candidate, (list, tuple)) else None
        if other is None or len(other) != len(reference):
            return f"{where} a sequence of {len(reference)} against {'none' if other is None else len(other)}"
        for first, second in zip(reference, other, strict=True):
            failure = self._add(first, second, where)
            if failure is not None:
                return failure
        return None

    def _equal_values(self, reference: object, candidate: object, where: str) -> str | None:
        self._kind = self._kind or "exact"
        self._count += 1
        if type(reference) is not type(candidate):
            return f"{where} a {type(candidate).__name__} instead of a {type(reference).__name__}"
        self._different += int(reference != candidate)
        return None

    def _arrays(self, reference: Array, candidate: Array, where: str) -> str | None:
        if reference.shape != candidate.shape:
            return f"{where} shape {list(candidate.shape)} instead of {list(reference.shape)}"
        if reference.dtype != candidate.dtype:
            return f"{where} {candidate.dtype} instead of {reference.dtype}"
        if not is_float(reference):
            self._kind = self._kind or "exact"
            self._count += reference.size
            self._different += int(np.count_nonzero(reference != candidate))
            self._max_abs = max(self._max_abs, _integer_distance(reference, candidate))
            return None
        kind = kind_of(reference)
        self._kind = kind if self._kind in (None, kind) else "tensor"
        return self._floats(reference, candidate, where)

    def _floats(self, reference: Array, candidate: Array, where: str) -> str | None:
        wide = np.complex128 if reference.dtype.kind == "c" else np.float64
        r, c = reference.astype(wide), candidate.astype(wide)
        finite = np.isfinite(r)
        if not finite.all() or not np.isfinite(c).all():
            failure = _special_values(r, c, where)
            if failure is not None:
                return failure
        self._classes(reference, candidate)
        r, c = r[finite], c[finite]
        if r.size == 0:
            return None
        error = np.abs(c - r)
        real = np.abs(r) if wide is np.complex128 else r
        self._max_abs = max(self._max_abs, float(error.max()))
        self._low, self._high = min(self._low, float(real.min())), max(self._high, float(real.max()))
        self._signal += float(np.sum(np.abs(r) ** 2))
        self._power += float(np.sum(np.abs(c) ** 2))
        self._noise += float(np.sum(error**2))
        self._product += float(np.sum(r * np.conj(c)).real)
        self._count += r.size
        return None

    def _classes(self, reference: Array, candidate: Array) -> None:
        if self._kind == "classes" and reference.size:
            rows = reference.shape[0]
            first = reference.reshape(rows, -1).argmax(axis=1)
            second = candidate.reshape(rows, -1).argmax(axis=1)
            self._rows += rows
            self._agreed += int(np.count_nonzero(first == second))

    def result(self) -> OutputDrift:
        """The figures so far."""
        kind: Kind = self._kind or "tensor"
        if kind == "exact" or self.failure is not None:
            share = self._different / self._count if self._count else 0.0
            wrong = self.failure is not None or self._different > 0
            worst = math.inf if self.failure is not None else self._max_abs
            rel = math.inf if wrong else 0.0
            return OutputDrift(self.name, kind, worst, 0.0, rel, None, None, mismatch=share, failure=self.failure)
        spread = self._high - self._low
        rel = self._max_abs / spread if spread > 0 else (0.0 if self._max_abs == 0 else math.inf)
        rel = math.inf if self._different else rel
        mean_square = self._noise / self._count if self._count else 0.0
        return OutputDrift(
            self.name,
            kind,
            self._max_abs,
            spread,
            rel,
            decibel(self._signal, self._noise),
            _cosine(self._product, self._signal, self._power),
            top1=self._agreed / self._rows if kind == "classes" and self._rows else None,
            psnr_db=decibel(spread**2, mean_square) if kind == "image" else None,
        )


def _is_array(value: object) -> bool:
    return isinstance(value, (np.ndarray, np.generic))


def is_float(array: Array) -> bool:
    """Whether an array holds floats of any kind (or complex numbers), bfloat16 and the 8-bit ones included."""
    return array.dtype.kind in "fc" or (array.dtype.kind == "V" and "float" in array.dtype.name)


def kind_of(array: Array) -> Kind:
    """What a float output looks like, by its shape."""
    shape = array.shape
    if (len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))) and shape[1] >= 2:
        return "classes"
    if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[2] > 1 and shape[3] > 1:
        return "image"
    return "tensor"


def decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise); infinite without noise, minus infinity for noise without signal."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _cosine(product: float, signal: float, power: float) -> float:
    if signal == 0 and power == 0:
        return 1.0
    # Two roots: the product of the sums may leave the range of a float64.
    return product / (math.sqrt(signal) * math.sqrt(power)) if signal > 0 and power > 0 else 0.0


def _special_values(r: Array, c: Array, where: str) -> str | None:
    """None if NaN and infinities are in the same places."""
    if not np.array_equal(np.isnan(r), np.isnan(c)):
        counts = [np.count_nonzero(np.isnan(x)) for x in (c, r)]
        return f"{where} NaN at other places: {counts[0]} against {counts[1]}"
    either = np.isinf(r) | np.isinf(c)
    if not np.array_equal(r[either], c[either]):
        counts = [np.count_nonzero(np.isinf(x)) for x in (c, r)]
        return f"{where} infinities at other places or of another sign: {counts[0]} against {counts[1]}"
    return None


def _integer_distance(reference: Array, candidate: Array) -> float:
    if reference.size == 0 or reference.dtype.kind not in "iu":
        return 0.0
    return float(np.max(np.abs(reference.astype(np.float64) - candidate.astype(np.float64))))
