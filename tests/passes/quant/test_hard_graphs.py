"""Graphs as old exporters, control flow and careless tools leave them: `fold,quant` is right, or says why it is not done.

The oracle is the float model in onnxruntime. A graph is right if a strict reader loads it, it runs on other data than it was
calibrated with, and it differs from float by what eight bits cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from graphopt.errors import GraphoptError
from graphopt.model import Model
from graphopt.runtime import optimized_graph
from tests.nets import Net, feed_for, outputs_of

LEAST = 22.0
"""Decibels: uniform random weights and data are harder than what training leaves."""


def body(net: Net, x: str) -> str:
    """What all of them have: convolutions dense, depthwise and strided, a clip, a pool, a residual."""
    x = net.op("Relu", net.bn(net.conv(x, 16, pad=1)))
    y = clipped(net, net.conv(x, 16, pad=1, group=16))
    x = net.op("Relu", net.op("Add", x, net.conv(y, 16, 1)))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    net.widths[x] = 16
    return net.conv(x, 24, 3, strides=[2, 2], pad=1)


def clipped(net: Net, x: str) -> str:
    if net.opset < 11:
        return net.op("Clip", x, min=0.0, max=6.0)
    return net.op("Clip", x, net.const(np.float32(0)), net.const(np.float32(6)))


def headed(net: Net, x: str) -> str:
    x = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", x)), axis=1)
    return net.op("Gemm", x, net.const(net.random(24, 10)), net.const(net.random(10)))


def of_opset(opset: int, ir: int = 4) -> onnx.ModelProto:
    net = Net(3, opset=opset)
    x = net.input("N", 3, 16, 16)
    if opset < 11:
        x = net.op("Pad", x, pads=[0, 0, 1, 1, 0, 0, 1, 1])
    else:
        x = net.op("Pad", x, net.const(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)))
    net.widths[x] = 3
    return net.model(headed(net, body(net, x)), ir=ir)


def upsampled(opset: int) -> onnx.ModelProto:
    net = Net(4, opset=opset)
    x = net.op("Relu", net.conv(net.input("N", 3, 8, 8), 16, pad=1))
    scales = net.const(np.array([1, 1, 2, 2], np.float32))
    x = net.op("Upsample", x, scales, mode="nearest") if opset < 10 else net.op("Resize", x, scales, mode="nearest")
    net.widths[x] = 16
    return net.model(net.conv(x, 8, pad=1), ir=4)


def listed_initializers() -> onnx.ModelProto:
    proto = of_opset(9)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return proto


def constant_nodes() -> onnx.ModelProto:
    proto = of_opset(13, ir=8)
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in proto.graph.initializer]
    del proto.graph.initializer[:]
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, *rest])
    return proto


def tied() -> onnx.ModelProto:
    """An embedding whose transpose is the head, and two convolutions of one weight."""
    net = Net(5)
    weight, kernel = net.const(net.random(32, 16)), net.const(net.random(16, 16, 3, 3))
    x = net.op("Relu", net.conv(net.input("N", 3, 8, 8), 16, pad=1))
    for _ in range(2):
        x = net.op("Relu", net.op("Conv", x, kernel, pads=[1] * 4))
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    x = net.op("MatMul", x, net.op("Transpose", weight, perm=[1, 0]))
    return net.model(net.op("MatMul", net.op("Relu", x), weight))


def dead() -> onnx.ModelProto:
    """Channels that are 0, that no weight makes, and that no weight reads."""
    proto = of_opset(13, ir=8)
    for index, tensor in enumerate(t for t in list(proto.graph.initializer) if len(t.dims) == 4):
        value = np.array(numpy_helper.to_array(tensor))
        value[index % value.shape[0]] = 0
        if value.shape[1] > 1:
            value[:, -1] = 0
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return proto


def tiny() -> onnx.ModelProto:
    net = Net(6)
    x = net.op("Relu", net.conv(net.input("N", 3, 8, 8), 16, pad=1))
    small = net.op("Conv", x, net.const(1e-10 * net.random(16, 16, 3, 3)), net.const(1e3 * net.random(16)), pads=[1] * 4)
    net.widths[small] = 16
    return net.model(net.conv(net.op("Relu", net.op("Add", x, small)), 8, 1))


def nameless() -> onnx.ModelProto:
    proto = of_opset(13, ir=8)
    for node in proto.graph.node:
        node.name = ""
    return proto


def of_one_name() -> onnx.ModelProto:
    proto = of_opset(13, ir=8)
    for node in proto.graph.node:
        node.name = "node"
    return proto


def dynamic() -> onnx.ModelProto:
    net = Net(7)
    return net.model(headed(net, body(net, net.input("N", 3, "H", "W"))))


def branching() -> onnx.ModelProto:
    """Convolutions before, within and behind an If."""
    net = Net(8)
    x = net.op("Relu", net.conv(net.input("N", 3, 8, 8), 16, pad=1))
    branches = []
    for k in range(2):
        weight = numpy_helper.from_array(net.random(16, 16, 1, 1).astype(np.float32), f"w{k}")
        node = helper.make_node("Conv", [x, f"w{k}"], [f"b{k}"])
        out = helper.make_tensor_value_info(f"b{k}", TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node], f"branch{k}", [], [out], [weight]))
    total = net.op("ReduceSum", x, keepdims=0)
    first = net.op("Greater", total, net.const(np.float32(0)))
    y = net.op("If", first, then_branch=branches[0], else_branch=branches[1])
    net.widths[y] = 16
    return net.model(net.conv(net.op("Relu", y), 8, pad=1))


def looping() -> onnx.ModelProto:
    """A convolution that a Loop applies three times."""
    net = Net(9)
    x = net.op("Relu", net.conv(net.input(1, 3, 8, 8), 16, pad=1))
    weight = numpy_helper.from_array(0.2 * net.random(16, 16, 1, 1).astype(np.float32), "inner")
    nodes = [
        helper.make_node("Conv", ["state", "inner"], ["made"]),
        helper.make_node("Relu", ["made"], ["next"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    flag, number = (helper.make_tensor_value_info(n, t, []) for n, t in (("go", TensorProto.BOOL), ("k", TensorProto.INT64)))
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 16, 8, 8])
    outs = [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
    ]
    loop = helper.make_graph(nodes, "loop", [number, flag, state], outs, [weight])
    x = net.op("Loop", net.const(np.array(3, np.int64)), net.const(np.array(True)), x, body=loop)
    x = net.op("Reshape", x, net.const(np.array([1, 16, 8, 8], np.int64)))
    net.widths[x] = 16
    return net.model(net.conv(x, 8, pad=1))


RIGHT: dict[str, tuple[Callable[[], onnx.ModelProto], int]] = {
    **{f"opset {opset}": (lambda opset=opset: of_opset(opset), 5) for opset in (9, 10, 11, 12, 13, 17, 18, 21)},
    "opset 9, Upsample": (lambda: upsampled(9), 2),
    "opset 10, Resize": (lambda: upsampled(10), 2),
    "IR 3, initializers listed as inputs": (listed_initializers, 5),
    "weights in Constant nodes": (constant_nodes, 5),
    "tied weights": (tied, 5),
    "dead channels": (dead, 5),
    "weights of 1e-10 with a large bias": (tiny, 2),
    "nodes without names": (nameless, 5),
    "nodes of one name": (of_one_name, 5),
    "dynamic batch, height and width": (dynamic, 5),
    "an If with kernels in its branches": (branching, 2),
    "a Loop with a kernel in its body": (looping, 2),
}
"""Each with the integer kernels that it comes to at least."""


def quantized(proto: onnx.ModelProto) -> graphopt.Result:
    data = [feed_for(proto, seed=seed, dynamic=24 if seed % 2 else 16) for seed in range(8)]
    return graphopt.run(proto, "fold,quant:placement=kernels:allow-slower", data=data, timing=False)


def plain(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that onnxruntime loads: it does not take two nodes of one name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        node.name = ""
    return copy


def integers(model: Model) -> int:
    counts = Counter(n.op_type for n in optimized_graph(model).graph.node)
    return sum(counts[op] for op in ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"))


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    make, least = RIGHT[name]
    proto = make()
    model = quantized(proto).model
    onnx.checker.check_model(model.proto(), full_check=True)
    assert integers(model) >= least
    for seed in (100, 101):
        feed = feed_for(proto, seed=seed, dynamic=16)
        for wanted, made in zip(outputs_of(plain(proto), feed), outputs_of(model.proto(), feed), strict=True):
            assert made.shape == wanted.shape
            noise = float(np.square(made - wanted).mean())
            assert 10 * np.log10(float(np.var(wanted)) / max(noise, 1e-30)) >= LEAST


def halves() -> onnx.ModelProto:
    net = Net(1, dtype=np.float16)
    return net.model(net.conv(net.op("Relu", net.conv(net.input(1, 3, 8, 8), 16, pad=1)), 8, 1))


def from_outside() -> onnx.ModelProto:
    net = Net(2)
    return net.model(net.op("Conv", net.input(1, 3, 8, 8), net.input(8, 3, 3, 3, name="w")))


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "float16": (halves, "float32"),
    "weights from outside": (from_outside, "constant"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name: str) -> None:
    make, word = REFUSED[name]
    proto = make()
    try:
        result = quantized(proto)
    except GraphoptError as error:
        assert word in str(error)
        return
    record: Any = result.report.passes[-1]
    assert any(word in f"{r.code} {r.why}" for r in record.refusals) or any(word in note for note in record.notes)
    assert integers(result.model) == 0
