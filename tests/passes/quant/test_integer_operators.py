"""Models of integer operators (onnxruntime's QOperator format), read as quantizers around float ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import graphopt
from graphopt.check.runner import Settings, check_file
from graphopt.check.subject import Asked
from graphopt.model import Model
from graphopt.ops.integers import ROWS, expand
from graphopt.target import Target
from tests.nets import Array, Net, feed_for, ops_of, outputs_of


def convs(net: Net) -> str:
    """Dense and depthwise with residual, pooling, Flatten and Gemm."""
    x = net.op("Relu", net.conv(net.input(1, 3, 16, 16), 16, pad=1))
    y = net.op("LeakyRelu", net.conv(x, 16, pad=1, group=16))
    x = net.op("Add", x, net.conv(y, 16, 1))
    x = net.op("Mul", x, net.op("Sigmoid", net.conv(x, 16, 1)))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    joined = net.op("Concat", x, net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    net.widths[joined] = 32
    pooled = net.op("Flatten", net.op("GlobalAveragePool", net.conv(joined, 24)))
    return net.op("Gemm", pooled, net.const(net.random(10, 24)), net.const(net.random(10)), transB=1)


def products(net: Net) -> str:
    x = net.op("MatMul", net.input(4, 16), net.const(net.random(16, 32)))
    x = net.op("Transpose", net.op("Reshape", x, net.const(np.array([4, 4, 8]))), perm=[0, 2, 1])
    return net.op(
        "Softmax", net.op("MatMul", net.op("Reshape", x, net.const(np.array([4, 32]))), net.const(net.random(32, 6))), axis=-1
    )


class Feeds(CalibrationDataReader):
    def __init__(self, proto: onnx.ModelProto) -> None:
        self.left: Iterator[dict[str, Array]] = iter([feed_for(proto, seed) for seed in range(8)])

    def get_next(self) -> dict[str, Array] | None:  # type: ignore[override]
        return next(self.left, None)


def integers(proto: onnx.ModelProto, folder: Path, *, per_channel: bool) -> onnx.ModelProto:
    onnx.save(proto, folder / "float.onnx")
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": per_channel}
    quantize_static(folder / "float.onnx", folder / "made.onnx", Feeds(proto), quant_format=QuantFormat.QOperator, **kinds)
    return onnx.load(folder / "made.onnx")


BUILDS: dict[str, Callable[[Net], str]] = {"convolutions": convs, "products": products}


@pytest.fixture(params=[(b, c) for b in BUILDS for c in (False, True)], ids=lambda p: f"{p[0]}, {'channels' if p[1] else 'whole'}")
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The float model, and the one of integer operators."""
    name, per_channel = request.param
    net = Net(opset=13)
    proto = net.model(BUILDS[name](net))
    return proto, integers(proto, tmp_path, per_channel=per_channel)


def test_what_is_read_computes_the_same(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    proto, made = pair
    assert any(op in ROWS for op in ops_of(made))
    model = Model.load(made)
    assert expand(model) is None
    read = model.proto()
    assert not any(op in ROWS for op in ops_of(read))
    feed = feed_for(proto, 20)
    for a, b in zip(outputs_of(made, feed), outputs_of(read, feed), strict=True):
        np.testing.assert_allclose(a, b, atol=2 * float(np.ptp(a)) / 255)


def test_it_is_left_alone_unless_asked(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    result = graphopt.run(pair[1], "quant", timing=False)
    assert ops_of(result.model.proto()) == ops_of(pair[1])
    assert result.report.passes[-1].refusals[0].code == "already-quantized"


def test_it_can_be_quantized_anew(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    proto, made = pair
    feeds = [feed_for(proto, seed) for seed in range(8)]
    options = "quant:requantize:placement=kernels:allow-slower"
    anew = graphopt.run(made, options, data=feeds, timing=False).model.proto()
    assert "QuantizeLinear" in ops_of(anew) and not any(op in ROWS for op in ops_of(anew))
    feed = feed_for(proto, 20)
    for a, b in zip(outputs_of(proto, feed), outputs_of(anew, feed), strict=True):
        assert np.sqrt(((a - b) ** 2).mean()) < 0.05 * np.ptp(a)


def test_a_kernel_in_float_among_integer_operators_is_found(tmp_path: Path) -> None:
    net = Net(opset=13)
    x = net.op("Relu", net.conv(net.input(1, 32, 28, 28), 64, pad=1))
    x = net.op("Relu", net.conv(x, 64, pad=1))
    proto = net.model(net.op("Relu", net.conv(x, 64, pad=1)))
    proto.graph.node[2].name = "left"
    onnx.save(proto, tmp_path / "float.onnx")
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "made.onnx",
        Feeds(proto),
        quant_format=QuantFormat.QOperator,
        nodes_to_exclude=["left"],
        **kinds,
    )
    result = check_file(tmp_path / "made.onnx", Settings(Asked(Target.load("ort-x86-vnni")), ["GO201"]))
    assert ["'left'" in f.where for f in result.findings] == [True]


@pytest.mark.parametrize(
    ("op", "attrs"), [("QLinearGlobalAveragePool", {"channels_last": 1}), ("QLinearSoftmax", {"axis": 1, "opset": 12})]
)
def test_what_no_float_operator_does_is_refused(op: str, attrs: dict[str, int]) -> None:
    net = Net()
    scale, zero = net.const(np.float32(0.05)), net.const(np.uint8(128))
    x = net.op("QuantizeLinear", net.input(1, 4, 4, 4), scale, zero)
    y = net.op("DequantizeLinear", net.op(op, x, scale, zero, scale, zero, domain="com.microsoft", **attrs), scale, zero)
    graph = onnx.helper.make_graph(
        net.nodes, "net", net.inputs, [onnx.helper.make_tensor_value_info(y, onnx.TensorProto.FLOAT, None)], net.initializers
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = Model.load(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9))
    before = model.proto()
    why = expand(model)
    assert why is not None and "no float operator" in why
    assert model.proto() == before


@pytest.mark.parametrize("op", ROWS)
@pytest.mark.parametrize("count", range(4))
def test_what_lacks_inputs_is_refused(op: str, count: int) -> None:
    model = Model.load(net_of_one())
    node = model.graph.nodes[0]
    node.op, node.inputs = op, [node.inputs[0]] * count
    why = expand(model)
    assert why is not None and "lacks" in why


def net_of_one() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Relu", net.input(1, 4)))
