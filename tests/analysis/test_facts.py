"""Shapes, costs and their cache."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.analysis import Analyses, Cost, Shapes
from graphopt.model import Model
from tests.nets import Net


def load(net: Net, *outputs: str) -> Analyses:
    return Analyses(Model.load(net.model(*outputs)))


def test_macs_and_parameters_by_hand() -> None:
    net = Net()
    i = net.input(1, 4, 8, 8)
    y = net.conv(i, 6, 3, pad=1, group=2)
    analyses = load(net, net.op("Flatten", net.conv(y, 8, 1, strides=[2, 2], bias=False)))
    table = analyses.get(Cost())
    assert table.macs == 8 * 8 * 6 * 2 * 9 + 4 * 4 * 8 * 6
    assert table.params == 6 * 2 * 9 + 6 + 8 * 6
    assert table.unknown == []


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_and_matmul(trans_a: int, trans_b: int) -> None:
    net = Net()
    i = net.input(*((8, 3) if trans_a else (3, 8)))
    weight = net.const(net.random(*((5, 8) if trans_b else (8, 5))))
    y = net.op("Gemm", i, weight, transA=trans_a, transB=trans_b)
    analyses = load(net, net.op("MatMul", y, net.const(net.random(5, 7))))
    assert analyses.get(Cost()).macs == 3 * 8 * 5 + 3 * 5 * 7


def test_dynamic_shapes_need_a_sample() -> None:
    net = Net()
    i = net.input("n", 4, "h", "w")
    analyses = load(net, net.conv(i, 6, 3, pad=1))
    assert analyses.get(Cost()).unknown == ["Conv 'conv0'"]
    assert analyses.get(Cost((("x", (2, 4, 8, 8)),))).macs == 2 * 64 * 6 * 4 * 9


def test_a_shared_weight_counts_once() -> None:
    net = Net()
    weight = net.const(net.random(4, 4, 1, 1))
    y = net.op("Conv", net.op("Conv", net.input(1, 4, 8, 8), weight), weight)
    assert load(net, y).get(Cost()).params == 16


def test_stale_value_info_is_not_believed() -> None:
    net = Net()
    inner = net.conv(net.input(1, 4, 8, 8), 6, 3)
    proto = net.model(net.op("Relu", inner))
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, [1, 6, 8, 8]))
    model = Model.load(proto)
    tensor = model.graph.nodes[0].outputs[0]
    assert Analyses(model).get(Shapes()).shape(tensor) == (1, 6, 6, 6)


def test_results_are_cached_until_the_next_edit() -> None:
    net = Net()
    analyses = load(net, net.op("Relu", net.conv(net.input(1, 4, 8, 8), 6)))
    first = analyses.get(Shapes())
    assert analyses.get(Shapes()) is first
    analyses.model.add("Neg", [analyses.model.graph.inputs[0]], [analyses.model.variable("z")])
    assert analyses.get(Shapes()) is not first


def test_shapes_computed_from_small_constants_are_known() -> None:
    net = Net()
    i = net.input(1, 4, 8, 8)
    y = net.op("Reshape", i, net.const(np.asarray([0, -1], np.int64)))
    analyses = load(net, y)
    assert analyses.get(Shapes()).shape(analyses.model.graph.outputs[0]) == (1, 256)


def test_a_negative_size_is_an_open_one() -> None:
    net = Net()
    proto = net.model(net.op("Relu", net.input(1, 4, 8, 8)))
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    model = Model.load(proto)
    assert Analyses(model).get(Shapes()).shape(model.graph.inputs[0]) == (None, 4, 8, 8)


def test_the_default_of_an_overridable_input_is_not_believed() -> None:
    """From IR 4 on a caller may give another value for an initializer that is also an input."""
    net = Net()
    shape = net.const(np.asarray([4, 64], np.int64))
    y = net.op("Relu", net.op("Reshape", net.input(1, 4, 8, 8), shape))
    proto = net.model(y)
    proto.graph.input.append(onnx.helper.make_tensor_value_info(shape, onnx.TensorProto.INT64, [2]))
    model = Model.load(proto)
    assert Analyses(model).get(Shapes()).shape(model.graph.nodes[0].outputs[0]) != (4, 64)


def test_an_element_type_that_onnx_does_not_know_is_unknown() -> None:
    net = Net()
    cast = net.op("Cast", net.input(1, 4), to=255)
    graph = onnx.helper.make_graph(net.nodes, "net", net.inputs, [onnx.ValueInfoProto(name=cast)])
    model = Model.load(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8))
    assert Analyses(model).get(Shapes()).dtype(model.graph.nodes[0].outputs[0]) == 0
