"""Graphs of any number of nodes, one shape of graph each: what a pass that searches, copies or compares too much is slow on.

Tensors are small, so that time goes into the graph and not into arithmetic. Every builder takes about how many nodes are wanted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tests.nets import Net

_WIDTH = 4


def _start(seed: int = 0) -> tuple[Net, str]:
    net = Net(seed)
    return net, net.input(1, _WIDTH, 4, 4)


def _rotation(net: Net, x: str) -> str:
    """A 1x1 convolution with an orthogonal matrix."""
    matrix = np.linalg.qr(net.random(_WIDTH, _WIDTH))[0].reshape(_WIDTH, _WIDTH, 1, 1)
    return net.op("Conv", x, net.const(matrix), net.const(0.01 * net.random(_WIDTH)), kernel_shape=[1, 1])


def relus(nodes: int) -> onnx.ModelProto:
    """Activations in a row: all but the first change nothing."""
    net, x = _start()
    for _ in range(nodes):
        x = net.op("Relu", x)
    return net.model(x)


def sigmoids(nodes: int) -> onnx.ModelProto:
    """Activations that stay."""
    net, x = _start()
    for _ in range(nodes):
        x = net.op("Sigmoid", x)
    return net.model(x)


def conv_bn_relu(nodes: int) -> onnx.ModelProto:
    net, x = _start()
    for _ in range(nodes // 3):
        x = net.op("Relu", net.bn(net.conv(x, _WIDTH, 3, pad=1)))
    return net.model(x)


def convs(nodes: int) -> onnx.ModelProto:
    """One linear map after another, each 1x1: all of it is one convolution. Rotations: no product overflows."""
    net, x = _start()
    for _ in range(nodes):
        x = _rotation(net, x)
    return net.model(x)


def padded_convs(nodes: int) -> onnx.ModelProto:
    """One linear map after another, none of which composes: zero padding after a bias."""
    net, x = _start()
    for _ in range(nodes):
        x = net.conv(x, _WIDTH, 3, pad=1)
    return net.model(x)


def skips(nodes: int) -> onnx.ModelProto:
    """x + relu(x), over and over."""
    net, x = _start()
    for _ in range(nodes // 2):
        x = net.op("Add", x, net.op("Relu", x))
    return net.model(x)


def linear_skips(nodes: int) -> onnx.ModelProto:
    """(x + conv(x)) / 2, over and over: every node reaches every earlier one by 2**n paths, all affine."""
    net, x = _start()
    half = net.const(np.float32(0.5))
    for _ in range(nodes // 3):
        x = net.op("Mul", net.op("Add", x, _rotation(net, x)), half)
    return net.model(x)


def doubled(nodes: int) -> onnx.ModelProto:
    """x + x, over and over, halved in between: 2**n paths."""
    net, x = _start()
    half = net.const(np.float32(0.5))
    for _ in range(nodes // 2):
        x = net.op("Mul", net.op("Add", x, x), half)
    return net.model(x)


def scales(nodes: int) -> onnx.ModelProto:
    """Mul and Add by constants, in turn."""
    net, x = _start()
    for _ in range(nodes // 2):
        x = net.op("Mul", x, net.const(net.random(_WIDTH, 1, 1, low=0.9, high=1.1)))
        x = net.op("Add", x, net.const(net.random(_WIDTH, 1, 1)))
    return net.model(x)


def shape_arithmetic(nodes: int) -> onnx.ModelProto:
    """Shape, Gather, Add, Sub, Concat, Reshape: what exporters write, over and over, with a free batch."""
    net = Net()
    x = net.input("n", _WIDTH, 4, 4)
    one, first, rest = net.const(np.array([1])), net.const(np.array([0])), net.const(np.array([_WIDTH, 4, 4]))
    for _ in range(nodes // 7):
        batch = net.op("Gather", net.op("Shape", x), first)
        batch = net.op("Sub", net.op("Add", batch, one), one)
        x = net.op("Sigmoid", net.op("Reshape", x, net.op("Concat", batch, rest, axis=0)))
    return net.model(x)


def integers(nodes: int) -> onnx.ModelProto:
    """One long computation on constants; its result is added to the input."""
    net, x = _start()
    value, step = net.const(np.zeros((1, 1, 1, 1), np.float32)), net.const(np.full((1, 1, 1, 1), 0.5, np.float32))
    for _ in range(nodes):
        value = net.op("Sub", step, value)
    return net.model(net.op("Add", x, value))


def data_dependent_sizes(nodes: int) -> onnx.ModelProto:
    """Constants whose size is a value computed from the constant before: each has to wait until that one is known."""
    net, x = _start()
    size, zero, one = (net.const(np.array(n)) for n in (3, 0, 1))
    for _ in range(nodes // 3):
        largest = net.op("ReduceMax", net.op("Range", zero, size, one), keepdims=0)
        size = net.op("Add", largest, one)
    return net.model(net.op("Add", x, net.op("Cast", size, to=onnx.TensorProto.FLOAT)))


def identities(nodes: int) -> onnx.ModelProto:
    net, x = _start()
    for _ in range(nodes):
        x = net.op("Identity", x)
    return net.model(net.op("Relu", x))


def transposes(nodes: int) -> onnx.ModelProto:
    """There and back."""
    net, x = _start()
    for _ in range(nodes // 2):
        x = net.op("Transpose", net.op("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    return net.model(net.op("Relu", x))


def reshapes(nodes: int) -> onnx.ModelProto:
    net, x = _start()
    flat, full = net.const(np.array([1, -1])), net.const(np.array([1, _WIDTH, 4, 4]))
    for _ in range(nodes // 2):
        x = net.op("Reshape", net.op("Reshape", x, flat), full)
    return net.model(net.op("Relu", x))


def one_tensor(nodes: int) -> onnx.ModelProto:
    """A tensor and a constant that everybody reads."""
    net, x = _start()
    shared = net.const(net.random(_WIDTH, 1, 1))
    first = net.op("Sigmoid", x)
    return net.model(*(net.op("Mul", first, shared) for _ in range(nodes)))


def equal_branches(nodes: int) -> onnx.ModelProto:
    """The same computation so many times."""
    net, x = _start()
    return net.model(net.op("Sum", *(net.op("Sigmoid", x) for _ in range(nodes))))


def initializers(nodes: int) -> onnx.ModelProto:
    """Vectors that differ and vectors that are equal, each of them read once."""
    net, x = _start()
    for number in range(nodes):
        x = net.op("Max", x, net.const(np.full((_WIDTH, 1, 1), number // 2, np.float32)))
    return net.model(x)


def constant_nodes(nodes: int) -> onnx.ModelProto:
    """Constants as nodes: what exporters without initializers write."""
    net, x = _start()
    for number in range(nodes // 2):
        value = onnx.numpy_helper.from_array(np.full((_WIDTH, 1, 1), number, np.float32))
        x = net.op("Max", x, net.op("Constant", value=value))
    return net.model(x)


def wide_concat(nodes: int) -> onnx.ModelProto:
    """One node with thousands of operands."""
    net, x = _start()
    scaled = (net.op("Mul", x, net.const(net.random(_WIDTH, 1, 1))) for _ in range(nodes))
    return net.model(net.op("Concat", *scaled, axis=1))


def wide_sum(nodes: int) -> onnx.ModelProto:
    """A sum of as many convolutions of one tensor."""
    net, x = _start()
    return net.model(net.op("Sum", *(net.conv(x, _WIDTH, 1) for _ in range(nodes))))


def branches(nodes: int) -> onnx.ModelProto:
    """Parallel branches of ten nodes."""
    net, x = _start()
    tails: list[str] = []
    for _ in range(nodes // 10):
        y = x
        for _ in range(5):
            y = net.op("Relu", net.conv(y, _WIDTH, 1))
        tails.append(y)
    return net.model(net.op("Concat", *tails, axis=1))


def nested_residuals(nodes: int) -> onnx.ModelProto:
    """Skips inside skips: every tensor on the way in is read again on the way out."""
    net, x = _start()
    waiting: list[str] = []
    for _ in range(nodes // 3):
        waiting.append(x)
        x = net.op("Relu", net.conv(x, _WIDTH, 1))
    for skip in reversed(waiting):
        x = net.op("Add", x, skip)
    return net.model(x)


def matmuls(nodes: int) -> onnx.ModelProto:
    """MatMul and Add on three axes, with activations between."""
    net = Net()
    x = net.input(1, 5, _WIDTH)
    for _ in range(nodes // 3):
        x = net.op("MatMul", x, net.const(net.random(_WIDTH, _WIDTH)))
        x = net.op("Tanh", net.op("Add", x, net.const(net.random(_WIDTH))))
    return net.model(x)


def outputs(nodes: int) -> onnx.ModelProto:
    """Every tensor is an output."""
    net, x = _start()
    tensors: list[str] = []
    for _ in range(nodes // 2):
        x = net.op("Sigmoid", net.conv(x, _WIDTH, 1))
        tensors.append(x)
    return net.model(*tensors)


def unsorted(nodes: int) -> onnx.ModelProto:
    """A chain whose nodes lie in the file from back to front."""
    proto = sigmoids(nodes)
    backwards = list(reversed(proto.graph.node))
    del proto.graph.node[:]
    proto.graph.node.extend(backwards)
    return proto


def namesakes(nodes: int) -> onnx.ModelProto:
    """Every node has the same name."""
    proto = sigmoids(nodes)
    for node in proto.graph.node:
        node.name = "same"
    return proto


def bodies(nodes: int) -> onnx.ModelProto:
    """Ifs whose branches return weights of their own."""
    net, total = _start()
    net.inputs.append(onnx.helper.make_tensor_value_info("ok", onnx.TensorProto.BOOL, []))
    top = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [])
    for number in range(nodes // 2):
        weights = [onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [], [number + half]) for half in (0.0, 0.5)]
        yes, no = (onnx.helper.make_graph([], "branch", [], [top], [weight]) for weight in weights)
        total = net.op("Add", total, net.op("If", "ok", then_branch=yes, else_branch=no))
    return net.model(total)


def dead(nodes: int) -> onnx.ModelProto:
    """Half of the nodes are needed by nobody."""
    net, x = _start()
    for _ in range(nodes // 2):
        net.op("Neg", x)
        x = net.op("Sigmoid", x)
    return net.model(x)


CHAINS: dict[str, Callable[[int], onnx.ModelProto]] = {
    build.__name__: build
    for build in (
        relus, sigmoids, conv_bn_relu, convs, padded_convs, skips, linear_skips, doubled, scales, shape_arithmetic, integers,
        data_dependent_sizes, identities, transposes, reshapes, one_tensor, equal_branches, initializers, constant_nodes,
        wide_concat, wide_sum, branches, nested_residuals, matmuls, outputs, unsorted, namesakes,
        bodies, dead,
    )
}  # fmt: skip
