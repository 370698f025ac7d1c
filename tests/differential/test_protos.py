"""The judge of the round trip: what it forgives, and that it forgives nothing else."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from onnx import TensorProto, helper

from tests.differential.protos import differences, normalized, same


def model() -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="n")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("w", TensorProto.FLOAT, [1], [float("nan")])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _presence(m: onnx.ModelProto) -> None:
    m.doc_string = ""
    m.model_version = 0
    m.graph.node[0].domain = ""
    m.graph.initializer[0].data_location = TensorProto.DEFAULT


def _empty_shape(m: onnx.ModelProto) -> None:
    m.graph.output[0].type.tensor_type.shape.SetInParent()


def _zero_dim(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value")


def _minus_zero(m: onnx.ModelProto) -> None:
    m.graph.node[0].attribute.append(onnx.AttributeProto(name="a", type=onnx.AttributeProto.FLOAT, f=-0.0))


def _zero(m: onnx.ModelProto) -> None:
    m.graph.node[0].attribute.append(onnx.AttributeProto(name="a", type=onnx.AttributeProto.FLOAT))


def test_presence_of_defaults_is_forgiven() -> None:
    touched = model()
    _presence(touched)
    assert touched != model()
    assert same(touched, model())
    assert differences(touched, model()) == []
    assert not normalized(touched).HasField("doc_string")


def with_unknown_field(encoded: bytes) -> onnx.ModelProto:
    """Field 1000, a number."""
    return onnx.ModelProto.FromString(model().SerializeToString() + b"\xc0\x3e" + encoded)


def test_fields_that_nobody_knows_are_compared_by_value() -> None:
    assert differences(with_unknown_field(b"\x05"), with_unknown_field(b"\x85\x00")) == []
    assert differences(with_unknown_field(b"\x05"), with_unknown_field(b"\x06")) == ["model: unknown fields differ"]
    assert differences(with_unknown_field(b"\x05"), model()) == ["model: unknown fields differ"]


CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "text": (lambda m: setattr(m, "doc_string", "d"), "doc_string: only after"),
    "empty shape": (_empty_shape, "graph.output[0].type.tensor_type.shape: only after"),
    "zero is not unknown": (_zero_dim, "graph.input[0].type.tensor_type.shape.dim[1].dim_value: only before"),
    "order": (lambda m: m.graph.node[0].input.insert(0, "w"), "graph.node[0].input: 1 entries != 2"),
    "weights": (
        lambda m: m.graph.initializer[0].float_data.__setitem__(0, 1.0),
        "graph.initializer[0].float_data[0]: nan != 1.0",
    ),
    "empty metadata": (lambda m: m.metadata_props.add() and None, "metadata_props: only after"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_everything_else_is_a_difference(name: str) -> None:
    change, line = CHANGES[name]
    changed = model()
    change(changed)
    assert not same(model(), changed)
    assert line in differences(model(), changed)


def test_minus_zero_is_not_the_default() -> None:
    minus, plain = model(), model()
    _minus_zero(minus)
    _zero(plain)
    assert not same(minus, plain)


def test_the_messages_compared_are_left_alone() -> None:
    touched = model()
    _presence(touched)
    before = touched.SerializeToString(deterministic=True)
    differences(touched, model())
    assert touched.SerializeToString(deterministic=True) == before
