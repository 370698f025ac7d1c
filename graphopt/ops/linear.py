"""Matrix products."""

from __future__ import annotations

from graphopt.ops import channels, cost
from graphopt.ops.affine import matrices as affine
from graphopt.ops.channels.einsum import is_product
from graphopt.ops.row import QuantRule, Role, Row

ROWS = (
    Row(
        "Gemm",
        since=7,
        cost=cost.gemm,
        affine=affine.gemm,
        channels=channels.GEMM,
        quant=QuantRule(Role.KERNEL, weight=1, bias=2, axis=0),
    ),
    Row("Einsum", when=is_product, cost=cost.einsum, channels=channels.EINSUM, quant=QuantRule(Role.NONE)),
    Row("MatMul", cost=cost.matmul, affine=affine.matmul, channels=channels.MATMUL, quant=QuantRule(Role.KERNEL, weight=1, axis=1)),
)
