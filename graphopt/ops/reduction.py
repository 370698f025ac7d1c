"""Reductions over axes, and the operators that pick or order by value."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.affine import kernels as affine
from graphopt.ops.row import QuantRule, Role, Row

REDUCE = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
          "ReduceLogSumExp", "ReduceSumSquare")  # fmt: skip

_FLOAT = QuantRule(Role.NONE)

ROWS = (
    Row("ReduceMean", cost=cost.nothing, affine=affine.reduce_mean, channels=channels.REDUCTION, quant=_FLOAT),
    *(Row(op, cost=cost.nothing, channels=channels.REDUCTION, quant=_FLOAT) for op in REDUCE if op != "ReduceMean"),
    *(Row(op, cost=cost.nothing, channels=channels.ALONG_AXIS, quant=_FLOAT) for op in ("ArgMax", "ArgMin", "TopK", "CumSum")),
    Row("NonZero", cost=cost.nothing, channels=channels.OPAQUE, quant=_FLOAT),
)
