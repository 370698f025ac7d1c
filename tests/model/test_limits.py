"""Tensors that lie about themselves, and models of extreme shape: an error with a code, or they are read, in linear time."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from graphopt.errors import ModelError
from graphopt.model import Model
from graphopt.model.source import DEEPEST

INT8, FLOAT, STRING = TensorProto.INT8, TensorProto.FLOAT, TensorProto.STRING


def with_tensor(tensor: TensorProto | None = None, sparse: onnx.SparseTensorProto | None = None) -> onnx.ModelProto:
    """A model with one more initializer, which nothing reads."""
    x, y = (helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    graph.initializer.extend([tensor] if tensor is not None else [])
    graph.sparse_initializer.extend([sparse] if sparse is not None else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def tensor(**fields: object) -> TensorProto:
    return TensorProto(name="t", **fields)  # type: ignore[arg-type]


DENSE: dict[str, TensorProto] = {
    "two storages": tensor(data_type=FLOAT, dims=[1], raw_data=b"1234", float_data=[1]),
    "two typed storages": tensor(data_type=FLOAT, dims=[1], float_data=[1], int64_data=[1]),
    "a segment": tensor(data_type=FLOAT, dims=[1], float_data=[1], segment=TensorProto.Segment(begin=0, end=1)),
    "product of dimensions overflows": tensor(data_type=FLOAT, dims=[2**62, 2**62], raw_data=b"1234"),
    "product overflows to zero": tensor(data_type=FLOAT, dims=[2**32, 2**32], raw_data=b""),
    "overflow beside a zero": tensor(data_type=FLOAT, dims=[0, 2**62, 2**62]),
    "negative dimension": tensor(data_type=FLOAT, dims=[-1], raw_data=b"1234"),
    "huge and empty": tensor(data_type=FLOAT, dims=[2**40]),
    "int8 out of range": tensor(data_type=INT8, dims=[1], int32_data=[300]),
    "uint8 negative": tensor(data_type=TensorProto.UINT8, dims=[1], int32_data=[-1]),
    "float16 bits out of range": tensor(data_type=TensorProto.FLOAT16, dims=[1], int32_data=[2**20]),
    "bool that is neither": tensor(data_type=TensorProto.BOOL, dims=[1], int32_data=[7]),
    "uint32 out of range": tensor(data_type=TensorProto.UINT32, dims=[1], uint64_data=[2**40]),
    "strings in a float tensor": tensor(data_type=FLOAT, dims=[1], string_data=[b"a"]),
    "floats in a string tensor": tensor(data_type=STRING, dims=[1], float_data=[1]),
    "bytes in a string tensor": tensor(data_type=STRING, dims=[1], raw_data=b"a"),
    "too few strings": tensor(data_type=STRING, dims=[2], string_data=[b"a"]),
    "too many values": tensor(data_type=FLOAT, dims=[1], float_data=[1, 2]),
    "too many bytes": tensor(data_type=FLOAT, dims=[1], raw_data=b"12345678"),
    "half a four-bit byte missing": tensor(data_type=TensorProto.INT4, dims=[3], raw_data=b"1"),
    "odd number of floats for complex": tensor(data_type=TensorProto.COMPLEX64, dims=[1], float_data=[1]),
}


@pytest.mark.parametrize("name", DENSE)
def test_a_tensor_that_lies_is_refused(name: str) -> None:
    attribute = AttributeProto(name="value", type=AttributeProto.TENSOR, t=DENSE[name])
    in_node = with_tensor()
    in_node.graph.node.insert(0, onnx.NodeProto(op_type="Constant", output=["t"], attribute=[attribute]))
    for proto in (with_tensor(DENSE[name]), in_node):
        with pytest.raises(ModelError) as caught:
            Model.load(proto)
        assert caught.value.diagnostic.code == "GO011"


def sparse(dims: list[int], indices: object, values: object = (1.0,)) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(
        dims=dims,
        values=numpy_helper.from_array(np.asarray(values, np.float32), "s"),
        indices=numpy_helper.from_array(np.asarray(indices, np.int64), "i"),
    )


def _wrong_indices_type() -> onnx.SparseTensorProto:
    made = sparse([4], [1])
    made.indices.CopyFrom(numpy_helper.from_array(np.asarray([1], np.int32)))
    return made


SPARSE: dict[str, tuple[Callable[[], onnx.SparseTensorProto], str]] = {
    "negative index": (lambda: sparse([4], [-1]), "GO011"),
    "index out of range": (lambda: sparse([4], [4]), "GO011"),
    "coordinate out of range": (lambda: sparse([4, 4], [[1, 4]]), "GO011"),
    "coordinates of another rank": (lambda: sparse([4, 4], [[1, 1, 1]]), "GO011"),
    "more indices than values": (lambda: sparse([4], [1, 2]), "GO011"),
    "an index twice": (lambda: sparse([4], [1, 1], [1, 2]), "GO011"),
    "unsorted": (lambda: sparse([4], [2, 1], [1, 2]), "GO011"),
    "values of rank 2": (lambda: sparse([4], [1], [[1]]), "GO011"),
    "indices of another type": (_wrong_indices_type, "GO011"),
    "a bomb": (lambda: sparse([2**20, 2**20], [1]), "GO018"),
    "an overflow": (lambda: sparse([2**62, 2**62], [1]), "GO011"),
    "negative dimension": (lambda: sparse([-4], [1]), "GO011"),
}


@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_tensor_that_lies_is_refused_without_writing_it_out(name: str) -> None:
    make, code = SPARSE[name]
    proto = with_tensor(sparse=make())
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as caught:
            Model.load(proto)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.diagnostic.code == code


@pytest.mark.parametrize("indices", [[1, 6], [[0, 1], [1, 2]]])
def test_a_sound_sparse_tensor_is_read(indices: object) -> None:
    model = Model.load(with_tensor(sparse=sparse([2, 4], indices, [1, 2])))
    expected = np.zeros((2, 4), np.float32)
    expected[0, 1], expected[1, 2] = 1, 2
    np.testing.assert_array_equal(model.constants()["s"]._values.array(), expected)


def deep(levels: int) -> onnx.ModelProto:
    """If in If in If ..., built from the outside in: protobuf cannot copy what is too deep."""
    proto = onnx.ModelProto(ir_version=9, opset_import=[helper.make_opsetid("", 17)])
    graph = proto.graph
    graph.input.extend([helper.make_tensor_value_info("x", 1, [1]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])])
    for level in range(levels - 1, -1, -1):
        graph.name = f"g{level}"
        graph.output.append(helper.make_tensor_value_info(f"o{level}", 1, [1]))
        if level == 0:
            graph.node.append(helper.make_node("Identity", ["x"], ["o0"]))
            break
        node = graph.node.add(op_type="If", input=["c"], output=[f"o{level}"])
        then, other = (node.attribute.add(name=name, type=AttributeProto.GRAPH) for name in ("then_branch", "else_branch"))
        flat = helper.make_node("Identity", ["x"], [f"e{level}"])
        other.g.CopyFrom(helper.make_graph([flat], "e", [], [helper.make_tensor_value_info(f"e{level}", 1, [1])]))
        graph = then.g
    return proto


def nested_bytes(levels: int) -> bytes:
    """The same from the inside out, since protobuf cannot build it."""
    from tests.model.test_wire import field

    graph = helper.make_graph([], "inner", [], []).SerializeToString()
    for _ in range(levels - 1):
        attribute = AttributeProto(name="then_branch", type=AttributeProto.GRAPH).SerializeToString() + field(6, graph)
        graph = field(1, onnx.NodeProto(op_type="If", output=["o"]).SerializeToString() + field(5, attribute))
    return onnx.ModelProto(ir_version=9, opset_import=[helper.make_opsetid("", 17)]).SerializeToString() + field(7, graph)


def test_nesting_up_to_the_limit_works() -> None:
    proto = deep(DEEPEST)
    model = Model.load(proto)
    assert model.copy().proto() == proto
    assert Model.load(proto.SerializeToString()).proto() == proto


@pytest.mark.parametrize("levels", [DEEPEST + 1, 34, 60])
def test_nesting_beyond_it_is_refused(levels: int) -> None:
    with pytest.raises(ModelError) as caught:
        Model.load(deep(levels))
    assert caught.value.diagnostic.code == "GO016"


@pytest.mark.parametrize("levels", [DEEPEST + 1, 200, 1000, 5000])
def test_nesting_beyond_it_is_refused_in_a_file_too(levels: int) -> None:
    with pytest.raises(ModelError) as caught:
        Model.load(nested_bytes(levels))
    assert caught.value.diagnostic.code == "GO016"


@pytest.mark.parametrize("old", [b"operator", b"argument", b"theinput", b"a_weight", b"the_size"])
def test_a_name_that_is_no_utf8_is_refused(old: bytes) -> None:
    x, y = helper.make_tensor_value_info("theinput", 1, ["the_size"]), helper.make_tensor_value_info("y", 1, None)
    node = helper.make_node("operator", ["theinput", "a_weight"], ["y"], domain="org", argument=1)
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(np.ones(1, np.float32), "a_weight")])
    raw = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    assert old in raw
    with pytest.raises(ModelError) as caught:
        Model.load(raw.replace(old, old[:-1] + b"\xff"))
    assert caught.value.diagnostic.code == "GO008"


def test_a_cycle_through_a_body_is_refused() -> None:
    body = helper.make_graph([helper.make_node("Identity", ["b"], ["r"])], "body", [], [helper.make_tensor_value_info("r", 1, [1])])
    nodes = [helper.make_node("If", ["c"], ["a"], then_branch=body, else_branch=body), helper.make_node("Relu", ["a"], ["b"])]
    inputs, outputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, [])], [helper.make_tensor_value_info("b", 1, [1])]
    proto = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(ModelError) as caught:
        Model.load(proto)
    assert caught.value.diagnostic.code == "GO003"


def test_a_skeleton_has_no_large_constants_anywhere() -> None:
    big = np.ones((64, 64), np.float32)
    proto = deep(2)
    body = proto.graph.node[0].attribute[0].g
    body.initializer.append(numpy_helper.from_array(big, "inner"))
    body.node[0].CopyFrom(helper.make_node("MatMul", ["inner", "inner"], ["o0"]))
    proto.graph.node.append(helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(big, "k")))
    for output in (proto.graph.output[0], body.output[0]):
        output.CopyFrom(helper.make_tensor_value_info(output.name, 1, ["rows", "columns"]))
    skeleton = Model.load(proto).skeleton()
    assert skeleton.ByteSize() < 2000
    onnx.checker.check_model(skeleton)
    inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    assert shapes["k"] == [64, 64]


def chain(count: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(count)]
    x, y = helper.make_tensor_value_info("t0", 1, [4]), helper.make_tensor_value_info(f"t{count}", 1, [4])
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def many_initializers(count: int) -> onnx.ModelProto:
    proto = chain(1)
    one = numpy_helper.from_array(np.ones(2, np.float32))
    for index in range(count):
        proto.graph.initializer.add().CopyFrom(one)
        proto.graph.initializer[-1].name = f"w{index}"
    return proto


def many_bodies(count: int) -> onnx.ModelProto:
    proto = chain(count)
    other = deep(2)
    proto.graph.input.append(other.graph.input[1])
    for index in range(count):
        node = proto.graph.node.add()
        node.CopyFrom(other.graph.node[0])
        node.output[0] = f"y{index}"
        for body, name in zip((a.g for a in node.attribute), "ab", strict=True):
            body.node[0].input[0] = "t0"
            body.node[0].output[0] = body.output[0].name = f"{name}{index}"
    return proto


@pytest.mark.parametrize(("make", "count"), [(chain, 1000), (many_initializers, 2000), (many_bodies, 100)])
def test_time_grows_with_the_size_and_not_faster(make: Callable[[int], onnx.ModelProto], count: int) -> None:
    def cost(size: int) -> float:
        gc.collect()  # what it takes time for is everything in the process, of other tests too
        gc.freeze()
        raw = make(size).SerializeToString()
        best = float("inf")
        for _ in range(12):
            start = time.process_time()
            model = Model.load(raw).copy()
            model.sort()
            model.sweep()
            model.proto()
            best = min(best, time.process_time() - start)
        return best

    assert cost(5 * count) < 5 * 2.5 * cost(count)
    gc.unfreeze()
