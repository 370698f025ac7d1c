"""Quantizers: the steps between float and integers."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.row import QuantRule, Role, Row

ROWS = (
    *(
        Row(op, cost=cost.nothing, channels=channels.QUANTIZER, quant=QuantRule(Role.NONE))
        for op in ("QuantizeLinear", "DequantizeLinear")
    ),
    Row("DynamicQuantizeLinear", cost=cost.nothing, channels=channels.OPAQUE, quant=QuantRule(Role.NONE)),
)
