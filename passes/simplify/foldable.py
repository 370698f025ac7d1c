"""Which operators may be evaluated on constants: one row each, with what must be known first and what must not be.

An operator without a row is never evaluated. Left out on purpose:

- what draws numbers: RandomNormal, RandomUniform (and -Like), Bernoulli, Multinomial, Dropout in training;
- what carries subgraphs, sequences, optionals, maps or strings;
- QuantizeLinear and DequantizeLinear: a DequantizeLinear of a constant *is* how a quantized weight is stored, and folding it would
  give the weight back its four bytes and hide the quantizer from the passes that look for it;
- DynamicQuantizeLinear, the integer and quantized kernels: nobody needs them on constants.

**Guards.** A runtime does not check everything. An integer division by zero, or of the smallest number by -1, raises SIGFPE and
takes the process with it; so do strides, dilations, groups or block sizes of 0 in some kernels. Shifts by too many bits, integers
to a negative power and out-of-range floats cast to integers have no defined result: the value here need not be that of the device.
A guard looks at the actual values and says why the node must not be evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.ops import attrs
from graphopt.ops.facts import positive

Values = Sequence[NDArray[Any] | None]
"""Values of a node's inputs; None where one is left out or not asked for."""

Guard = Callable[[gs.Node, Values], str]
"""Why not; an empty string if nothing speaks against it."""


@dataclass(frozen=True)
class Foldable:
    """What must be known before a node of this type is evaluated.

    ``values``: the inputs whose values decide the size of the result, or its safety; ``empty``: whether inputs without elements are
    harmless; ``guard``: see above.
    """

    values: tuple[int, ...] = ()
    empty: bool = False
    guard: Guard | None = None


def _integer_division(node: gs.Node, values: Values) -> str:
    del node
    dividend, divisor = values[0], values[1]
    if dividend is None or divisor is None:
        return "an operand is missing"
    if divisor.dtype.kind not in "iu":
        return ""
    if not divisor.all():
        return "it divides an integer by zero"
    smallest = np.iinfo(dividend.dtype).min if dividend.dtype.kind == "i" else 0
    overflows = smallest < 0 and bool((divisor == -1).any()) and bool((dividend == smallest).any())
    return "its quotient overflows" if overflows else ""


def _shift(node: gs.Node, values: Values) -> str:
    del node
    amount, bits = values[1], values[0]
    if amount is None or bits is None:
        return "an operand is missing"
    return "it shifts by more bits than there are" if bool((amount >= bits.dtype.itemsize * 8).any()) else ""


def _power(node: gs.Node, values: Values) -> str:
    del node
    base, exponent = values[0], values[1]
    if base is None or exponent is None:
        return "an operand is missing"
    if base.dtype.kind not in "iu":
        return ""
    with np.errstate(all="ignore"):
        power = np.power(base.astype(np.float64), exponent.astype(np.float64))
    defined = np.isfinite(power).all() and np.abs(power).max(initial=0) < 2.0**53 and not (exponent < 0).any()
    return "" if defined else "an integer to this power is not defined, or overflows"


def _cast(node: gs.Node, values: Values) -> str:
    """Out of range, or NaN: undefined."""
    source = values[0]
    try:
        to = np.dtype(tensor_dtype_to_np_dtype(attrs.int_(node, "to", 0)))
    except (KeyError, ValueError, TypeError):
        return "its type is none of ONNX"
    return cast_guard(source, to)


def _cast_like(node: gs.Node, values: Values) -> str:
    del node
    return cast_guard(values[0], values[1].dtype) if values[1] is not None else "an operand is missing"


def cast_guard(source: NDArray[Any] | None, to: np.dtype[Any]) -> str:
    """Why a cast of these values has no defined result."""
    if source is None:
        return "an operand is missing"
    if source.dtype.kind != "f" or to.kind not in "iu" or source.size == 0:
        return ""
    low, high = float(np.trunc(source.min())), float(np.trunc(source.max()))
    limits = np.iinfo(to)
    fits = float(limits.min) <= low and high < float(limits.max) + 1
    return "" if fits else "a value does not fit the integer type"


def _positive(*names: str) -> Guard:
    """Attributes that must be above zero where they are given."""

    def guard(node: gs.Node, values: Values) -> str:
        del values
        for name in names:
            if not positive((*attrs.ints(node, name, ()), attrs.int_(node, name, 1))):
                return f"its {name} is not above zero"
        return ""

    return guard


def _step(node: gs.Node, values: Values) -> str:
    """Range: a step that is a number, and not 0."""
    del node
    if any(v is None or v.size != 1 for v in values[:3]):
        return "an operand is not a scalar"
    bounds = [float(v.reshape(())) for v in values[:3] if v is not None]
    if not all(np.isfinite(bounds)):
        return "an operand is not finite"
    return "its step is zero" if bounds[2] == 0 else ""


def _nonzero_steps(node: gs.Node, values: Values) -> str:
    del node
    steps = values[4] if len(values) > 4 else None
    return "a step is zero" if steps is not None and not steps.all() else ""


def _each(ops: str, row: Foldable) -> dict[str, Foldable]:
    return dict.fromkeys(ops.split(), row)


_PLAIN = Foldable(empty=True)
_NUMERIC = Foldable()
_REDUCTION = Foldable(values=(1,))
_WINDOW = Foldable(guard=_positive("strides", "dilations", "group", "kernel_shape"))

FOLDABLE: dict[str, Foldable] = {
    # element by element
    **_each(
        "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish IsInf IsNaN "
        "LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh "
        "ThresholdedRelu BitwiseNot "
        "Add Sub Mul And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual PRelu Max Min Sum Mean Where "
        "BitwiseAnd BitwiseOr BitwiseXor",
        _PLAIN,
    ),
    "Div": Foldable(values=(0, 1), empty=True, guard=_integer_division),
    "Mod": Foldable(values=(0, 1), empty=True, guard=_integer_division),
    "BitShift": Foldable(values=(0, 1), empty=True, guard=_shift),
    "Pow": Foldable(values=(0, 1), empty=True, guard=_power),
    "Cast": Foldable(values=(0,), empty=True, guard=_cast),
    "CastLike": Foldable(values=(0, 1), empty=True, guard=_cast_like),
    # movement
    **_each("Identity Transpose Concat Flatten GatherND ScatterElements ScatterND Scatter", _PLAIN),
    "Gather": _PLAIN,
    "GatherElements": _PLAIN,
    "DepthToSpace": Foldable(guard=_positive("blocksize")),
    "SpaceToDepth": Foldable(guard=_positive("blocksize")),
    "Reshape": Foldable(values=(1,), empty=True),
    "Squeeze": Foldable(values=(1,), empty=True),
    "Unsqueeze": Foldable(values=(1,), empty=True),
    "Slice": Foldable(values=(1, 2, 3, 4), empty=True, guard=_nonzero_steps),
    "Split": Foldable(values=(1,)),
    "Expand": Foldable(values=(1,), empty=True),
    "Tile": Foldable(values=(1,)),
    "Pad": Foldable(values=(1, 3)),
    "Trilu": Foldable(values=(1,)),
    "ReverseSequence": _NUMERIC,
    # makers
    "ConstantOfShape": Foldable(values=(0,), empty=True),
    "Range": Foldable(values=(0, 1, 2), guard=_step),
    "EyeLike": _NUMERIC,
    "OneHot": Foldable(values=(1,)),
    "Shape": _PLAIN,
    "Size": _PLAIN,
    # over an axis
    **_each(
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare",
        _REDUCTION,
    ),
    **_each("ArgMax ArgMin CumSum Softmax LogSoftmax Hardmax LpNormalization", _NUMERIC),
    # products and windows: weights that are composed inside the graph
    **_each("MatMul Gemm Einsum", _NUMERIC),
    "Conv": _WINDOW,
    "ConvTranspose": _WINDOW,
    **_each(
        "BatchNormalization InstanceNormalization LayerNormalization GroupNormalization",
        Foldable(guard=_positive("num_groups")),
    ),
    "Resize": Foldable(values=(1, 2, 3)),
    "Upsample": Foldable(values=(1,)),
}
"""Operators of the default domain. A reduction of integers over nothing divides by zero, hence no empty inputs there."""

NATIVE = frozenset(np.dtype(t) for t in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"))
"""Element types that cross the border to the runtime and back unchanged."""


def elem_type(dtype: np.dtype[Any]) -> int:
    """ONNX's number for a numpy type."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
