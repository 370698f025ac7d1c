"""What a QuantizeLinear or DequantizeLinear holds, and what it makes of numbers (ONNX operators of the same names).

q = clip(round(x / scale) + zero), x ~ (q - zero) * scale, with one scale for all, one a channel, or one a block of a channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model
from graphopt.model.domains import STANDARD

Q, DQ = "QuantizeLinear", "DequantizeLinear"
QUANTIZER_DOMAINS = STANDARD | {"com.microsoft"}


@dataclass(frozen=True, slots=True)
class Scale:
    """The constant parameters of a quantizer; ``zero`` is None where none is given (then it is 0 of uint8, or of the input), and
    ``block`` 0 where a scale is not for a block of elements along the axis.
    """

    scale: NDArray[Any]
    zero: NDArray[Any] | None
    axis: int
    block: int = 0

    def same(self, other: Scale) -> bool:
        """Whether both quantize alike."""
        first, second = (np.zeros((), np.int8) if s.zero is None else s.zero for s in (self, other))
        if first.ndim and second.ndim and first.shape != second.shape:
            return False
        kinds = [None if s.zero is None else s.zero.dtype for s in (self, other)]
        alike = kinds[0] == kinds[1] or None in kinds
        per_axis = self.scale.size > 1
        return (
            self.scale.shape == other.scale.shape
            and np.array_equal(self.scale, other.scale)
            and bool(np.all(first == second))
            and alike
            and (not per_axis or (self.axis, self.block) == (other.axis, other.block))
        )


def is_quantizer(node: gs.Node) -> bool:
    """QuantizeLinear or DequantizeLinear, of ONNX or of onnxruntime."""
    return node.op in (Q, DQ) and node.domain in QUANTIZER_DOMAINS


def scale_of(model: Model, node: gs.Node) -> Scale | None:
    """The parameters of a quantizer, None if they are no constants."""
    if len(node.inputs) < 2:
        return None
    scale = model.value(node.inputs[1])
    given = len(node.inputs) > 2 and bool(node.inputs[2].name)
    zero = model.value(node.inputs[2]) if given else None
    if scale is None or (given and zero is None):
        return None
    return Scale(scale, zero, int(node.attrs.get("axis", 1)), int(node.attrs.get("block_size", 0)))


def quantize(values: NDArray[Any], scale: Scale, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """clip(round(x / scale) + zero) in ``dtype``, rounding half to even; None if the parameters fit no axis."""
    zero = np.zeros((), np.int64) if scale.zero is None else scale.zero.astype(np.int64)
    factors, zeros = (_spread(np.asarray(one), values.shape, scale) for one in (scale.scale, zero))
    if factors is None or zeros is None:
        return None
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(values / factors) + zeros, limits.min, limits.max).astype(dtype))


def dequantize(stored: NDArray[Any], scale: Scale) -> NDArray[Any] | None:
    """(q - zero) * scale, element by element; None if there are more or fewer parameters than ``stored`` has channels or blocks."""
    zero = np.zeros((), stored.dtype) if scale.zero is None else scale.zero
    factors, zeros = (_spread(np.asarray(one).astype(np.float64), stored.shape, scale) for one in (scale.scale, zero))
    if factors is None or zeros is None:
        return None
    return np.asarray((stored.astype(np.float64) - zeros) * factors, np.float32)


def _spread(parameter: NDArray[Any], shape: tuple[int, ...], scale: Scale) -> NDArray[Any] | None:
    """A parameter in a shape that broadcasts to ``shape``: one for all, one a channel, or one a block of a channel."""
    if parameter.size == 1:
        return parameter.reshape(())
    rank = len(shape)
    if not -rank <= scale.axis < rank:
        return None
    axis = scale.axis % rank
    if parameter.shape == (shape[axis],):
        return parameter.reshape([-1 if i == axis else 1 for i in range(rank)])
    if scale.block > 0:
        blocks = tuple(-(-n // scale.block) if i == axis else n for i, n in enumerate(shape))
        if parameter.shape == blocks:
            return np.take(np.repeat(parameter, scale.block, axis), np.arange(shape[axis]), axis)
    return None
