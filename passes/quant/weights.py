"""Weights and biases in integers.

A kernel computes sum_k x_k w_k + b. With x = s_x (q_x - z_x), w = s_w q_w and b = s_b q_b the runtime sums integers only if

    s_b = s_x * s_w   (as a float32 product) and zero point 0,

so the bias has no scale of its own. It must fit into int32 together with the sum of the products; where |b| is large against
s_x s_w (a channel whose weights are all but zero), that channel's s_w is enlarged: its weights lose steps they had no use for.

    s_w = max( max|w| / q_max,  |b| / (s_x * B),  least normal / s_x )      B = 2^30, leaving as much for the sum of products

A dead channel (all weights zero) has no scale by itself; it takes the largest of the others, and its bias stays exact enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.passes.quant.affine import TINY

Floats = NDArray[np.float64]
Reals = NDArray[np.floating]

BIAS_LIMIT = 2**30
"""Biases stay below this; products of K terms need K * 255 * 127 of the remaining half of int32, enough for K = 66,000."""


@dataclass(frozen=True, slots=True)
class Weight:
    """An int8 weight: ``values`` [same shape as the float one], ``scale`` [channels] or [] in float32, zero point 0."""

    values: NDArray[np.int8]
    scale: NDArray[np.float32]
    axis: int | None
    enlarged: int
    """Channels whose scale the bias enlarged."""

    def real(self) -> NDArray[np.float64]:
        """The weight that the integers stand for."""
        return self.values.astype(np.float64) * self._spread()

    def _spread(self) -> NDArray[np.float64]:
        if self.axis is None:
            return self.scale.astype(np.float64)
        return along(self.scale.astype(np.float64), self.axis, self.values.ndim)


def along(vector: Floats, axis: int, rank: int) -> Floats:
    """[channels] shaped to broadcast along ``axis`` of a tensor of ``rank``."""
    return vector.reshape([-1 if a == axis else 1 for a in range(rank)])


def quantize_weight(
    weight: Reals, axis: int, s_x: np.float32, bias: Reals | None, *, q_max: int = 127, per_channel: bool = True
) -> Weight:
    """Quantize symmetrically.

    Args:
        weight: any shape.
        axis: the one that runs over output channels.
        s_x: the scale of the kernel's input.
        bias: [channels], or None.
        q_max: 127, or 63 for a device that wants 7 bits.
        per_channel: one scale a channel, or one for all.
    """
    rows = np.moveaxis(np.asarray(weight, np.float64), axis, 0).reshape(weight.shape[axis], -1)
    plain = np.abs(rows).max(axis=1, initial=0.0) / q_max
    least = np.full_like(plain, 4 * TINY / float(s_x))
    if bias is not None:
        least = np.maximum(least, np.abs(np.asarray(bias, np.float64)) / (float(s_x) * BIAS_LIMIT))
    plain = np.where(plain > 0, plain, plain.max(initial=0.0) or 1.0)
    scale = np.maximum(plain, np.maximum(least, TINY))
    enlarged = int(np.count_nonzero(scale > plain))
    if not per_channel:
        scale = scale.max(keepdims=True)
    stored = _up(scale)
    values = np.clip(np.rint(rows / stored.astype(np.float64)[:, None]), -q_max, q_max).astype(np.int8)
    shape = [weight.shape[axis], *(n for a, n in enumerate(weight.shape) if a != axis)]
    whole = np.ascontiguousarray(np.moveaxis(values.reshape(shape), 0, axis))
    return Weight(whole, stored if per_channel else stored.reshape(()), axis if per_channel else None, enlarged)


def quantize_bias(bias: Reals, s_x: np.float32, s_w: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Bias and its scale: [channels] int32, and s_x * s_w in float32 (the same shape as ``s_w``)."""
    scale = np.asarray(np.float32(s_x) * s_w, np.float32)
    values = np.rint(np.asarray(bias, np.float64) / scale.astype(np.float64))
    return np.clip(values, -(2**31) + 1, 2**31 - 1).astype(np.int32), scale


def _up(scale: Floats) -> NDArray[np.float32]:
    """To float32, never downwards: the greatest weight must not pass q_max, nor a bias its limit."""
    stored = scale.astype(np.float32)
    return np.where(stored.astype(np.float64) < scale, np.nextafter(stored, np.float32(np.inf)), stored).astype(np.float32)
