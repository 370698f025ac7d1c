"""Pooling and resizing: channel by channel over the spatial axes."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.affine import kernels as affine
from graphopt.ops.row import QuantRule, Role, Row

_ARITHMETIC = QuantRule(Role.ARITHMETIC)
_SAME = QuantRule(Role.SAME_SCALE)

ROWS = (
    Row("AveragePool", cost=cost.nothing, affine=affine.average_pool, channels=channels.SPATIAL, quant=_ARITHMETIC),
    Row("MaxPool", cost=cost.nothing, channels=channels.SPATIAL, quant=_SAME),
    Row("LpPool", cost=cost.nothing, channels=channels.SPATIAL, quant=QuantRule(Role.NONE)),
    Row(
        "GlobalAveragePool", cost=cost.nothing, affine=affine.global_average_pool, channels=channels.GLOBAL_POOL, quant=_ARITHMETIC
    ),
    Row("GlobalMaxPool", cost=cost.nothing, channels=channels.GLOBAL_POOL, quant=QuantRule(Role.NONE)),
    Row("Resize", since=10, cost=cost.nothing, affine=affine.resize, channels=channels.RESAMPLE, quant=_SAME),
    Row("Upsample", since=7, cost=cost.nothing, affine=affine.resize, channels=channels.RESAMPLE, quant=_SAME),
)
