"""Damage to operators: unknown ones, wrong numbers of inputs and outputs, computations without a result."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from tests.damage.bases import constant
from tests.damage.draft import EITHER, REFUSED, Draft, Skip, damage

INT64 = TensorProto.INT64


@damage(REFUSED)
def an_unknown_operator(d: Draft) -> None:
    d.node().op_type = "Frobnicate"


@damage(REFUSED)
def an_operator_with_a_typing_error(d: Draft) -> None:
    node = d.node()
    node.op_type = node.op_type.lower()


@damage(REFUSED)
def an_unknown_domain(d: Draft) -> None:
    d.node().domain = "org.unheard.of"


@damage(REFUSED)
def an_unknown_domain_that_is_imported(d: Draft) -> None:
    d.node().domain = "org.unheard.of"
    d.proto.opset_import.append(helper.make_opsetid("org.unheard.of", 1))


@damage(EITHER)
def a_domain_of_the_runtime(d: Draft) -> None:
    """It has contrib operators of some of these names, but not of all."""
    d.node().domain = "com.microsoft"
    d.proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


@damage(EITHER)
def a_training_operator(d: Draft) -> None:
    d.add("Gradient", [d.graph.input[0].name], ["grad"], domain="ai.onnx.preview.training", xs=["x"], y="y")
    d.proto.opset_import.append(helper.make_opsetid("ai.onnx.preview.training", 1))
    d.returns("grad")


@damage(REFUSED)
def too_many_inputs(d: Draft) -> None:
    node = d.node("Relu", "Conv", "Flatten", "Transpose", "MatMul", "Softmax", "Sigmoid")
    node.input.extend([d.graph.input[0].name] * 5)


@damage(REFUSED)
def too_many_outputs(d: Draft) -> None:
    d.node("Relu", "Conv", "Flatten", "Transpose", "MatMul", "Softmax", "Sigmoid").output.extend(["extra_1", "extra_2"])


@damage(EITHER)
def thousands_of_inputs(d: Draft) -> None:
    d.node("Concat", "Add", "Conv").input.extend([d.graph.input[0].name] * 5000)


@damage(REFUSED)
def a_required_input_is_missing(d: Draft) -> None:
    node = d.node("Conv", "MatMul", "Gemm", "Reshape", "BatchNormalization", "Add", "If")
    del node.input[min(1, len(node.input) - 1) :]


@damage(REFUSED)
def a_required_input_is_empty(d: Draft) -> None:
    node = d.node("Conv", "MatMul", "Gemm", "Reshape", "BatchNormalization", "Add", "If")
    node.input[min(1, len(node.input) - 1)] = ""


@damage(REFUSED)
def no_inputs(d: Draft) -> None:
    del d.one(n for n in d.graph.node if n.input and n.op_type not in ("Loop", "Concat")).input[:]


@damage(EITHER)
def a_bias_of_another_length(d: Draft) -> None:
    node = d.one(n for n in d.graph.node if n.op_type == "Conv" and len(n.input) > 2)
    node.input[2] = constant(d.proto, "long_bias", np.ones(99, np.float32))


@damage(EITHER)
def a_scalar_bias(d: Draft) -> None:
    node = d.one(n for n in d.graph.node if n.op_type == "Conv" and len(n.input) > 2)
    node.input[2] = constant(d.proto, "scalar_bias", np.float32(1))


@damage(REFUSED)
def a_weight_of_another_rank(d: Draft) -> None:
    d.node("Conv").input[1] = constant(d.proto, "flat_weight", np.ones((4, 4), np.float32))


@damage(EITHER)
def a_weight_without_channels(d: Draft) -> None:
    d.node("Conv").input[1] = constant(d.proto, "no_weight", np.ones((0, 4, 3, 3), np.float32))


def computed(d: Draft, op: str, *values: object, dtype: int = INT64, **attrs: object) -> None:
    """Return what ``op`` computes from constants: what a constant folder is tempted to compute itself."""
    names = [constant(d.proto, f"k{i}", v) for i, v in enumerate(values)]
    d.add(op, names, ["computed"], **attrs)
    d.returns("computed", dtype)


def integers(*numbers: int, dtype: object = np.int64) -> object:
    return np.array(numbers, dtype)  # type: ignore[call-overload]


@damage(EITHER, count=4)
def integer_division_by_zero(d: Draft) -> None:
    kind = d.rng.choice([np.int64, np.int32, np.int8, np.uint8])
    if kind in (np.int8, np.uint8) and d.proto.opset_import[0].version < 14:
        raise Skip
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    computed(d, "Div", integers(1, 2, dtype=kind), integers(0, 1, dtype=kind), dtype=onnx_type)


@damage(EITHER, count=4)
def remainder_of_zero(d: Draft) -> None:
    if d.proto.opset_import[0].version < 10:
        raise Skip
    kind = d.rng.choice([np.int64, np.int32])
    computed(
        d, "Mod", integers(1, 2, dtype=kind), integers(0, 1, dtype=kind), dtype=helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    )


@damage(EITHER, count=3)
def the_smallest_integer_by_minus_one(d: Draft) -> None:
    kind = d.rng.choice([np.int64, np.int32])
    low = int(np.iinfo(kind).min)
    op = "Div" if d.proto.opset_import[0].version < 10 else d.rng.choice(["Div", "Mod"])
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    computed(d, op, integers(low, dtype=kind), integers(-1, dtype=kind), dtype=onnx_type)


@damage(EITHER, count=4)
def integer_division_by_an_input_that_is_zero(d: Draft) -> None:
    """Not constant: nobody can fold it, but whoever runs it may die."""
    d.add("Sub", [d.graph.input[0].name, d.graph.input[0].name], ["nothing"])
    d.add("Cast", ["nothing"], ["zero"], to=int(INT64))
    d.add("Div", [constant(d.proto, "one", integers(1)), "zero"], ["divided"])
    d.returns("divided", INT64)


@damage(EITHER, count=3)
def gather_out_of_range(d: Draft) -> None:
    computed(d, "Gather", integers(1, 2, 3), integers(d.rng.choice([7, -9, 2**62])))


@damage(EITHER, on="conv classifier attention branches", count=4)
def scatter_out_of_range(d: Draft) -> None:
    computed(d, "ScatterElements", integers(1, 2, 3), integers(d.rng.choice([7, -9, 2**62])), integers(5))


@damage(EITHER, on="conv classifier attention branches", count=4)
def gather_nd_out_of_range(d: Draft) -> None:
    computed(d, "GatherND", np.ones((2, 2), np.int64), np.array([[d.rng.choice([5, -7, 2**62]), 0]]))


@damage(EITHER, count=4)
def reshape_to_an_impossible_size(d: Draft) -> None:
    shape = d.rng.choice([(5, 7), (-1, -1), (-1, 0), (-2, 3), (2**40, 2**40), (0, 0), (-1, 2**62)])
    computed(d, "Reshape", integers(*range(6)), integers(*shape))


@damage(EITHER, count=4)
def reshape_of_the_result_to_an_impossible_size(d: Draft) -> None:
    shape = d.rng.choice([(5, 7, 11), (-1, -1), (-2, 3), (2**40, 2**40), (-1, 13)])
    d.add("Reshape", [d.graph.output[0].name, constant(d.proto, "odd_shape", integers(*shape))], ["reshaped"])
    d.returns("reshaped", d.graph.output[0].type.tensor_type.elem_type)


@damage(EITHER, on="conv classifier attention branches functions", count=4)
def slice_with_step_zero(d: Draft) -> None:
    computed(d, "Slice", integers(1, 2, 3), integers(0), integers(3), integers(0), integers(0))


@damage(EITHER, on="conv classifier attention branches functions", count=4)
def slice_with_extreme_bounds(d: Draft) -> None:
    low, high = -(2**63), 2**63 - 1
    step = d.rng.choice([low, high, -1])
    computed(d, "Slice", integers(1, 2, 3), integers(high), integers(low), integers(0), integers(step))


@damage(EITHER, on="conv classifier attention branches functions", count=2)
def range_with_step_zero(d: Draft) -> None:
    computed(d, "Range", np.int64(0), np.int64(5), np.int64(0))


@damage(EITHER, on="conv classifier attention branches functions", count=4)
def split_into_impossible_parts(d: Draft) -> None:
    computed(d, "Split", integers(1, 2, 3), integers(*d.rng.choice([(5,), (-1, 4), (2, 2), (0,)])))


@damage(EITHER, on="conv classifier attention", count=2)
def one_hot_with_a_negative_depth(d: Draft) -> None:
    computed(d, "OneHot", integers(0, 1), np.int64(-5), integers(0, 1))


@damage(EITHER, on="conv classifier attention", count=2)
def top_k_of_more_than_there_are(d: Draft) -> None:
    names = [constant(d.proto, "k0", np.ones(3, np.float32)), constant(d.proto, "k1", integers(d.rng.choice([9, -1])))]
    d.add("TopK", names, ["computed", "indices"])
    d.returns("computed")


@damage(EITHER, on="conv attention", count=3)
def einsum_without_sense(d: Draft) -> None:
    ones = np.ones((2, 2), np.float32)
    computed(d, "Einsum", ones, ones, dtype=TensorProto.FLOAT, equation=d.rng.choice(["ij,jk->", "ijk,jk->q", ",->", "((((", "…"]))


@damage(EITHER, on="conv attention", count=3)
def shifts_by_more_than_the_width(d: Draft) -> None:
    kind = np.uint32
    computed(
        d,
        "BitShift",
        integers(1, dtype=kind),
        integers(99, dtype=kind),
        dtype=TensorProto.UINT32,
        direction=d.rng.choice(["LEFT", "RIGHT", "UP"]),
    )


@damage(EITHER, on="conv classifier attention", count=2)
def a_float_that_no_integer_holds(d: Draft) -> None:
    computed(d, "Cast", np.array([np.nan, np.inf, 1e30, -1e30], np.float32), to=int(INT64))


@damage(EITHER, on="conv attention", count=2)
def text_that_is_no_number(d: Draft) -> None:
    d.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"1.5", b"\xff\xfe not a number"]))
    d.add("Cast", ["words"], ["computed"], to=int(TensorProto.FLOAT))
    d.returns("computed")


@damage(EITHER, count=4)
def integers_that_wrap(d: Draft) -> None:
    computed(d, "Add", integers(2**63 - 1, dtype=np.int64), integers(1, dtype=np.int64))


@damage(EITHER, count=3)
def depth_to_space_by_zero(d: Draft) -> None:
    d.add("DepthToSpace", [d.graph.output[0].name], ["moved"], blocksize=0)
    d.returns("moved")


@damage(EITHER, on="conv classifier", count=3)
def resize_by_nonsense(d: Draft) -> None:
    scale = d.rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e-30])
    scales = constant(d.proto, "scales", np.array([1, 1, scale, 1], np.float32))
    d.add("Resize", [d.graph.input[0].name, "", scales], ["resized"], mode="nearest")
    d.returns("resized")


@damage(EITHER, on="conv", count=2)
def a_recurrent_net_of_the_wrong_size(d: Draft) -> None:
    names = [constant(d.proto, f"k{i}", np.ones(s, np.float32)) for i, s in enumerate([(1, 1, 2), (1, 8, 3), (1, 8, 5)])]
    d.add("LSTM", names, ["computed"], hidden_size=d.rng.choice([2, -2]))
    d.returns("computed")
