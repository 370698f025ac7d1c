"""Integer operators of onnxruntime's older form, read as quantizers around float ones.

A QLinear operator takes integers with their scales and zero points and gives integers again,

    QLinearConv(x, s_x, z_x, w, s_w, z_w, s_y, z_y, b) = Q(Conv(DQ(x), DQ(w), DQ(b)))

with b int32 of scale s_x s_w; so do the others, and operators that only move values do it without saying so. ``expand`` writes the
right side, after which the model is read by the rules for QuantizeLinear and DequantizeLinear. (ONNX operators QLinearConv and
QLinearMatMul; onnxruntime's contributed operators of the domain com.microsoft.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.model import Model, node_label
from graphopt.ops import attrs
from graphopt.ops.quantizers import DQ, Q, is_quantizer


@dataclass(frozen=True, slots=True)
class _Row:
    """The float operator; where values stand (each before its scale and zero point), with the axis of their scales; where the
    result's scale stands; and where an int32 bias does.
    """

    op: str
    operands: tuple[tuple[int, int | None], ...] = ((0, None),)
    result: int = 3
    bias: int | None = None


_TWO = ((0, None), (3, None))
ROWS: Mapping[str, _Row] = {
    "QLinearConv": _Row("Conv", ((0, None), (3, 0)), 6, 8),
    "QLinearMatMul": _Row("MatMul", ((0, None), (3, -1)), 6),
    "QLinearAdd": _Row("Add", _TWO, 6),
    "QLinearMul": _Row("Mul", _TWO, 6),
    "QLinearConcat": _Row("Concat", (), 0),
    "QGemm": _Row("Gemm", ((0, None), (3, -1)), 7, 6),
} | {
    f"QLinear{op}": _Row(op)
    for op in ("Sigmoid", "LeakyRelu", "Softmax", "AveragePool", "GlobalAveragePool")
}  # fmt: skip
"""By name, of ONNX and of onnxruntime alike."""

MOVES = frozenset((
    "MaxPool", "Reshape", "Flatten", "Transpose", "Slice", "DepthToSpace", "Gather", "Squeeze", "Unsqueeze", "Tile", "Expand",
    "Identity",
))  # fmt: skip
"""Operators that take stored integers for what they are."""

_ONLY_INTEGER = ("channels_last", "opset")
"""Attributes that the float operator has not."""


@dataclass(frozen=True, slots=True)
class _Affine:
    """Scale and, unless it is left out, zero point of a stored tensor."""

    scale: gs.Tensor
    zero: gs.Tensor | None

    @property
    def tensors(self) -> list[gs.Tensor]:
        return [self.scale] if self.zero is None else [self.scale, self.zero]


def expand(model: Model) -> str | None:
    """Write integer operators as float ones between quantizers, in place; why not, and nothing done, if one is not known."""
    work = [n for n in model.graph.nodes if n.op in ROWS]
    why = next((r for n in work if (r := _refused(model, n)) is not None), None)
    if why is not None or not work:
        return why
    stored: dict[int, _Affine] = {}
    for node in list(model.graph.nodes):
        if node.op == Q and is_quantizer(node):
            stored[id(node.outputs[0])] = _affine(node, 1)
        elif node.op in ROWS:
            _expand(model, node, ROWS[node.op], stored)
        elif node.op in MOVES and not node.domain and id(node.inputs[0]) in stored:
            affine = stored[id(node.inputs[0])]
            _write(model, node, node.op, [_real(model, node.inputs[0], affine, None), *node.inputs[1:]], affine, stored)
    model.sort()
    model.edited()
    return None


def _affine(node: gs.Node, index: int) -> _Affine:
    return _Affine(node.inputs[index], node.inputs[index + 1] if _has(node, index + 1) else None)


def _refused(model: Model, node: gs.Node) -> str | None:
    row, label = ROWS[node.op], node_label(node)
    if not _whole(node, row):
        return f"'{label}' lacks inputs that it must have"
    flat = row.op == "Softmax" and attrs.int_(node, "opset", 13) < 13 and attrs.int_(node, "axis", 1) != -1
    if attrs.int_(node, "channels_last", 0) or (attrs.float_(node, "alpha", 1.0) != 1.0 and row.op == "Gemm") or flat:
        return f"'{label}' computes with integers in a way that no float operator of today does"
    if _has(node, row.bias) and any(model.value(node.inputs[place + 1]) is None for place, _ in row.operands):
        return f"the scales of '{label}' are not constant, so its bias has none"
    return None


def _whole(node: gs.Node, row: _Row) -> bool:
    """Whether every value and scale is there; nobody checks what is not of ONNX."""
    count = len(node.inputs)
    if row.op == "Concat" and (count < 5 or (count - 2) % 3):
        return False
    values = [k for k, _ in row.operands] or list(range(2, count, 3))
    scales = [k + 1 for k in values] + ([row.result] if row.op != "Gemm" else [])
    return bool(node.outputs) and all(_has(node, k) for k in values + scales)


def _has(node: gs.Node, index: int | None) -> bool:
    return index is not None and len(node.inputs) > index and bool(node.inputs[index].name)


def _expand(model: Model, node: gs.Node, row: _Row, stored: dict[int, _Affine]) -> None:
    places: Sequence[tuple[int, int | None]] = row.operands or [(k, None) for k in range(2, len(node.inputs), 3)]
    if row.op == "Gemm" and attrs.int_(node, "transB", 0):
        places = [places[0], (places[1][0], 0)]
    inputs = [_real(model, node.inputs[k], _affine(node, k + 1), axis) for k, axis in places]
    if _has(node, row.bias):
        inputs.append(_bias(model, node, row))
    _write(model, node, row.op, inputs, _affine(node, row.result) if _has(node, row.result) else None, stored)


def _write(
    model: Model, node: gs.Node, op: str, inputs: Sequence[gs.Tensor], affine: _Affine | None, stored: dict[int, _Affine]
) -> None:
    """``op`` in place of ``node``, whose result keeps its name as integers of ``affine`` (None: it was float already)."""
    kept = {k: v for k, v in node.attrs.items() if k not in _ONLY_INTEGER}
    name, tensor = node.name, node.outputs[0]
    model.remove(node)
    if affine is None:
        model.add(op, inputs, [tensor], kept, name=name)
        return
    real = model.variable(f"{tensor.name}_float", np.float32, tensor.shape)
    model.add(op, inputs, [real], kept, name=name)
    model.add(Q, [real, *affine.tensors], [tensor], name=model.fresh(f"{tensor.name}_quantize"))
    stored[id(tensor)] = affine


def _real(model: Model, tensor: gs.Tensor, affine: _Affine, axis: int | None) -> gs.Tensor:
    """A DequantizeLinear of ``tensor``."""
    scale = model.value(affine.scale)
    along = {} if axis is None or scale is None or scale.size == 1 else {"axis": axis}
    result = model.variable(f"{tensor.name}_real", np.float32, tensor.shape)
    model.add(DQ, [tensor, *affine.tensors], [result], along, name=model.fresh(f"{tensor.name}_dequantize"))
    return result


def _bias(model: Model, node: gs.Node, row: _Row) -> gs.Tensor:
    """int32, of the product of both scales."""
    first, second = (model.value(node.inputs[place + 1]) for place, _ in row.operands)
    assert first is not None and second is not None and row.bias is not None  # noqa: S101 - looked at before
    scale = (np.asarray(first, np.float32).reshape(-1)[:1] * np.asarray(second, np.float32).reshape(-1)).astype(np.float32)
    bias = node.inputs[row.bias]
    scales = model.constant(f"{bias.name}_scale", scale if scale.size > 1 else scale.reshape(()))
    return _real(model, bias, _Affine(scales, None), 0)
