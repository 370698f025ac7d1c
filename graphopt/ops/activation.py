"""Functions of one value, applied to every element; and those over an axis (Softmax and its kin)."""

from __future__ import annotations

from graphopt.ops import channels, cost
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
