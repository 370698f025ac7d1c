"""Damage to the numbers: what is stored is a number, but not one that makes sense."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper

from tests.damage.draft import EITHER, KEPT, Draft, Skip, damage, set_attribute
from tests.nets import Array

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def change(tensor: TensorProto, value: Array) -> None:
    """Put another value of the same shape and type in a tensor's place."""
    if tensor.external_data:
        raise Skip
    array = np.asarray(value).astype(numpy_helper.to_array(tensor).dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def some_floats(d: Draft) -> tuple[TensorProto, Array]:
    tensor = d.one(t for t in d.graph.initializer if t.data_type in _FLOATS and len(t.dims) >= 1 and not t.external_data)
    return tensor, np.array(numpy_helper.to_array(tensor))


def spoil(d: Draft, number: float, share: float = 0.2) -> None:
    tensor, value = some_floats(d)
    flat = value.reshape(-1)
    for index in range(max(1, int(share * flat.size))):
        flat[d.rng.randrange(flat.size) if index else 0] = number
    change(tensor, value)


@damage(EITHER, count=6)
def nan_weights(d: Draft) -> None:
    spoil(d, np.nan)


@damage(EITHER, count=6)
def infinite_weights(d: Draft) -> None:
    spoil(d, np.inf)


@damage(EITHER)
def both_infinities(d: Draft) -> None:
    spoil(d, np.inf)
    spoil(d, -np.inf)


@damage(EITHER, on="conv classifier listed opset9 attention functions")
def enormous_weights(d: Draft) -> None:
    spoil(d, 3e38)


@damage(EITHER)
def denormal_weights(d: Draft) -> None:
    spoil(d, 1e-42 if d.graph.input[0].type.tensor_type.elem_type != TensorProto.FLOAT16 else 6e-8, 1.0)


@damage(EITHER)
def all_weights_zero(d: Draft) -> None:
    tensor, value = some_floats(d)
    change(tensor, np.zeros_like(value))


@damage(KEPT, on="conv classifier attention", count=3)
def negative_zeros(d: Draft) -> None:
    tensor, value = some_floats(d)
    change(tensor, np.where(value > 0.9, -0.0, value))


def batch_norm(d: Draft, index: int, numbers: list[float]) -> None:
    tensor = d.weight_of(d.node("BatchNormalization"), index)
    if tensor.external_data:
        raise Skip
    value = np.array(numpy_helper.to_array(tensor))
    value[: len(numbers)] = numbers[: value.size]
    change(tensor, value)


@damage(EITHER, on="conv listed opset9")
def negative_variances(d: Draft) -> None:
    batch_norm(d, 4, [-1.0, -2.0])


@damage(EITHER, on="conv listed opset9")
def zero_variances(d: Draft) -> None:
    batch_norm(d, 4, [0.0, 0.0])


@damage(EITHER, on="conv listed opset9")
def zero_variances_and_epsilon(d: Draft) -> None:
    batch_norm(d, 4, [0.0, 0.0])
    for node in d.graph.node:
        if node.op_type == "BatchNormalization":
            set_attribute(node, "epsilon", 0.0)


@damage(EITHER, on="conv listed opset9")
def nan_variances(d: Draft) -> None:
    batch_norm(d, 4, [float("nan")])


@damage(EITHER, on="conv listed opset9")
def infinite_means(d: Draft) -> None:
    batch_norm(d, 3, [float("inf"), -float("inf")])


@damage(EITHER, on="conv listed opset9 attention")
def epsilon_negative(d: Draft) -> None:
    set_attribute(d.node("BatchNormalization", "LayerNormalization"), "epsilon", -1.0)


@damage(EITHER, on="conv listed opset9 attention")
def epsilon_nan(d: Draft) -> None:
    set_attribute(d.node("BatchNormalization", "LayerNormalization"), "epsilon", float("nan"))


def quantizer(d: Draft, index: int) -> TensorProto:
    return d.weight_of(d.node("QuantizeLinear", "DequantizeLinear"), index)


@damage(EITHER, on="quantized")
def a_scale_of_zero(d: Draft) -> None:
    tensor = quantizer(d, 1)
    change(tensor, np.zeros(tuple(tensor.dims)))


@damage(EITHER, on="quantized")
def a_negative_scale(d: Draft) -> None:
    tensor = quantizer(d, 1)
    change(tensor, -numpy_helper.to_array(tensor))


@damage(EITHER, on="quantized")
def a_scale_that_is_nan(d: Draft) -> None:
    tensor = quantizer(d, 1)
    change(tensor, np.full(tuple(tensor.dims), np.nan))


@damage(EITHER, on="quantized")
def an_infinite_scale(d: Draft) -> None:
    tensor = quantizer(d, 1)
    change(tensor, np.full(tuple(tensor.dims), np.inf))


@damage(EITHER, on="quantized")
def a_zero_point_of_another_type(d: Draft) -> None:
    tensor = quantizer(d, 2)
    array = numpy_helper.to_array(tensor)
    other = np.int8 if array.dtype == np.uint8 else np.uint8
    tensor.CopyFrom(numpy_helper.from_array(array.astype(other), tensor.name))


@damage(EITHER, on="quantized")
def a_zero_point_that_is_no_integer(d: Draft) -> None:
    tensor = quantizer(d, 2)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


@damage(EITHER, on="quantized")
def a_zero_point_of_another_shape(d: Draft) -> None:
    tensor = quantizer(d, 2)
    tensor.CopyFrom(numpy_helper.from_array(np.zeros((2, 3), numpy_helper.to_array(tensor).dtype), tensor.name))


@damage(EITHER, on="quantized")
def too_few_scales(d: Draft) -> None:
    tensor = d.one(t for t in d.graph.initializer if t.name == "w_scale")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:-1], tensor.name))


def integers(d: Draft) -> tuple[TensorProto, Array]:
    tensor = d.one(t for t in d.graph.initializer if t.data_type == TensorProto.INT64 and not t.external_data)
    return tensor, np.array(numpy_helper.to_array(tensor))


@damage(EITHER, on="attention branches", count=12)
def an_integer_constant_out_of_its_senses(d: Draft) -> None:
    """Shapes, indices, trip counts, slice ends: one of them becomes something else."""
    tensor, value = integers(d)
    value.reshape(-1)[d.rng.randrange(value.size)] = d.rng.choice([0, -1, -2, 7, 10**6, -(2**63), 2**63 - 1, 2**31, -(2**31)])
    change(tensor, value)


@damage(EITHER, on="attention", count=2)
def division_by_a_stored_zero(d: Draft) -> None:
    change(d.one(t for t in d.graph.initializer if t.name == "two"), np.array([0]))


@damage(EITHER, on="attention", count=4)
def gather_indices_out_of_range(d: Draft) -> None:
    change(d.one(t for t in d.graph.initializer if t.name == "picked"), np.array([d.rng.choice([99, -99, 2**40, -(2**63)]), 0]))


@damage(EITHER, on="opset9", count=4)
def upsample_by_nonsense(d: Draft) -> None:
    change(d.one(t for t in d.graph.initializer if t.name == "scales"), np.array([1, 1, d.rng.choice([0, -2, np.nan, np.inf]), 2]))
