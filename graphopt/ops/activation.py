"""Functions of one value, applied to every element; and those over an axis (Softmax and its kin)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.ops import attrs, channels, cost
from graphopt.ops.affine import elementwise as affine
from graphopt.ops.row import QuantRule, Role, Row

_FLOAT = QuantRule(Role.NONE)
_FUSED = QuantRule(Role.ACTIVATION)
_ARITHMETIC = QuantRule(Role.ARITHMETIC)

POINTWISE = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "Log", "Mish", "Not", "Reciprocal", "Round", "Selu", "Shrink", "Sign", "Sin",
    "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip

OVER_AXIS = ("Softmax", "LogSoftmax", "Hardmax")

ROWS = (
    Row("Identity", cost=cost.nothing, affine=affine.identity, channels=channels.UNARY_ZERO, quant=QuantRule(Role.SAME_SCALE)),
    Row("Dropout", cost=cost.nothing, affine=affine.dropout, channels=channels.UNARY_ZERO, quant=QuantRule(Role.SAME_SCALE)),
    Row("Relu", cost=cost.nothing, channels=channels.UNARY_ZERO, quant=_FUSED),
    Row("Clip", cost=cost.nothing, channels=channels.UNARY, quant=_FUSED),
    Row("LeakyRelu", cost=cost.nothing, channels=channels.UNARY_ZERO, quant=_ARITHMETIC),
    Row("Sigmoid", cost=cost.nothing, channels=channels.UNARY, quant=_ARITHMETIC),
    Row("PRelu", since=7, cost=cost.nothing, channels=channels.ELEMENTWISE, quant=_FLOAT),
    Row("Cast", cost=cost.nothing, channels=channels.UNARY_ZERO, quant=_FLOAT),
    *(Row(op, cost=cost.nothing, channels=channels.UNARY, quant=_FLOAT) for op in POINTWISE),
    Row("Softmax", cost=cost.nothing, channels=channels.SOFTMAX, quant=_ARITHMETIC),
    *(Row(op, cost=cost.nothing, channels=channels.SOFTMAX, quant=_FLOAT) for op in OVER_AXIS if op != "Softmax"),
)

Value = Callable[[gs.Tensor], NDArray[Any] | None]
"""The value of a constant tensor; None if it is not constant."""


def bounds(node: gs.Node, value: Value) -> tuple[float, float] | None:
    """The least and the greatest value that Relu or Clip lets through (inputs since opset 11, attributes before).

    None for other operators, and where the bounds are not constant.
    """
    if node.op == "Relu":
        return 0.0, math.inf
    if node.op != "Clip":
        return None
    found = [float(node.attrs.get("min", -math.inf)), float(node.attrs.get("max", math.inf))]
    for index, tensor in enumerate(node.inputs[1:3]):
        if tensor.name:
            bound = value(tensor)
            if bound is None or bound.size != 1:
                return None
            found[index] = float(bound.reshape(-1)[0])
    return found[0], found[1]


def flat_outside(node: gs.Node, value: Value) -> tuple[float, float] | None:
    """Two numbers: of all that is below the first an operator makes one value, and one of all that is above the second.

    None where the operator is not known to be like that.
    """
    if node.domain:
        return None
    if node.op == "HardSwish":
        return -3.0, math.inf
    if node.op == "HardSigmoid":
        alpha, beta = attrs.float_(node, "alpha", 0.2), attrs.float_(node, "beta", 0.5)
        return (-beta / alpha, (1 - beta) / alpha) if alpha > 0 else None
    return bounds(node, value)
