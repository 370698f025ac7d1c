"""Loading and writing without an edit gives the same message, for what the package's own backend models do not contain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from graphopt.model import Model
from tests.differential.decorate import decorated
from tests.differential.protos import differences

BASE = """
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[N, 4] x, bool c) => (float[N, 4] y, float[N, 4] z) <float[4] w = {1, 2, 3, 4}, int64[1] i = {0}> {
        a = Add(x, w)
        y, m = Dropout(a)
        b = Clip(x, , w)
        z = If (c) <
            then_branch = t () => (float[N, 4] r) <float[4] v = {1, 1, 1, 1}> { q = Mul(a, v) r = Add(q, w) },
            else_branch = e () => (float[N, 4] r) <float[4] v = {2, 2, 2, 2}> { r = Mul(b, v) }
        >
    }
"""

Change = Callable[[onnx.ModelProto], object]


def _bodies(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in model.graph.node[-1].attribute]


def _sparse(name: str) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([1.5], np.float32), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([2], np.int64), ""), [4])


def _sparse_weight(graph: onnx.GraphProto, name: str) -> None:
    """Turn a dense initializer of ``graph`` into a sparse one."""
    left = [t for t in graph.initializer if t.name != name]
    del graph.initializer[:]
    graph.initializer.extend(left)
    graph.sparse_initializer.append(_sparse(name))


def _reversed_nodes(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _old_format(model: onnx.ModelProto, listed: bool) -> None:
    model.ir_version = 3
    if listed:
        model.graph.input.insert(0, helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))


def _only_passes_on(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    del model.graph.output[:]
    model.graph.output.append(model.graph.input[0])


def _raw_and_typed(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight), "w"))
    model.graph.initializer.append(TensorProto(name="none", data_type=TensorProto.FLOAT, dims=[0], raw_data=b""))
    model.graph.initializer.append(helper.make_tensor("half", TensorProto.FLOAT16, [2], [1.0, 2.0]))
    model.graph.initializer.append(helper.make_tensor("four", TensorProto.INT4, [3], [1, -2, 3]))
    model.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [2], [b"a", b"\xff"]))
    model.graph.initializer.append(helper.make_tensor("eight", TensorProto.FLOAT8E4M3FNUZ, [1], [0.5]))


def _number(name: str) -> TensorProto:
    return numpy_helper.from_array(np.asarray(7), name)


def _returned() -> onnx.ModelProto:
    """An If whose branches do nothing but return an initializer of their own, of the same name in both."""
    ok = helper.make_tensor_value_info("ok", TensorProto.BOOL, [])
    w, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("w", "y"))
    values = [helper.make_tensor("w", TensorProto.FLOAT, [2], [v, v]) for v in (1.0, 2.0)]
    yes, no = (helper.make_graph([], "branch", [], [w], [value]) for value in values)
    node = helper.make_node("If", ["ok"], ["y"], then_branch=yes, else_branch=no)
    return helper.make_model(helper.make_graph([node], "net", [ok], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


CHANGES: dict[str, Change] = {
    "as it is": lambda m: None,
    "nodes out of order": _reversed_nodes,
    "nodes of one name": lambda m: [setattr(n, "name", "same") for n in m.graph.node],
    "old format, initializers listed": lambda m: _old_format(m, True),
    "old format, initializers not listed": lambda m: _old_format(m, False),
    "overridable default": lambda m: m.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])),
    "sparse weight": lambda m: _sparse_weight(m.graph, "w"),
    "sparse weights in bodies": lambda m: [_sparse_weight(body, "v") for body in _bodies(m)],
    "every storage of weights": _raw_and_typed,
    "an input as output": lambda m: m.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])),
    "a weight as output": lambda m: m.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])),
    "weights of one name in bodies that return them": lambda m: m.CopyFrom(_returned()),
    "a weight that nobody reads, of the name of one in a body": lambda m: m.graph.initializer.append(_number("v")),
    "a default that nobody reads, of the name of one in a body": lambda m: (
        m.graph.initializer.append(_number("v")),
        m.graph.input.append(helper.make_tensor_value_info("v", TensorProto.INT64, [])),
    ),
    "an output without a type": lambda m: m.graph.output[0].ClearField("type"),
    "an output of a custom type": lambda m: setattr(m.graph.output[0].type, "denotation", "IMAGE"),
    "trailing omitted inputs": lambda m: m.graph.node[0].input.extend(["", ""]),
    "trailing omitted outputs": lambda m: m.graph.node[0].output.extend([""]),
    "the domain spelt out": lambda m: setattr(m.graph.node[0], "domain", "ai.onnx"),
    "two operator sets of one domain": lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 17)),
    "value_info of a constant": lambda m: m.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])),
    "value_info of nothing": lambda m: m.graph.value_info.append(helper.make_tensor_value_info("gone", TensorProto.FLOAT, [4])),
    "value_info of an output": lambda m: m.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])),
    "a wrong value_info": lambda m: m.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.DOUBLE, [])),
    "no nodes": _only_passes_on,
    "everything at once": lambda m: m.CopyFrom(decorated(m, 3)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_message_comes_out(name: str) -> None:
    proto = parser.parse_model(BASE)
    CHANGES[name](proto)
    before = proto.SerializeToString(deterministic=True)
    model = Model.load(proto)
    assert differences(proto, model.proto()) == []
    assert differences(proto, model.copy().proto()) == [], "a copy"
    assert differences(proto, Model.load(before).proto()) == [], "from bytes"
    assert proto.SerializeToString(deterministic=True) == before, "the source was changed"
