"""The float64 interpreter of the tests agrees with onnxruntime, operator by operator, within float32's rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.nets import Net, feed_for, outputs_of
from tests.oracle import OPERATORS, evaluate


def x(net: Net, c: int = 4) -> str:
    return net.input(1, c, 7, 8)


def ints(net: Net, *values: int) -> str:
    return net.const(np.asarray(values, np.int64))


def up(net: Net, rate: int, **attrs: str) -> str:
    scales = net.const(np.asarray([1, 1, rate, rate], np.float32))
    return net.op("Resize", x(net), "", scales, mode="nearest", **attrs)


def transposed(net: Net, groups: int = 1, **attrs: object) -> str:
    return net.op(
        "ConvTranspose", x(net), net.const(net.random(4, 6 // groups, 3, 3)), net.const(net.random(6)), group=groups, **attrs
    )


CASES: dict[str, Callable[[Net], str]] = {
    "Conv": lambda n: n.conv(x(n), 6, (3, 2), group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 2, 3]),
    "Conv same upper": lambda n: n.conv(x(n), 6, (3, 2), strides=[2, 3], auto_pad="SAME_UPPER"),
    "Conv same lower": lambda n: n.conv(x(n), 6, (3, 2), strides=[2, 3], auto_pad="SAME_LOWER"),
    "Conv valid": lambda n: n.conv(x(n), 6, 3, auto_pad="VALID"),
    "ConvTranspose": lambda n: transposed(n, strides=[2, 3], dilations=[2, 1], pads=[1, 0, 2, 1], output_padding=[1, 0]),
    "ConvTranspose grouped": lambda n: transposed(n, 2, strides=[2, 2]),
    "ConvTranspose same": lambda n: transposed(n, strides=[2, 2], auto_pad="SAME_UPPER"),
    "ConvTranspose shape": lambda n: transposed(n, strides=[2, 2], output_shape=[14, 16]),
    "AveragePool": lambda n: n.op("AveragePool", x(n), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 2, 1]),
    "AveragePool counted": lambda n: n.op("AveragePool", x(n), kernel_shape=[3, 3], pads=[1, 1, 2, 1], count_include_pad=1),
    "AveragePool ceil": lambda n: n.op("AveragePool", x(n), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "GlobalAveragePool": lambda n: n.op("GlobalAveragePool", x(n)),
    "BatchNormalization": lambda n: n.bn(x(n)),
    "Gemm": lambda n: n.op("Gemm", n.input(3, 4), n.const(n.random(5, 4)), n.const(n.random(5)), alpha=0.5, beta=2.0, transB=1),
    "MatMul": lambda n: n.op("MatMul", x(n), n.const(n.random(8, 3))),
    "Pad negative": lambda n: n.op("Pad", x(n), ints(n, 0, 0, -1, 2, 0, 0, 1, -2)),
    "Pad reflect": lambda n: n.op("Pad", x(n), ints(n, 0, 0, 1, 2, 0, 0, 0, 1), mode="reflect"),
    "Pad value": lambda n: n.op("Pad", x(n), ints(n, 0, 0, 1, 2, 0, 0, 0, 1), n.const(0.5)),
    "DepthToSpace DCR": lambda n: n.op("DepthToSpace", x(n, 8), blocksize=2),
    "DepthToSpace CRD": lambda n: n.op("DepthToSpace", x(n, 8), blocksize=2, mode="CRD"),
    "SpaceToDepth": lambda n: n.op("SpaceToDepth", n.input(1, 3, 4, 6), blocksize=2),
    "Resize asymmetric floor": lambda n: up(n, 3, coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "Resize asymmetric round": lambda n: up(n, 3, coordinate_transformation_mode="asymmetric"),
    "Resize half pixel": lambda n: up(n, 2),
    "Resize align corners": lambda n: up(n, 2, coordinate_transformation_mode="align_corners"),
    "Slice": lambda n: n.op("Slice", x(n), ints(n, 3, -1), ints(n, 0, 2), ints(n, 1, 3), ints(n, -1, -2)),
    "Gather": lambda n: n.op("Gather", x(n), ints(n, 2, 0, -1), axis=1),
    "Split": lambda n: n.op("Concat", n.op("Split", x(n), ints(n, 1, 3), outputs=2, axis=1), "t0_1", axis=1),
    "Reshape": lambda n: n.op("Reshape", x(n), ints(n, 0, 2, -1)),
    "Flatten": lambda n: n.op("Flatten", x(n), axis=2),
    "Transpose": lambda n: n.op("Transpose", x(n), perm=[0, 3, 1, 2]),
    "ReduceMean": lambda n: n.op("ReduceMean", x(n), axes=[2, 3], keepdims=0),
    "PRelu": lambda n: n.op("PRelu", x(n), n.const(n.random(4, 1, 1))),
    "Clip": lambda n: n.op("Clip", x(n), n.const(0.0), n.const(0.5)),
    "Sub, Mul, Div, Neg": lambda n: n.op("Neg", n.op("Div", n.op("Mul", n.op("Sub", i := x(n), n.const(0.5)), i), n.const(3.0))),
}


@pytest.mark.parametrize("name", CASES)
def test_as_onnxruntime(name: str) -> None:
    net = Net(seed=len(name))
    proto = net.model(CASES[name](net))
    assert all(node.op_type in OPERATORS for node in proto.graph.node)
    feed = feed_for(proto)
    (mine,), (theirs,) = evaluate(proto, feed), outputs_of(proto, feed)
    assert mine.dtype == np.float64
    assert mine.shape == theirs.shape
    assert np.abs(mine - theirs).max() <= 1e-5 * max(1.0, np.abs(theirs).max())
