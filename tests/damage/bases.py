"""The sound models that get damaged: one builder each, small, so that a damaged one is judged in a second.

Each stands for a kind of file that people bring. ``BASES`` names them; a builder returns the proto and the files beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.nets import Net

Files = dict[str, bytes]
MODELS = Path(__file__).parent.parent.parent / "models"

_FLOAT = TensorProto.FLOAT


def conv() -> onnx.ModelProto:
    """Convolution, batch norm, a skip: what fold works on."""
    net = Net(1)
    x = net.input(1, 4, 8, 8)
    y = net.op("Relu", net.bn(net.conv(x, 4, pad=1, bias=False)))
    y = net.op("Add", net.bn(net.conv(y, 4, pad=1)), x)
    return net.model(net.op("Relu", net.conv(y, 3, 1)))


def classifier() -> onnx.ModelProto:
    net = Net(2)
    x = net.input("N", 3, 8, 8)
    y = net.op("Relu", net.conv(x, 8, strides=[2, 2], pad=1))
    y = net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    y = net.op("Gemm", y, net.const(net.random(10, 8), "fc_weight"), net.const(net.random(10), "fc_bias"), transB=1)
    return net.model(net.op("Softmax", y, axis=-1))


def fashion() -> onnx.ModelProto:
    """The bundled network: expansion branches in quantity."""
    return onnx.load(str(MODELS / "fashion_rep" / "fashion_rep.onnx"))


def branches() -> onnx.ModelProto:
    """If and Loop, with captures from the graph around them."""
    return onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 17]>
        branches (float[1, 4] x, bool flag) => (float[1, 4] y, float[1, 4] z)
        <float[4, 4] w = {1,0,0,0, 0,2,0,0, 0,0,3,0, 0,0,0,4}, int64 trips = {3}, bool go = {1}>
        {
            h = MatMul(x, w)
            y = If(flag) <
                then_branch = yes () => (float[1, 4] a) { a = Relu(h) },
                else_branch = no () => (float[1, 4] b) { t = Neg(h)  b = Add(t, x) }
            >
            z = Loop(trips, go, h) <
                body = step (int64 i, bool c, float[1, 4] s) => (bool c_out, float[1, 4] s_out) {
                    c_out = Identity(c)
                    s_out = Add(s, x)
                }
            >
        }
        """
    )


def quantized() -> onnx.ModelProto:
    """A convolution between quantizers, int8 weights per channel."""
    net = Net(3, opset=13)
    x = net.input(1, 4, 8, 8)
    scale, zero = net.const(np.float32(0.02), "x_scale"), net.const(np.uint8(128), "x_zero")
    x = net.op("DequantizeLinear", net.op("QuantizeLinear", x, scale, zero), scale, zero)
    weight = net.const(net.rng.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8), "w_q")
    w_scale, w_zero = net.const(net.random(6, low=0.01, high=0.02), "w_scale"), net.const(np.zeros(6, np.int8), "w_zero")
    w = net.op("DequantizeLinear", weight, w_scale, w_zero, axis=0)
    y = net.op("Relu", net.op("Conv", x, w, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    y_scale, y_zero = net.const(np.float32(0.05), "y_scale"), net.const(np.uint8(0), "y_zero")
    return net.model(net.op("DequantizeLinear", net.op("QuantizeLinear", y, y_scale, y_zero), y_scale, y_zero), ir=7)


def listed() -> onnx.ModelProto:
    """IR 3, where every initializer is an input too."""
    net = Net(4, opset=8)
    x = net.input(1, 3, 8, 8)
    y = net.op("Relu", net.bn(net.conv(x, 4)))
    proto = net.model(net.op("GlobalAveragePool", net.conv(y, 5)), ir=4)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return proto


def external() -> tuple[onnx.ModelProto, Files]:
    """The weights lie in ``w.bin`` beside the model, one behind the other."""
    proto, data = conv(), b""
    for tensor in proto.graph.initializer:
        if tensor.raw_data:
            raw = tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": "w.bin", "offset": str(len(data)), "length": str(len(raw))}.items():
                tensor.external_data.add(key=key, value=value)
            data += raw
    return proto, {"w.bin": data}


def functions() -> onnx.ModelProto:
    """Operators of a domain of the model's own, defined by local functions."""
    return onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 17, "org.example" : 1]>
        functions (float[1, 4] x) => (float[1, 4] y)
        <float[4, 4] w = {1,2,3,4, 5,6,7,8, 8,7,6,5, 4,3,2,1}, float[4] b = {1,2,3,4}>
        {
            h = org.example.Layer(x, w, b)
            g = org.example.Layer(h, w, b)
            s = Sigmoid(g)
            y = Mul(s, h)
        }
        <domain: "org.example", opset_import: ["" : 17]>
        Layer (v, m, c) => (r) { p = MatMul(v, m)  q = Add(p, c)  r = Relu(q) }
        """
    )


def attention() -> onnx.ModelProto:
    """One head of attention with layer norm, and the shape arithmetic that exporters write around it."""
    net = Net(5)
    x = net.input(1, 6, 8)
    shape = net.const(np.array([1, 6, 2, 4], np.int64), "heads")
    parts = [net.op("MatMul", x, net.const(net.random(8, 8), f"w_{name}")) for name in "qkv"]
    q, k, v = (net.op("Transpose", net.op("Reshape", p, shape), perm=[0, 2, 1, 3]) for p in parts)
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
    half = net.op("Div", net.const(np.array([8], np.int64), "eight"), net.const(np.array([2], np.int64), "two"))
    scores = net.op("Div", scores, net.op("Sqrt", net.op("Cast", half, to=int(_FLOAT))))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    back = net.op("Concat", net.const(np.array([1, 6], np.int64), "front"), net.const(np.array([-1], np.int64), "rest"), axis=0)
    y = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), back)
    ones, zeros = net.const(np.ones(8), "ln_scale"), net.const(np.zeros(8), "ln_bias")
    y = net.op("LayerNormalization", net.op("Add", y, x), ones, zeros, axis=-1, epsilon=1e-5)
    picked = net.op("Gather", y, net.const(np.array([0, 2], np.int64), "picked"), axis=1)
    sliced = net.op("Slice", picked, *(net.const(np.array([n], np.int64), f"s{i}") for i, n in enumerate((0, 4, 2))))
    return net.model(net.op("ReduceMean", sliced, axes=[1], keepdims=0))


def opset9() -> onnx.ModelProto:
    """Old forms: attributes where newer operator sets have inputs."""
    net = Net(6, opset=9)
    x = net.input(1, 4, 6, 6)
    y = net.op("Upsample", net.conv(x, 4), net.const(np.array([1, 1, 2, 2], np.float32), "scales"), mode="nearest")
    y = net.op("Clip", net.op("Pad", y, pads=[0, 0, 1, 1, 0, 0, 1, 1]), min=0.0, max=6.0)
    y = net.op("Slice", y, axes=[2], starts=[0], ends=[6])
    y = net.op("Unsqueeze", net.op("Squeeze", y, axes=[0]), axes=[0])
    return net.model(net.op("Dropout", net.bn_of(y, 4)), ir=4)


def half() -> onnx.ModelProto:
    net = Net(7, dtype=np.float16)
    x = net.input(1, 4, 8, 8)
    y = net.op("Relu", net.conv(x, 8, pad=1))
    return net.model(net.op("Sigmoid", net.op("GlobalAveragePool", net.conv(y, 4, 1))))


BASES: dict[str, Callable[[], onnx.ModelProto | tuple[onnx.ModelProto, Files]]] = {
    f.__name__: f for f in (conv, classifier, branches, quantized, listed, external, functions, attention, opset9, half, fashion)
}


@functools.cache
def _serialised(name: str) -> tuple[bytes, Files]:
    made = BASES[name]()
    proto, files = made if isinstance(made, tuple) else (made, {})
    return proto.SerializeToString(deterministic=True), files


def base(name: str) -> tuple[onnx.ModelProto, Files]:
    """A fresh copy of a base and of the files beside it."""
    raw, files = _serialised(name)
    return onnx.ModelProto.FromString(raw), dict(files)


def constant(proto: onnx.ModelProto, name: str, value: object) -> str:
    """Add an initializer and return its name."""
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name
