"""What a kernel reads in the float network and in the quantized one, x and x^, at the same positions: [positions, groups, columns].

Depthwise kernels have few columns and many groups, others the reverse; either way these are the largest arrays of the pass. They
lie in files and are read in parts, so that memory does not depend on samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphopt.passes.quant.affine import TINY

Floats = NDArray[np.float64]
Reals = NDArray[np.float32]

PART_BYTES = 2**23
"""Of either array, at a time."""

DAMPING = 0.01
"""Added to the diagonal of the covariance, as a share of its mean, at the least: see ``Seen.damping``."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The two arrays.

    Attributes:
        shape: of each of them.
        parts: reads both from the first position to the last, some positions at a time.
    """

    shape: tuple[int, int, int]
    parts: Callable[[], Iterator[tuple[Reals, Reals]]]

    @classmethod
    def of(cls, exact: Reals, quantized: Reals) -> Seen:
        """Arrays in memory."""
        positions, groups, columns = exact.shape
        return cls((int(positions), int(groups), int(columns)), lambda: iter([(exact, quantized)]))

    @classmethod
    def stored(cls, exact: Path, quantized: Path, groups: int, columns: int) -> Seen:
        """Two files of float32."""
        row = groups * columns
        most = max(1, PART_BYTES // (4 * row)) * row

        def parts() -> Iterator[tuple[Reals, Reals]]:
            with exact.open("rb") as first, quantized.open("rb") as second:
                while (x := np.fromfile(first, np.float32, most)).size:
                    read = np.fromfile(second, np.float32, most)
                    yield x.reshape(-1, groups, columns), read.reshape(-1, groups, columns)

        return cls((exact.stat().st_size // (4 * row), groups, columns), parts)

    def second(self, *, centred: bool) -> Floats:
        """Second moments of x^, [groups, columns, columns], about the mean, or about zero; in units of the largest square, since
        rounding asks for their ratios only and squares leave float32 long before values do.
        """
        positions, groups, columns = self.shape
        total = np.zeros((groups, columns))
        low, high = np.zeros((groups, columns), np.float32), np.zeros((groups, columns), np.float32)
        for _, q in self.parts():
            total += q.sum(axis=0, dtype=np.float64)
            low, high = np.minimum(low, q.min(axis=0)), np.maximum(high, q.max(axis=0))
        # Centred before the products: after them, what is all but constant would drown in their rounding.
        centre = (total / max(positions, 1) * centred).astype(np.float32)
        unit = max(float(np.maximum(high - centre, centre - low).max(initial=0.0)), TINY)
        moments: Floats = np.zeros((groups, columns, columns))
        for _, q in self.parts():
            scaled = np.ascontiguousarray((q - centre).transpose(1, 0, 2)) / unit
            moments += np.matmul(scaled.transpose(0, 2, 1), scaled)
        return moments / max(positions, 1)

    def outputs(self, weight: Reals, rounded: Reals) -> tuple[Reals, Reals]:
        """What the kernel makes of x with ``weight``, and of x^ with ``rounded`` ([groups, outputs, columns]), before its bias:
        [groups, outputs, positions].
        """
        made = [np.empty((*weight.shape[:2], self.shape[0]), np.float32) for _ in range(2)]
        at = 0
        for pair in self.parts():
            for result, array, kernel in zip(made, pair, (weight, rounded), strict=True):
                result[:, :, at : at + len(array)] = np.matmul(kernel, array.transpose(1, 2, 0))
            at += len(pair[0])
        return made[0], made[1]

    @property
    def damping(self) -> float:
        """A covariance of k columns from n positions is uncertain by about k / n: what is added to its diagonal grows with that."""
        positions, _, columns = self.shape
        return max(DAMPING, columns / (2 * max(positions, 1)))
