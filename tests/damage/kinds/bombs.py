"""Small files that ask for gigabytes, or for more steps than there is time."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tests.damage.bases import constant
from tests.damage.draft import EITHER, Draft, Skip, damage

SOME = "conv classifier branches functions attention"


def result(d: Draft, name: str, dtype: int = TensorProto.FLOAT) -> None:
    """Let the graph return the sum of a tensor: only the sum is small."""
    d.add("ReduceSum", [name], ["total"], keepdims=0)
    d.returns("total", dtype, [])


def ints(d: Draft, name: str, *numbers: int) -> str:
    return constant(d.proto, name, np.array(numbers, np.int64))


@damage(EITHER, on=SOME, count=3)
def constant_of_8_gib(d: Draft) -> None:
    d.add("ConstantOfShape", [ints(d, "size", 2, 2**30)], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=2)
def constant_of_a_petabyte(d: Draft) -> None:
    d.add("ConstantOfShape", [ints(d, "size", 2**20, 2**28)], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=2)
def constant_whose_size_overflows(d: Draft) -> None:
    d.add("ConstantOfShape", [ints(d, "size", 2**33, 2**33)], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=2)
def constant_of_a_negative_size(d: Draft) -> None:
    d.add("ConstantOfShape", [ints(d, "size", -4)], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=3)
def expand_to_8_gib(d: Draft) -> None:
    d.add("Expand", [constant(d.proto, "one", np.ones(1, np.float32)), ints(d, "size", 2, 2**30)], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=3)
def tile_to_8_gib(d: Draft) -> None:
    d.add("Tile", [constant(d.proto, "one", np.ones(2, np.float32)), ints(d, "times", 2**30)], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=3)
def range_of_8_gib(d: Draft) -> None:
    d.add("Range", [constant(d.proto, n, np.int64(v)) for n, v in (("start", 0), ("limit", 2**30), ("delta", 1))], ["vast"])
    result(d, "vast", TensorProto.INT64)


@damage(EITHER, on="conv attention", count=2)
def range_with_a_tiny_step(d: Draft) -> None:
    d.add("Range", [constant(d.proto, n, np.float64(v)) for n, v in (("start", 0), ("limit", 1), ("delta", 1e-300))], ["vast"])
    result(d, "vast", TensorProto.DOUBLE)


@damage(EITHER, on=SOME, count=3)
def resize_to_8_gib(d: Draft) -> None:
    image = constant(d.proto, "image", np.ones((1, 1, 2, 2), np.float32))
    sizes = ints(d, "sizes", 1, 1, 2**15, 2**16)
    d.add("Resize", [image, "", "", sizes], ["vast"], mode="nearest")
    result(d, "vast")


@damage(EITHER, on=SOME, count=3)
def pad_to_8_gib(d: Draft) -> None:
    d.add("Pad", [constant(d.proto, "one", np.ones(1, np.float32)), ints(d, "pads", 0, 2**31)], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=3)
def one_hot_of_8_gib(d: Draft) -> None:
    indices, depth = ints(d, "indices", 0, 1), constant(d.proto, "depth", np.int64(2**30))
    d.add("OneHot", [indices, depth, constant(d.proto, "values", np.array([0, 1], np.float32))], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=3)
def an_outer_product_of_16_gib(d: Draft) -> None:
    for name, shape in (("column", [2**16, 1]), ("row", [1, 2**16])):
        d.add("ConstantOfShape", [ints(d, f"{name}_size", *shape)], [name])
    d.add("MatMul", ["column", "row"], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=2)
def a_broadcast_of_16_gib(d: Draft) -> None:
    for name, shape in (("column", [2**16, 1]), ("row", [1, 2**16])):
        d.add("ConstantOfShape", [ints(d, f"{name}_size", *shape)], [name])
    d.add("Add", ["column", "row"], ["vast"])
    result(d, "vast")


@damage(EITHER, on=SOME, count=3)
def concats_that_double(d: Draft) -> None:
    """Thirty-two steps: x, (x, x), ((x, x), (x, x)) ..."""
    name = ints(d, "seed", 1)
    for step in range(32):
        d.add("Concat", [name, name], [f"twice{step}"], axis=0)
        name = f"twice{step}"
    result(d, name, TensorProto.INT64)


@damage(EITHER, on=SOME, count=3)
def adds_that_branch(d: Draft) -> None:
    """Forty steps x + x: as a tree, a million million nodes."""
    name = d.graph.output[0].name
    for step in range(40):
        d.add("Add", [name, name], [f"sum{step}"])
        name = f"sum{step}"
    d.returns(name)


@damage(EITHER, on="conv functions attention", count=3)
def an_expansion_of_the_input(d: Draft) -> None:
    """Not constant: 8 GiB each time the model is run."""
    d.add("ReduceSum", [d.graph.input[0].name], ["sum"], keepdims=0)
    d.add("Expand", ["sum", ints(d, "size", 2, 2**30)], ["vast"])
    result(d, "vast")


@damage(EITHER, on="conv functions attention", count=2)
def eye_of_16_gib(d: Draft) -> None:
    d.add("ConstantOfShape", [ints(d, "size", 2**16, 2**16)], ["vast"])
    d.add("EyeLike", ["vast"], ["eye"])
    result(d, "eye")


@damage(EITHER, on="conv functions", count=2)
def non_zero_of_gigabytes(d: Draft) -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    d.add("ConstantOfShape", [ints(d, "size", 2**28)], ["vast"], value=value)
    d.add("NonZero", ["vast"], ["places"])
    result(d, "places", TensorProto.INT64)


@damage(EITHER, on="conv functions", count=2)
def cumulative_powers(d: Draft) -> None:
    """A square matrix of 8,192 multiplied thirty times: 16 million million multiplications from a file of 2 KB."""
    d.add("ConstantOfShape", [ints(d, "size", 2**13, 2**13)], ["power0"])
    for step in range(30):
        d.add("MatMul", [f"power{step}", f"power{step}"], [f"power{step + 1}"])
    result(d, "power30")


def loop(d: Draft, trips: int) -> None:
    node = d.node("Loop")
    for tensor in d.graph.initializer:
        if tensor.name == node.input[0]:
            d.graph.initializer.remove(tensor)
            break
    d.graph.initializer.append(helper.make_tensor(node.input[0], TensorProto.INT64, [1], [trips]))


@damage(EITHER, on="branches", count=2)
def a_loop_of_2_to_the_62_steps(d: Draft) -> None:
    loop(d, 2**62)


@damage(EITHER, on="branches", count=2)
def a_loop_of_negative_steps(d: Draft) -> None:
    loop(d, -5)


@damage(EITHER, on="branches", count=2)
def a_loop_without_a_bound(d: Draft) -> None:
    node = d.node("Loop")
    node.input[0] = ""


@damage(EITHER, on="branches", count=2)
def a_loop_that_collects(d: Draft) -> None:
    """A scan output grows with each of a thousand million steps."""
    loop(d, 10**9)
    node = d.node("Loop")
    graph = next(a.g for a in node.attribute)
    graph.node.append(helper.make_node("Identity", ["s_out"], ["collected"]))
    graph.output.append(helper.make_tensor_value_info("collected", TensorProto.FLOAT, [1, 4]))
    node.output.append("all")
    d.returns("all")


@damage(EITHER, on="branches", count=2)
def loops_within_loops(d: Draft) -> None:
    """Six of a thousand steps each."""
    node = d.node("Loop")
    if not node.name:
        node.name = "outer"
    inner = next(a.g for a in node.attribute)
    for level in range(5):
        body = helper.make_graph(
            [
                helper.make_node("Identity", [f"c{level}"], [f"co{level}"]),
                helper.make_node("Add", [f"s{level}", f"s{level}"], [f"so{level}"]),
            ],
            f"level{level}",
            [
                helper.make_tensor_value_info(f"i{level}", TensorProto.INT64, []),
                helper.make_tensor_value_info(f"c{level}", TensorProto.BOOL, []),
                helper.make_tensor_value_info(f"s{level}", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info(f"co{level}", TensorProto.BOOL, []),
                helper.make_tensor_value_info(f"so{level}", TensorProto.FLOAT, None),
            ],
        )
        source = inner.node[-1].input[0]
        made = helper.make_node("Loop", ["trips", "go", source], [f"l{level}"], body=body)
        last = inner.node[-1]
        last.input[0] = f"l{level}"
        inner.node.insert(len(inner.node) - 1, made)
        inner = next(a.g for n in inner.node if n.op_type == "Loop" for a in n.attribute)
    loop(d, 1000)


@damage(EITHER, on="conv", count=2)
def a_gigabyte_of_declared_weights(d: Draft) -> None:
    """A weight of which the file holds nothing."""
    d.graph.initializer.append(TensorProto(name="vast", data_type=TensorProto.FLOAT, dims=[2**28]))
    result(d, "vast")


@damage(EITHER, on="conv", count=2)
def a_table_of_booleans_for_where(d: Draft) -> None:
    if d.proto.opset_import[0].version < 9:
        raise Skip
    d.add("ConstantOfShape", [ints(d, "size", 2**16, 2**16)], ["table"], value=helper.make_tensor("v", TensorProto.BOOL, [1], [1]))
    d.add("Where", ["table", constant(d.proto, "a", np.float32(1)), constant(d.proto, "b", np.float32(2))], ["vast"])
    result(d, "vast")
