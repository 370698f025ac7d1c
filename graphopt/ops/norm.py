"""Normalisations. In inference form batch normalisation is a scale and a shift per channel; the others look at the data."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.affine import elementwise as affine
from graphopt.ops.row import QuantRule, Role, Row

_FLOAT = QuantRule(Role.NONE)

ROWS = (
    Row("BatchNormalization", since=7, cost=cost.nothing, affine=affine.batch_norm, channels=channels.PER_CHANNEL, quant=_FLOAT),
    Row("InstanceNormalization", cost=cost.nothing, channels=channels.PER_CHANNEL, quant=_FLOAT),
    *(
        Row(op, cost=cost.nothing, channels=channels.NORMALISE_FROM, quant=_FLOAT)
        for op in ("LayerNormalization", "RMSNormalization")
    ),
    *(Row(op, cost=cost.nothing, channels=channels.OVER_CHANNELS, quant=_FLOAT) for op in ("GroupNormalization", "LRN")),
    Row("LpNormalization", cost=cost.nothing, channels=channels.ALONG_AXIS, quant=_FLOAT),
    Row("MeanVarianceNormalization", cost=cost.nothing, channels=channels.OPAQUE, quant=_FLOAT),
)
