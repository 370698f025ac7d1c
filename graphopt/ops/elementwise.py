"""Arithmetic between tensors, element by element after broadcasting (opset 7 and later: broadcasting by attribute came before)."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.affine import elementwise as affine
from graphopt.ops.row import QuantRule, Role, Row

_ARITHMETIC = QuantRule(Role.ARITHMETIC)
_FLOAT = QuantRule(Role.NONE)

ROWS = (
    Row("Add", since=7, cost=cost.nothing, affine=affine.add, channels=channels.ELEMENTWISE, quant=_ARITHMETIC),
    Row("Sub", since=7, cost=cost.nothing, affine=affine.subtract, channels=channels.ELEMENTWISE, quant=_FLOAT),
    Row("Mul", since=7, cost=cost.nothing, affine=affine.multiply, channels=channels.ELEMENTWISE, quant=_ARITHMETIC),
    Row("Div", since=7, cost=cost.nothing, affine=affine.divide, channels=channels.ELEMENTWISE, quant=_FLOAT),
    Row("Neg", cost=cost.nothing, affine=affine.negate, channels=channels.UNARY_ZERO, quant=_FLOAT),
    Row("Sum", since=8, cost=cost.nothing, affine=affine.add, channels=channels.ELEMENTWISE, quant=_FLOAT),
    *(Row(op, since=8, cost=cost.nothing, channels=channels.ELEMENTWISE, quant=_FLOAT) for op in ("Max", "Min", "Mean")),
    *(
        Row(op, since=7, cost=cost.nothing, channels=channels.ELEMENTWISE, quant=_FLOAT)
        for op in ("Pow", "Equal", "Greater", "Less", "And", "Or", "Xor")
    ),
    *(Row(op, cost=cost.nothing, channels=channels.ELEMENTWISE, quant=_FLOAT) for op in ("GreaterOrEqual", "LessOrEqual", "Mod")),
    Row("Where", since=9, cost=cost.nothing, channels=channels.ELEMENTWISE, quant=_ARITHMETIC),
)
