"""Damage to declared types and shapes: what the file says of its inputs, outputs and values, against what they are."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from tests.damage.draft import EITHER, REFUSED, Draft, Skip, damage


def tensor_input(d: Draft) -> onnx.TypeProto.Tensor:
    return d.graph.input[0].type.tensor_type


def declared(d: Draft, value: onnx.ValueInfoProto) -> onnx.TypeProto.Tensor:
    if not value.type.tensor_type.shape.dim:
        raise Skip
    return value.type.tensor_type


@damage(EITHER)
def an_input_of_another_width(d: Draft) -> None:
    """Nine channels where the first convolution takes three."""
    dims = declared(d, d.graph.input[0]).shape.dim
    dims[min(1, len(dims) - 1)].dim_value = 9


@damage(EITHER)
def an_input_of_another_rank(d: Draft) -> None:
    declared(d, d.graph.input[0]).shape.dim.add().dim_value = 5


@damage(EITHER)
def an_input_without_a_shape(d: Draft) -> None:
    tensor_input(d).ClearField("shape")


@damage(EITHER)
def an_input_without_a_type(d: Draft) -> None:
    d.graph.input[0].ClearField("type")


@damage(REFUSED)
def an_input_of_type_99(d: Draft) -> None:
    tensor_input(d).elem_type = 99


@damage(EITHER)
def an_input_of_type_undefined(d: Draft) -> None:
    tensor_input(d).elem_type = TensorProto.UNDEFINED


@damage(REFUSED, on="conv classifier quantized listed functions attention opset9 external")
def an_input_of_strings(d: Draft) -> None:
    tensor_input(d).elem_type = TensorProto.STRING


@damage(REFUSED, on="conv classifier listed functions attention opset9 external")
def an_input_of_integers(d: Draft) -> None:
    tensor_input(d).elem_type = TensorProto.INT64


@damage(EITHER)
def an_input_with_a_negative_dimension(d: Draft) -> None:
    """Some exporters write -1 for a size that is open."""
    declared(d, d.graph.input[0]).shape.dim[0].dim_value = -1


@damage(EITHER)
def an_input_with_a_zero_dimension(d: Draft) -> None:
    declared(d, d.graph.input[0]).shape.dim[0].dim_value = 0


@damage(REFUSED, on="conv classifier functions attention")
def an_input_of_terabytes(d: Draft) -> None:
    declared(d, d.graph.input[0]).shape.dim[0].dim_value = 2**42


@damage(REFUSED, on="conv classifier functions attention")
def an_input_larger_than_memory(d: Draft) -> None:
    """A batch that a machine of 2026 almost holds."""
    declared(d, d.graph.input[0]).shape.dim[0].dim_value = 2**26


@damage(REFUSED, on="conv classifier functions attention")
def an_input_whose_size_overflows(d: Draft) -> None:
    for dim in declared(d, d.graph.input[0]).shape.dim:
        dim.dim_value = 2**40


@damage(EITHER)
def an_input_of_a_sequence(d: Draft) -> None:
    kind = onnx.TypeProto()
    kind.CopyFrom(d.graph.input[0].type)
    d.graph.input[0].type.Clear()
    d.graph.input[0].type.sequence_type.elem_type.CopyFrom(kind)


@damage(EITHER)
def an_input_of_a_map(d: Draft) -> None:
    d.graph.input[0].type.Clear()
    kind = d.graph.input[0].type.map_type
    kind.key_type = TensorProto.INT64
    kind.value_type.tensor_type.elem_type = TensorProto.FLOAT


@damage(EITHER)
def an_input_of_a_sparse_tensor(d: Draft) -> None:
    d.graph.input[0].type.Clear()
    d.graph.input[0].type.sparse_tensor_type.elem_type = TensorProto.FLOAT


@damage(EITHER, on="branches")
def an_input_of_a_nested_sequence(d: Draft) -> None:
    kind = d.graph.input[0].type
    kind.Clear()
    for _ in range(20):
        kind = kind.sequence_type.elem_type
    kind.tensor_type.elem_type = TensorProto.FLOAT


@damage(EITHER)
def an_output_of_another_shape(d: Draft) -> None:
    for dim in declared(d, d.graph.output[0]).shape.dim:
        dim.dim_value = 77


@damage(EITHER)
def an_output_of_another_rank(d: Draft) -> None:
    declared(d, d.graph.output[0]).shape.dim.add().dim_value = 3


@damage(REFUSED)
def an_output_of_another_type(d: Draft) -> None:
    d.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


@damage(EITHER)
def an_output_without_a_type(d: Draft) -> None:
    d.graph.output[0].ClearField("type")


@damage(EITHER)
def an_output_with_a_negative_dimension(d: Draft) -> None:
    declared(d, d.graph.output[0]).shape.dim[0].dim_value = -7


@damage(REFUSED)
def an_output_of_type_99(d: Draft) -> None:
    d.graph.output[0].type.tensor_type.elem_type = 99


@damage(EITHER)
def an_output_of_a_sequence(d: Draft) -> None:
    d.graph.output[0].type.Clear()
    d.graph.output[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def describe(d: Draft, dtype: int, shape: list[int | str] | None) -> None:
    """value_info for an inner tensor."""
    read = {name for node in d.graph.node for name in node.input}
    node = d.one(n for n in d.graph.node if n.output and n.output[0] in read)
    kept = [v for v in d.graph.value_info if v.name != node.output[0]]
    del d.graph.value_info[:]
    d.graph.value_info.extend([*kept, helper.make_tensor_value_info(node.output[0], dtype, shape)])


@damage(EITHER)
def value_info_of_another_type(d: Draft) -> None:
    describe(d, TensorProto.INT64, None)


@damage(EITHER)
def value_info_of_type_99(d: Draft) -> None:
    describe(d, 99, [1])


@damage(EITHER)
def value_info_with_huge_dimensions(d: Draft) -> None:
    describe(d, TensorProto.FLOAT, [2**62, 2**62])


@damage(EITHER)
def value_info_with_negative_dimensions(d: Draft) -> None:
    describe(d, TensorProto.FLOAT, [-1, -2, -3])


@damage(EITHER)
def value_info_of_a_sequence(d: Draft) -> None:
    describe(d, TensorProto.FLOAT, None)
    value = d.graph.value_info[-1]
    value.type.Clear()
    value.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


@damage(EITHER)
def value_info_without_a_type(d: Draft) -> None:
    d.graph.value_info.append(onnx.ValueInfoProto(name=d.graph.node[0].output[0]))


@damage(EITHER, on="classifier")
def one_symbol_for_unlike_dimensions(d: Draft) -> None:
    for dim in declared(d, d.graph.input[0]).shape.dim:
        dim.dim_param = "n"
