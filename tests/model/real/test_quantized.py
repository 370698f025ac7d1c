"""Models that are quantized already, in each of the ways in which tools write them: left as they are by quant, and by simplify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.model.real.check import suite
from tests.model.real.oracle import Real, text

FLOATS = {"s": np.float32(0.05), "t": np.float32(0.1)}
ZEROS = {"z": np.uint8(128), "y0": np.int8(0)}
WEIGHTS = np.random.default_rng(7).integers(-127, 127, (8, 4, 3, 3)).astype(np.int8)
SCALES = np.linspace(0.001, 0.01, 8, dtype=np.float32)


def built(body: str, more: str = "", opset: int = 17, **constants: Any) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        model = text(body, opset, 9, more)
        given = {**FLOATS, **ZEROS, **constants}
        read = {name for node in model.graph.node for name in node.input}
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in given.items() if n in read)
        return model

    return build


QDQ = """
    qdq (float[1, 4, 8, 8] x) => (float[1, 8, 6, 6] y) {
        xq = QuantizeLinear (x, s, z)
        xd = DequantizeLinear (xq, s, z)
        wd = DequantizeLinear <axis = 0> (w, ws, wz)
        bd = DequantizeLinear <axis = 0> (b, bs)
        a = Conv (xd, wd, bd)
        r = Relu (a)
        rq = QuantizeLinear (r, t, z)
        y = DequantizeLinear (rq, t, z)
    }
"""
PAIRS = """
    pairs (float[2, 8] x) => (float[2, 8] y, float[2, 8] v) {
        xq = QuantizeLinear (x, s, z)
        xd = DequantizeLinear (xq, s, z)
        aq = QuantizeLinear (xd, s, z)
        ad = DequantizeLinear (aq, s, z)
        bq = QuantizeLinear (xd, s, z)
        bd = DequantizeLinear (bq, s, z)
        y = Add (ad, bd)
        v = Identity (ad)
    }
"""
"""Equal pairs in a row and side by side: runtimes want a quantizer for each reader, so none goes."""

FUSED = """
    fused (uint8[1, 4, 8, 8] x) => (uint8[1, 8, 6, 6] y) {
        i = Identity (x)
        y = QLinearConv (i, s, z, w, ws, wz, t, z, b)
    }
"""
INTEGER = """
    integer (uint8[1, 4, 8, 8] x, uint8[2, 3] m) => (int32[1, 8, 6, 6] y, int32[2, 4] n, float[1, 8, 6, 6] f) {
        y = ConvInteger (x, w, z)
        n = MatMulInteger (m, k)
        c = Cast <to = 1> (y)
        one = Constant <value_float = 1.0> ()
        d = Mul (c, one)
        f = Mul (d, s)
    }
"""
DYNAMIC = """
    dynamic (float[2, 3] x) => (float[2, 4] y) {
        q, scale, zero = DynamicQuantizeLinear (x)
        n = MatMulInteger (q, k, zero)
        c = Cast <to = 1> (n)
        f = Mul (scale, s)
        y = Mul (c, f)
    }
"""
MICROSOFT = """
    microsoft (float[1, 4, 8, 8] x) => (float[1, 8, 6, 6] y) {
        xq = com.microsoft.QuantizeLinear (x, s, u)
        xd = com.microsoft.DequantizeLinear (xq, s, u)
        wd = DequantizeLinear <axis = 0> (w, ws, wz)
        y = Conv (xd, wd)
    }
"""
SIXTEEN = """
    sixteen (float[2, 3] x) => (float[2, 3] y) {
        q = QuantizeLinear (x, s, u)
        y = DequantizeLinear (q, s, u)
    }
"""
COMPUTED = """
    computed (float[2, 3] x) => (float[2, 4] y) {
        q = QuantizeLinear (w, s, y0)
        d = DequantizeLinear (q, s, y0)
        y = MatMul (x, d)
    }
"""
"""The quantizer of a weight was left in the graph, its operand a float constant."""

HALF = """
    half (float[1, 4, 8, 8] x) => (float[1, 8, 6, 6] y) {
        xq = QuantizeLinear (x, s, z)
        xd = DequantizeLinear (xq, s, z)
        wd = DequantizeLinear <axis = 0> (w, ws, wz)
        a = Conv (xd, wd)
        n = BatchNormalization (a, bn, bn, bn, bn)
        y = Relu (n)
    }
"""
"""Trained with fake quantization: a normalisation lies behind a convolution whose weight is quantized."""

CONV = {"w": WEIGHTS, "ws": SCALES, "wz": np.zeros(8, np.int8)}
BIAS = {"b": np.arange(8, dtype=np.int32) * 100, "bs": (SCALES * np.float32(0.05)).astype(np.float32)}
MATRIX = np.arange(12).reshape(3, 4).astype(np.uint8)


def fp8() -> onnx.ModelProto:
    """Quantizers to 8-bit floats."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["y"])]
    shape = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy"]
    zero = helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0])
    graph = helper.make_graph(nodes, "g", shape[:1], shape[1:], [zero, numpy_helper.from_array(np.asarray(np.float32(0.1)), "s")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def annotated() -> onnx.ModelProto:
    """Quantization parameters beside the graph."""
    model = built(HALF, **CONV, bn=np.linspace(0.5, 1, 8, dtype=np.float32))()
    annotation = model.graph.quantization_annotation.add(tensor_name="y")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    annotation.quant_parameter_tensor_names.add(key="ZERO_POINT_TENSOR", value="z")
    return model


CASES = {
    "pairs around a convolution": Real(built(QDQ, **CONV, **BIAS), kept="QuantizeLinear DequantizeLinear Conv"),
    "equal pairs": Real(built(PAIRS), kept="QuantizeLinear DequantizeLinear"),
    "QLinearConv": Real(built(FUSED, **CONV, b=BIAS["b"]), kept="QLinearConv", gone="Identity"),
    "ConvInteger and MatMulInteger": Real(built(INTEGER, w=WEIGHTS.astype(np.uint8), k=MATRIX), kept="ConvInteger MatMulInteger"),
    "DynamicQuantizeLinear": Real(built(DYNAMIC, k=MATRIX), kept="DynamicQuantizeLinear MatMulInteger"),
    "quantizers of onnxruntime": Real(built(MICROSOFT, ', "com.microsoft" : 1', **CONV, u=np.uint16(32768)), kept="QuantizeLinear"),
    "16 bits": Real(built(SIXTEEN, opset=21, u=np.uint16(32768)), kept="QuantizeLinear"),
    "a quantizer of a weight": Real(
        built(COMPUTED, w=np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)), kept="QuantizeLinear", told="quantized-constant"
    ),
    "trained with fake quantization": Real(
        built(HALF, **CONV, bn=np.linspace(0.5, 1, 8, dtype=np.float32)), kept="DequantizeLinear BatchNormalization"
    ),
    "8-bit floats": Real(fp8, kept="QuantizeLinear"),
    "annotations beside the graph": Real(annotated),
}

test_quantized = suite(CASES)
