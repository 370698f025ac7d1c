"""Recurrent layers."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.row import QuantRule, Role, Row

ROWS = tuple(
    Row(op, since=7, cost=cost.recurrent, channels=channels.RECURRENT, quant=QuantRule(Role.NONE)) for op in ("RNN", "GRU", "LSTM")
)
