"""Operators on shapes, and makers of constants."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.row import QuantRule, Role, Row

_FLOAT = QuantRule(Role.NONE)

ROWS = (
    *(Row(op, cost=cost.nothing, channels=channels.SOURCE, quant=_FLOAT) for op in ("Shape", "Constant", "ConstantOfShape")),
    *(Row(op, cost=cost.nothing, channels=channels.OPAQUE, quant=_FLOAT) for op in ("Size", "Range", "OneHot", "EyeLike")),
)
