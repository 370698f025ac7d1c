"""The cases of rules about what training left behind (GO1xx). They go into the same table (``tests.check.cases``)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.check.cases import case, raw, small, value
from tests.nets import Net


@case("GO101")
def batch_norm(bad: bool) -> onnx.ModelProto:
    """A batch norm behind the Relu of a convolution is no affine map of what the convolution reads."""
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 16, pad=1)
    return net.model(net.op("Relu", net.bn(x)) if bad else net.conv(net.op("Relu", x), 16))


@case("GO102")
def expansion(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.conv(net.input(1, 16, 8, 8), 128, 1)
    return net.model(net.conv(x if bad else net.op("Relu", x), 16, 1))


@case("GO103")
def two_branches(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.input(1, 16, 8, 8)
    other = net.conv(x, 16, 1)
    return net.model(net.op("Add", net.conv(x, 16, pad=1), other if bad else net.op("Relu", other)))


@case("GO104")
def skip(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.input(1, 16, 8, 8)
    y = net.conv(x, 16, pad=1)
    return net.model(net.op("Add", x, y if bad else net.op("Relu", y)))


@case("GO105")
def back_and_forth(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.op("Transpose", net.op("Relu", net.input(1, 3, 8, 6)), perm=[0, 2, 3, 1])
    return net.model(net.op("Relu", net.op("Transpose", x if bad else net.op("Softmax", x), perm=[0, 3, 1, 2])))


@case("GO106")
def dead(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.op("Relu", net.input(1, 4))
    y = net.op("Neg", x)
    net.op("Exp", x if bad else y, out="e")
    return net.model(y) if bad else net.model(y, "e")


@case("GO107")
def arithmetic(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.input(1, 4)
    c = net.const(net.random(1, 4))
    return net.model(net.op("Mul", x, net.op("Exp", c if bad else x)))


@case("GO108")
def identity(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.op("Identity" if bad else "Neg", net.op("Relu", net.input(1, 4)))
    return net.model(net.op("Exp", x))


@case("GO109")
def dropout(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.op("Dropout" if bad else "Neg", net.op("Relu", net.input(1, 4)))
    return net.model(net.op("Exp", x))


@case("GO110")
def training(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.op("Relu", net.input(2, 4))
    return net.model(net.op("Dropout", x, net.const(np.array(0.5)), net.const(np.array(bad))))


@case("GO111")
def twice(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.input(1, 4)
    return net.model(net.op("Add", net.op("Exp", x), net.op("Sin", net.op("Exp" if bad else "Neg", x))))


@case("GO112")
def times_one(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.op("Mul", net.op("Relu", net.input(1, 4)), net.const(np.array(1.0 if bad else 2.0)))
    return net.model(net.op("Exp", x))


@case("GO113")
def unread(bad: bool) -> onnx.ModelProto:
    proto = small()
    if bad:
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "left"))
    return proto


@case("GO114")
def known_condition(bad: bool) -> onnx.ModelProto:
    branches = [
        helper.make_graph([helper.make_node(op, ["x"], [f"z{op}"])], "b", [], [value(f"z{op}", 4)]) for op in ("Relu", "Neg")
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    weights = [numpy_helper.from_array(np.array(True), "c")] if bad else []
    inputs = [value("x", 4)] + ([] if bad else [value("c", kind=TensorProto.BOOL)])
    return raw([node], inputs, [value("y", 4)], weights)
