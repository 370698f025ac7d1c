"""Writing an affine map as an operator: Conv, ConvTranspose, Gemm, MatMul with Add, or Mul and Add.

Values are computed in float64 and cast once. A map is not written if a source holds NaN or infinity (0 times infinity would
spread it) or if the cast overflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.affine import Span
from graphopt.model import Model
from graphopt.ops.affine import AffineMap, Compose, Form, Kernel, Refused, evaluate

Array = NDArray[Any]

KERNELS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that multiply with weights: a region with one of them is written as one of them."""

_GEMM_WITHOUT_BIAS = 11
_BROADCASTING = 7
"""Operator sets from which Gemm's bias may be left out, and from which Mul and Add broadcast like numpy."""


def values_of(span: Span, elem_type: int) -> tuple[Array, Array | None] | Refused:
    """Weight and bias (None if all zero) of a span's map in the type of its tensors."""
    if not elem_type:
        return Refused("unknown-type", "the element type is not known")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    with np.errstate(all="ignore"):
        kernel: Kernel = evaluate(span.map)
        exact = (np.asarray(kernel.weight), np.asarray(kernel.bias))
        weight, bias = (a.astype(dtype) for a in exact)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        if all(np.isfinite(a).all() for a in exact):
            return Refused("overflow", f"its weights do not fit into {dtype.name}")
        return Refused("non-finite-weights", "its weights hold NaN or infinity")
    return weight, bias if bias.any() else None


Factors = dict[int, Array | None]
"""The scales of diagonal maps by identity; None where all of them are 1."""


def operators(top: AffineMap, kernel: bool, opset: int, memo: Factors) -> int | None:
    """How many operators ``replace`` writes for a map, at most; None if there is no operator for it.

    ``kernel``: whether one of its operators multiplies with weights; ``memo``: scales that are known, to be used again.
    """
    form = top.form
    if kernel:
        return 2 if form.biased and form.axis != 1 else 1
    if not form.diagonal or opset < _BROADCASTING:
        return None
    return 2 if form.biased and _factors(top, memo) is not None else 1


def _factors(top: AffineMap, memo: Factors) -> Array | None:
    """The scales of a diagonal map: what ``evaluate`` makes, without its shifts."""
    if id(top) not in memo:
        match top:
            case Compose():
                first, second = _factors(top.first, memo), _factors(top.second, memo)
                factors = first if second is None else second if first is None else first * second
            case _:
                factors = np.asarray(evaluate(top).weight).reshape(-1)
        memo[id(top)] = factors if factors is not None and (factors != 1).any() else None
    return memo[id(top)]


def replace(model: Model, span: Span, weight: Array, bias: Array | None, name: str) -> list[gs.Node]:
    """The nodes that compute ``span.top`` from ``span.root``; they take over the tensor, the old ones become dead."""
    form = span.map.form
    if form.axis == 1 and form.rank > 2 and not (form.diagonal and not _has_kernel(model, span)):
        return [_convolution(model, span, weight, bias, name)]
    if form.diagonal and not _has_kernel(model, span):
        return _scale(model, span, weight, bias, name)
    return _matrix(model, span, weight, bias, name)


def _has_kernel(model: Model, span: Span) -> bool:
    return any(model.graph.nodes[i].op in KERNELS for i in span.nodes)


def _convolution(model: Model, span: Span, weight: Array, bias: Array | None, name: str) -> gs.Node:
    form = span.map.form
    taps: tuple[Any, ...] = (..., *(slice(None, None, g or 1) for g in form.grid))
    trimmed = np.ascontiguousarray(weight[taps])
    attrs: dict[str, Any] = {
        "dilations": [g or 1 for g in form.grid],
        "group": form.groups,
        "kernel_shape": list(trimmed.shape[2:]),
        "pads": [*form.begin, *form.end],
        "strides": list(form.stride),
    }
    if form.transposed and any(form.output_padding):
        attrs["output_padding"] = list(form.output_padding)
    op = "ConvTranspose" if form.transposed else "Conv"
    return model.make(op, [span.root, *_constants(model, span, trimmed, bias)], [span.top], attrs, name=name)


def _constants(model: Model, span: Span, weight: Array, bias: Array | None) -> list[gs.Tensor]:
    found: list[gs.Tensor] = [model.constant(f"{span.top.name}.weight", weight)]
    if bias is not None:
        found.append(model.constant(f"{span.top.name}.bias", bias))
    return found


def _matrix(model: Model, span: Span, weight: Array, bias: Array | None, name: str) -> list[gs.Node]:
    """Gemm for matrices, MatMul (and Add) for tensors of more axes, or where Gemm demands a bias and there is none."""
    form = span.map.form
    if form.rank == 2 and (bias is not None or model.opset >= _GEMM_WITHOUT_BIAS):
        return [model.make("Gemm", [span.root, *_constants(model, span, weight, bias)], [span.top], {"transB": 1}, name=name)]
    matrix = model.constant(f"{span.top.name}.weight", np.ascontiguousarray(weight.T))
    if bias is None:
        return [model.make("MatMul", [span.root, matrix], [span.top], name=name)]
    middle = model.variable(f"{span.top.name}.product", span.top.dtype)
    shift = model.constant(f"{span.top.name}.bias", bias)
    return [
        model.make("MatMul", [span.root, matrix], [middle], name=name),
        model.make("Add", [middle, shift], [span.top], name=model.fresh(f"{name}.bias") if name else ""),
    ]


def _scale(model: Model, span: Span, weight: Array, bias: Array | None, name: str) -> list[gs.Node]:
    form = span.map.form
    shape = _broadcast_shape(form)
    factor = weight.reshape(shape)
    shift = None if bias is None else bias.reshape(shape)
    if (factor == 1).all() and shift is not None:
        return [model.make("Add", [span.root, model.constant(f"{span.top.name}.shift", shift)], [span.top], name=name)]
    scale = model.constant(f"{span.top.name}.scale", factor)
    if shift is None:
        return [model.make("Mul", [span.root, scale], [span.top], name=name)]
    middle = model.variable(f"{span.top.name}.scaled", span.top.dtype)
    return [
        model.make("Mul", [span.root, scale], [middle], name=name),
        model.make("Add", [middle, model.constant(f"{span.top.name}.shift", shift)], [span.top]),
    ]


def _broadcast_shape(form: Form) -> tuple[int, ...]:
    return (form.c_out, *([1] * (form.rank - form.axis - 1)))
