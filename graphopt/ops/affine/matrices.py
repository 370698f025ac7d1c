"""Matrix products with constants as affine maps of the last axis (ONNX operator specification)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.ops import attrs
from graphopt.ops.affine.axis import PLAIN
from graphopt.ops.affine.form import Form, Refused
from graphopt.ops.affine.frames import float64
from graphopt.ops.affine.maps import Kernel, Leaf
from graphopt.ops.affine.terms import NOT_CONSTANT, Linear, Term, weight_of
from graphopt.ops.facts import Facts, constant_input, has_input


def gemm(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Gemm with a constant right factor: y = alpha x B + beta C."""
    weight, bias = weight_of(node, 1, facts), constant_input(node, 2, facts)
    if attrs.int_(node, "transA", 0) or weight is None:
        return None
    if isinstance(weight, Refused) or (has_input(node, 2) and bias is None):
        return NOT_CONSTANT
    if len(weight.shape) != 2:
        return None
    across = bool(attrs.int_(node, "transB", 0))
    c_out, c_in = weight.shape if across else weight.shape[::-1]
    if bias is not None and bias.size not in (1, c_out):
        return Refused("bias-per-row", "a Gemm whose bias differs from row to row")
    if bias is not None and bias.ndim == 2 and bias.shape[0] != 1:
        return Refused("bias-per-row", "a Gemm whose bias differs from row to row")
    alpha, beta = attrs.float_(node, "alpha", 1.0), attrs.float_(node, "beta", 1.0)
    shift = None if bias is None else np.broadcast_to(bias.reshape(-1), (c_out,))
    form = Form(1, c_in, c_out, 1, biased=shift is not None and bool(np.any(shift)) and beta != 0.0)

    def build(xp: Any) -> Kernel:
        offset = xp.zeros((c_out,), dtype=xp.float64) if shift is None else beta * float64(shift, xp)
        matrix = weight.read()
        return Kernel(alpha * float64(matrix if across else matrix.T, xp), offset)

    names = tuple(node.inputs[i].name for i in (1, 2) if has_input(node, i))
    return Linear(0, (Leaf(form, build, names, "gemm"),))


def matmul(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """MatMul with a constant matrix on the right."""
    weight, shape = weight_of(node, 1, facts), facts.shape(node.inputs[0])
    if weight is None or isinstance(weight, Refused) or shape is None or len(shape) < 2 or len(weight.shape) != 2:
        return None
    c_in, c_out = weight.shape
    rank = len(shape)
    form = Form(rank - 1, c_in, c_out, 1, (PLAIN,) * (rank - 2))

    def build(xp: Any) -> Kernel:
        return Kernel(float64(weight.read().T, xp).reshape(c_out, c_in, *form.taps), xp.zeros((c_out,), dtype=xp.float64))

    return Linear(0, (Leaf(form, build, (node.inputs[1].name,), "matmul"),))
