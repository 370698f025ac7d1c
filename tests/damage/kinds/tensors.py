"""Damage to stored tensors: bytes, dimensions, types, sparse indices."""

from __future__ import annotations

from onnx import TensorProto, helper

from tests.damage.draft import EITHER, REFUSED, Draft, Skip, damage


def read_weight(d: Draft, **wanted: object) -> TensorProto:
    """A weight that some node reads."""
    read = {name for node in d.graph.node for name in node.input}
    return d.one(t for t in d.graph.initializer if t.name in read and len(t.dims) >= 1 and (t.raw_data or not wanted.get("raw")))


@damage(REFUSED, count=6)
def short_raw_data(d: Draft) -> None:
    tensor = read_weight(d, raw=True)
    tensor.raw_data = tensor.raw_data[:-1]


@damage(REFUSED)
def one_element_is_missing(d: Draft) -> None:
    tensor = read_weight(d, raw=True)
    tensor.raw_data = tensor.raw_data[: -len(tensor.raw_data) // max(1, _elements(tensor))]


def _elements(tensor: TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count


@damage(REFUSED, count=6)
def long_raw_data(d: Draft) -> None:
    read_weight(d, raw=True).raw_data += bytes(16)


@damage(REFUSED)
def no_data_at_all(d: Draft) -> None:
    read_weight(d, raw=True).ClearField("raw_data")


@damage(EITHER)
def raw_and_typed_data(d: Draft) -> None:
    read_weight(d, raw=True).float_data.extend([1.0, 2.0])


@damage(REFUSED)
def typed_data_of_another_type(d: Draft) -> None:
    tensor = read_weight(d, raw=True)
    tensor.ClearField("raw_data")
    tensor.string_data.extend([b"a", b"b"])


@damage(REFUSED)
def short_typed_data(d: Draft) -> None:
    tensor = d.weight(dtype=TensorProto.FLOAT, raw=True)
    count = _elements(tensor)
    if count < 2:
        raise Skip
    tensor.ClearField("raw_data")
    tensor.float_data.extend([0.5] * (count - 1))


@damage(EITHER)
def long_typed_data(d: Draft) -> None:
    tensor = d.weight(dtype=TensorProto.FLOAT, raw=True)
    count = _elements(tensor)
    tensor.ClearField("raw_data")
    tensor.float_data.extend([0.5] * (count + 3))


@damage(REFUSED)
def a_negative_dimension(d: Draft) -> None:
    read_weight(d).dims[0] *= -1


@damage(REFUSED)
def two_negative_dimensions(d: Draft) -> None:
    """Their product is the right one."""
    tensor = d.weight(least=2)
    tensor.dims[0] *= -1
    tensor.dims[1] *= -1


@damage(REFUSED)
def a_huge_dimension(d: Draft) -> None:
    read_weight(d).dims[0] = 2**40


@damage(REFUSED)
def the_largest_dimension(d: Draft) -> None:
    read_weight(d).dims[0] = 2**63 - 1


@damage(REFUSED)
def dimensions_whose_product_overflows(d: Draft) -> None:
    tensor = read_weight(d)
    tensor.dims[:] = [2**32, 2**32]


@damage(REFUSED)
def dimensions_whose_product_overflows_to_zero_bytes(d: Draft) -> None:
    tensor = read_weight(d, raw=True)
    tensor.dims[:] = [2**31, 2**31, 4]
    tensor.raw_data = b""


@damage(EITHER)
def a_zero_dimension(d: Draft) -> None:
    tensor = read_weight(d, raw=True)
    tensor.dims[0] = 0
    tensor.raw_data = b""


@damage(REFUSED)
def a_zero_dimension_with_data(d: Draft) -> None:
    read_weight(d, raw=True).dims[0] = 0


@damage(EITHER)
def no_dimensions(d: Draft) -> None:
    del read_weight(d).dims[:]


@damage(EITHER, count=6)
def dimensions_in_another_order(d: Draft) -> None:
    tensor = d.weight(least=2)
    dims = list(tensor.dims)
    if len(set(dims)) == 1:
        raise Skip
    tensor.dims[:] = dims[::-1]


@damage(EITHER)
def a_hundred_dimensions(d: Draft) -> None:
    tensor = read_weight(d)
    tensor.dims.extend([1] * 100)


@damage(REFUSED)
def type_undefined(d: Draft) -> None:
    read_weight(d).data_type = TensorProto.UNDEFINED


@damage(REFUSED)
def type_99(d: Draft) -> None:
    read_weight(d).data_type = 99


@damage(REFUSED)
def type_negative(d: Draft) -> None:
    read_weight(d).data_type = -1


@damage(EITHER)
def type_of_another_width(d: Draft) -> None:
    d.weight(dtype=TensorProto.FLOAT, raw=True).data_type = TensorProto.DOUBLE


@damage(REFUSED)
def type_of_equal_width(d: Draft) -> None:
    """Floats read as integers: the operator has no such form."""
    tensor = d.weight_of(d.node("Conv", "Gemm", "MatMul"), 1)
    if tensor.data_type != TensorProto.FLOAT:
        raise Skip
    tensor.data_type = TensorProto.INT32


@damage(EITHER)
def type_four_bits(d: Draft) -> None:
    read_weight(d, raw=True).data_type = TensorProto.INT4


@damage(EITHER)
def type_bfloat16(d: Draft) -> None:
    tensor = d.weight(dtype=TensorProto.FLOAT, raw=True)
    tensor.data_type = TensorProto.BFLOAT16
    tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]


@damage(REFUSED)
def strings_where_numbers_belong(d: Draft) -> None:
    tensor = read_weight(d, raw=True)
    count = _elements(tensor)
    tensor.ClearField("raw_data")
    tensor.data_type = TensorProto.STRING
    tensor.string_data.extend([b"1.0"] * count)


@damage(REFUSED)
def strings_in_raw_data(d: Draft) -> None:
    read_weight(d, raw=True).data_type = TensorProto.STRING


@damage(EITHER)
def a_segment(d: Draft) -> None:
    """A field that no reader supports."""
    tensor = read_weight(d)
    tensor.segment.begin, tensor.segment.end = 2, 1


def sparse(d: Draft, indices: list[int], index_dims: list[int], values: list[float] | None = None) -> None:
    tensor = d.weight(least=2, dtype=TensorProto.FLOAT, raw=True)
    if tensor.name in {v.name for v in d.graph.input}:
        raise Skip
    made = d.graph.sparse_initializer.add()
    made.dims.extend(tensor.dims)
    some = [1.0] * index_dims[0] if values is None else values
    made.values.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, [len(some)], some))
    made.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, index_dims, indices))
    d.graph.initializer.remove(tensor)


@damage(REFUSED)
def sparse_indices_out_of_range(d: Draft) -> None:
    sparse(d, [0, 10**9], [2])


@damage(REFUSED)
def sparse_indices_negative(d: Draft) -> None:
    sparse(d, [-1, 3], [2])


@damage(EITHER)
def sparse_indices_out_of_order(d: Draft) -> None:
    sparse(d, [5, 1], [2])


@damage(EITHER)
def sparse_indices_twice(d: Draft) -> None:
    sparse(d, [1, 1], [2], [1.0, 2.0])


@damage(REFUSED)
def sparse_with_more_values_than_indices(d: Draft) -> None:
    sparse(d, [1], [1], [1.0, 2.0, 3.0])


@damage(REFUSED)
def sparse_indices_of_another_rank(d: Draft) -> None:
    sparse(d, [0] * 14, [2, 7])


@damage(EITHER)
def sparse_without_indices(d: Draft) -> None:
    sparse(d, [], [0])


@damage(REFUSED)
def a_sparse_tensor_of_terabytes(d: Draft) -> None:
    made = d.graph.sparse_initializer.add()
    made.dims.extend([2**20, 2**20, 16])
    made.values.CopyFrom(helper.make_tensor("vast", TensorProto.FLOAT, [1], [1.0]))
    made.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, [1], [0]))
    d.add("Shape", ["vast"], ["vast_shape"])
    d.returns("vast_shape", TensorProto.INT64)


@damage(EITHER)
def a_constant_node_with_bad_bytes(d: Draft) -> None:
    tensor = helper.make_tensor("", TensorProto.FLOAT, [4], bytes(16), raw=True)
    tensor.raw_data = bytes(7)
    d.add("Constant", [], ["bad"], first=True, value=tensor)
    d.returns("bad")


@damage(EITHER)
def a_constant_node_without_a_value(d: Draft) -> None:
    d.add("Constant", [], ["bad"], first=True)
    d.returns("bad")


@damage(EITHER)
def a_constant_node_with_two_values(d: Draft) -> None:
    d.add("Constant", [], ["bad"], first=True, value_float=1.0, value_int=2)
    d.returns("bad")
