"""Affine quantization: q = clip(round(x / scale) + zero, low, high), x ~ (q - zero) * scale.

Scales are float32, as ONNX stores them; the functions here decide them in float64 and account for the rounding. (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018; ONNX operators QuantizeLinear
and DequantizeLinear.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.passes.quant.units import Bounds

Floats = NDArray[np.float64]
Real32 = NDArray[np.float32]

LIMITS: dict[str, tuple[int, int]] = {"uint8": (0, 255), "int8": (-128, 127)}

TINY = float(np.finfo(np.float32).tiny)
"""The least normal float32, 2^-126: nothing below it is used as a scale, since denormals are flushed or slow."""

ULPS = 4
"""Rounding to float32, of the scale and of its product, can lead outside of a bound by less than this."""

LEAST_SCALE = 2.0**-60
"""The least scale of an activation: products with weights' scales then stay well above ``TINY``."""

ANYTHING = Bounds()


@dataclass(frozen=True, slots=True)
class Params:
    """Scale and zero point of one tensor."""

    scale: np.float32
    zero: int
    dtype: Literal["uint8", "int8"]

    @property
    def low(self) -> float:
        """The least value that can be represented."""
        return (LIMITS[self.dtype][0] - self.zero) * float(self.scale)

    @property
    def high(self) -> float:
        """The greatest value that can be represented."""
        return (LIMITS[self.dtype][1] - self.zero) * float(self.scale)

    def quantize(self, values: NDArray[np.floating]) -> NDArray[np.integer]:
        """As QuantizeLinear: round half to even, saturate."""
        low, high = LIMITS[self.dtype]
        stored: NDArray[np.integer] = np.clip(np.rint(values / self.scale) + self.zero, low, high).astype(self.dtype)
        return stored

    def dequantize(self, values: NDArray[np.integer]) -> Real32:
        """As DequantizeLinear."""
        return ((values.astype(np.int32) - self.zero) * self.scale).astype(np.float32)


def params(
    low: float, high: float, dtype: Literal["uint8", "int8"], bounds: Bounds = ANYTHING, *, symmetric: bool = False
) -> Params:
    """The parameters that cover [low, high] and zero; the represented range lies inside ``bounds`` (which contain zero).

    ``symmetric``: with zero point 0 of int8 instead; a device that wants it does not ask for bounds.

    The zero point is the integer nearest to where zero falls. Where an activation is to vanish into the quantizer, the represented
    range must not reach beyond its bounds, so the scale is then shrunk by the rounding's amount (less than 1 / 127 of it).
    """
    if symmetric:
        reach = max(-low, high, 0.0)
        return Params(np.float32(max(reach / 127 if reach > 0 else 1 / 127, LEAST_SCALE)), 0, "int8")
    least, greatest = LIMITS[dtype]
    low, high = max(min(low, 0.0), bounds.low), min(max(high, 0.0), bounds.high)
    if not high - low > 0:
        low, high = (0.0, 1.0) if bounds.high > 0 else (-1.0, 0.0)
        low, high = max(low, bounds.low), min(high, bounds.high)
    scale = max((high - low) / (greatest - least), LEAST_SCALE)
    zero = int(np.clip(np.rint(least - low / scale), least, greatest))
    # A range as small as the least scale must still be one-sided where the activation is.
    zero = least if bounds.low == 0 else greatest if bounds.high == 0 else zero
    for limit, steps in ((bounds.low, least - zero), (bounds.high, greatest - zero)):
        if steps and np.isfinite(limit):
            scale = min(scale, limit / steps)
    chosen = np.float32(scale)
    for _ in range(ULPS):
        if _inside(chosen, zero, least, greatest, bounds):
            break
        chosen = np.nextafter(chosen, np.float32(0))
    return Params(chosen, zero, dtype)


def _inside(scale: np.float32, zero: int, least: int, greatest: int, bounds: Bounds) -> bool:
    # In float32, as the runtime checks it.
    low, high = scale * np.float32(least - zero), scale * np.float32(greatest - zero)
    return bool(np.float32(bounds.low) <= low and high <= np.float32(bounds.high))
