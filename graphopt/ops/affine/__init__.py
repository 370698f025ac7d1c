"""Convolution algebra: operators that are affine maps of one tensor, and what those maps are closed under.

``form`` decides on structure alone (extents, strides, pads, groups) whether a composition or a sum is exact; ``maps`` holds the
numbers as expressions over an array namespace; ``rules`` reads the maps off operators.
"""

from graphopt.ops.affine.form import Form, Refused
from graphopt.ops.affine.maps import AffineMap, Compose, Kernel, Leaf, SumOf, evaluate, identity_of
from graphopt.ops.affine.rules import (
    AffineRule,
    Linear,
    Sum,
    Term,
    add,
    average_pool,
    batch_norm,
    conv,
    conv_transpose,
    divide,
    dropout,
    gemm,
    identity,
    matmul,
    multiply,
    negate,
    pad,
    subtract,
)

__all__ = [
    "AffineMap", "AffineRule", "Compose", "Form", "Kernel", "Leaf", "Linear", "Refused", "Sum", "SumOf", "Term", "add",
    "average_pool", "batch_norm", "conv", "conv_transpose", "divide", "dropout", "evaluate", "gemm", "identity", "identity_of",
    "matmul", "multiply", "negate", "pad", "subtract",
]  # fmt: skip
