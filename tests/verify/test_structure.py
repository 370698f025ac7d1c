"""Structure: one broken graph for each code; sound graphs are clean; nothing raises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import parser

from graphopt.model import Model
from graphopt.verify import check_structure
from graphopt.verify.structure import check_proto

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'
NET = HEAD + "g (float[N,2] x) => (float[N,2] y) <float[2] w = {1.0, -2.0}> { a = Mul(x, w) y = Relu(a) }"
IF = (
    HEAD
    + """g (bool c, float[2] x) => (float[2] y) { a = Relu(x)
y = If (c) <then_branch = t () => (float[2] p) { p = Neg(a) }, else_branch = e () => (float[2] q) { q = Exp(a) }> }"""
)


def proto(text: str = NET) -> onnx.ModelProto:
    return parser.parse_model(text)


@pytest.mark.parametrize("text", [NET, IF])
def test_sound_graphs(text: str) -> None:
    assert check_structure(Model.load(proto(text))) == []


def produce_twice(net: onnx.ModelProto) -> None:
    net.graph.node[1].output[0] = "a"


def produce_an_initializer(net: onnx.ModelProto) -> None:
    net.graph.node[0].output[0] = "w"


def read_nothing(net: onnx.ModelProto) -> None:
    net.graph.node[1].input[0] = "nosuch"


def return_nothing(net: onnx.ModelProto) -> None:
    net.graph.output[0].name = "nosuch"


def wrong_order(net: onnx.ModelProto) -> None:
    nodes = list(net.graph.node)[::-1]
    del net.graph.node[:]
    net.graph.node.extend(nodes)


def two_inputs(net: onnx.ModelProto) -> None:
    net.graph.input.append(net.graph.input[0])


def wrong_type(net: onnx.ModelProto) -> None:
    net.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64


def wrong_shape(net: onnx.ModelProto) -> None:
    net.graph.initializer[0].dims[0] = 3
    net.graph.initializer[0].float_data.append(1.0)


def unknown_op(net: onnx.ModelProto) -> None:
    net.graph.node[1].op_type = "NoSuch"


def unknown_attribute(net: onnx.ModelProto) -> None:
    net.graph.node[1].attribute.append(onnx.helper.make_attribute("nosuch", 1))


BROKEN: list[tuple[Callable[[onnx.ModelProto], None], str, str]] = [
    (produce_twice, "GO022", "produces 'a', which exists already"),
    (produce_an_initializer, "GO022", "produces 'w'"),
    (two_inputs, "GO022", "two graph inputs are named 'x'"),
    (read_nothing, "GO023", "reads 'nosuch', which nothing produces"),
    (return_nothing, "GO023", "returns 'nosuch'"),
    (wrong_order, "GO024", "reads 'a', which is produced only later"),
    (unknown_op, "GO021", "NoSuch"),
    (unknown_attribute, "GO021", "nosuch"),
    (wrong_type, "GO025", "type"),
    (wrong_shape, "GO025", "Mul"),
]


@pytest.mark.parametrize(("damage", "code", "told"), BROKEN, ids=[damage.__name__ for damage, _, _ in BROKEN])
def test_broken_graphs(damage: Callable[[onnx.ModelProto], None], code: str, told: str) -> None:
    net = proto()
    damage(net)
    found = check_proto(net, "m.onnx")
    assert code in {diagnostic.code for diagnostic in found}
    assert any(told in f"{diagnostic.where}: {diagnostic.why}" for diagnostic in found)
    assert all("\n" not in diagnostic.why and diagnostic.where.startswith("m.onnx") for diagnostic in found)


def test_inside_a_subgraph() -> None:
    net = proto(IF)
    inner = net.graph.node[1].attribute[0].g
    inner.node[0].input[0] = "nosuch"
    assert [d.code for d in check_proto(net, "m")] == ["GO023"]
    inner.node[0].input[0] = "a"
    inner.node[0].output[0] = inner.output[0].name = "a"
    assert "GO022" in {d.code for d in check_proto(net, "m")}


def test_many_faults_of_a_kind_are_shortened() -> None:
    net = proto()
    for index in range(50):
        net.graph.node.append(onnx.helper.make_node("Relu", [f"no{index}"], [f"z{index}"]))
    assert len(check_proto(net, "m")) == 5


def dangling(model: Model) -> None:
    model.graph.nodes[1].inputs[0] = gs.Variable("nosuch", np.float32, (2,))


def not_writable(model: Model) -> None:
    model.graph.nodes[1].attrs["odd"] = object()


def broken_entirely(model: Model) -> None:
    model.graph.nodes.append(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", [dangling, not_writable, broken_entirely])
def test_a_graph_that_a_pass_broke_gives_diagnostics(damage: Callable[[Model], None]) -> None:
    model = Model.load(proto())
    damage(model)
    model.edited()
    found = check_structure(model, "after fold")
    assert found
    assert all(diagnostic.code.startswith("GO0") for diagnostic in found)
