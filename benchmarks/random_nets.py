"""Random trained-looking networks: residual, branched, grouped and depthwise blocks with batch norms, a head, two outputs now and
then. Everything is drawn from one seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_SIZE = 16


class _Net:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, array: NDArray[np.float64]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], f"{kind.lower()}_{len(self.nodes)}", **attributes))
        return name

    def conv(self, x: str, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        shape = (c_out, c_in // group, kernel, kernel)
        weight = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        pads = [kernel // 2] * 4
        kernels = [kernel, kernel]
        return self.op("Conv", x, self.weight(weight), kernel_shape=kernels, pads=pads, strides=[stride] * 2, group=group)

    def norm(self, x: str, c: int) -> str:
        scale, variance = (self.weight(self.rng.uniform(0.5, 1.5, c)) for _ in range(2))
        shift, mean = (self.weight(0.1 * self.rng.standard_normal(c)) for _ in range(2))
        return self.op("BatchNormalization", x, scale, shift, mean, variance)

    def block(self, x: str, c: int) -> str:
        match int(self.rng.integers(4)):
            case 0:  # residual
                y = self.op("Relu", self.norm(self.conv(x, c, c), c))
                return self.op("Relu", self.op("Add", self.norm(self.conv(y, c, c), c), x))
            case 1:  # re-parametrizable branches
                branches = self.norm(self.conv(x, c, c), c), self.norm(self.conv(x, c, c, 1), c), self.norm(x, c)
                return self.op("Relu", self.op("Add", self.op("Add", *branches[:2]), branches[2]))
            case 2:  # inverted bottleneck
                y = self.op("Clip", self.norm(self.conv(x, c, 2 * c, 1), 2 * c), self.number(0.0), self.number(6.0))
                y = self.op("Relu", self.norm(self.conv(y, 2 * c, 2 * c, group=2 * c), 2 * c))
                return self.op("Add", self.norm(self.conv(y, 2 * c, c, 1), c), x)
            case _:  # concatenated halves
                halves = [self.op("Relu", self.norm(self.conv(x, c, c // 2, kernel), c // 2)) for kernel in (1, 3)]
                return self.op("Concat", *halves, axis=1)

    def number(self, value: float) -> str:
        return self.weight(np.asarray(value))


def random_net(seed: int) -> onnx.ModelProto:
    """A classifier of 3 x 16 x 16 inputs with a free batch."""
    net = _Net(seed)
    width = int(net.rng.choice([8, 12, 16]))
    x = net.op("Relu", net.norm(net.conv("image", 3, width), width))
    for _ in range(int(net.rng.integers(2, 6))):
        x = net.block(x, width)
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    head = net.weight(net.rng.standard_normal((10, width)) / np.sqrt(width))
    y = net.op("Gemm", x, head, net.weight(0.1 * net.rng.standard_normal(10)), transB=1)
    graph = helper.make_graph(
        net.nodes,
        f"random{seed}",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, _SIZE, _SIZE])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["n", 10])],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model
