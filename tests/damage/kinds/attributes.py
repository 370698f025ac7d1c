"""Damage to attributes: values out of their range, of the wrong type, missing, contradicting the weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.damage.draft import EITHER, REFUSED, Draft, Skip, damage, drop_attribute, set_attribute


def conv(d: Draft) -> onnx.NodeProto:
    return d.node("Conv")


@damage(REFUSED)
def stride_zero(d: Draft) -> None:
    set_attribute(conv(d), "strides", [0, 0])


@damage(REFUSED)
def stride_negative(d: Draft) -> None:
    set_attribute(conv(d), "strides", [-1, -1])


@damage(EITHER)
def stride_huge(d: Draft) -> None:
    set_attribute(conv(d), "strides", [2**40, 2**40])


@damage(EITHER)
def strides_of_another_rank(d: Draft) -> None:
    set_attribute(conv(d), "strides", [1])


@damage(EITHER)
def strides_empty(d: Draft) -> None:
    node = conv(d)
    set_attribute(node, "strides", [1])
    node.attribute[-1].ClearField("ints")


@damage(REFUSED)
def pool_stride_zero(d: Draft) -> None:
    set_attribute(d.node("MaxPool"), "strides", [0, 0])


@damage(REFUSED)
def pool_kernel_zero(d: Draft) -> None:
    set_attribute(d.node("MaxPool"), "kernel_shape", [0, 0])


@damage(REFUSED)
def pool_kernel_negative(d: Draft) -> None:
    set_attribute(d.node("MaxPool"), "kernel_shape", [-2, 2])


@damage(EITHER)
def pool_pads_wider_than_the_kernel(d: Draft) -> None:
    set_attribute(d.node("MaxPool"), "pads", [9, 9, 9, 9])


@damage(REFUSED)
def group_zero(d: Draft) -> None:
    set_attribute(conv(d), "group", 0)


@damage(REFUSED)
def group_negative(d: Draft) -> None:
    set_attribute(conv(d), "group", -1)


@damage(REFUSED)
def group_that_does_not_divide(d: Draft) -> None:
    set_attribute(conv(d), "group", 7)


@damage(REFUSED)
def group_huge(d: Draft) -> None:
    set_attribute(conv(d), "group", 2**62)


@damage(REFUSED)
def dilation_zero(d: Draft) -> None:
    set_attribute(conv(d), "dilations", [0, 0])


@damage(EITHER)
def dilation_negative(d: Draft) -> None:
    set_attribute(conv(d), "dilations", [-1, -1])


@damage(EITHER)
def dilation_huge(d: Draft) -> None:
    set_attribute(conv(d), "dilations", [2**31, 2**31])


@damage(EITHER)
def pads_negative(d: Draft) -> None:
    set_attribute(conv(d), "pads", [-1, -1, -1, -1])


@damage(EITHER)
def pads_more_negative_than_the_image(d: Draft) -> None:
    set_attribute(conv(d), "pads", [-50, -50, -50, -50])


@damage(EITHER)
def pads_huge(d: Draft) -> None:
    set_attribute(conv(d), "pads", [2**40] * 4)


@damage(EITHER)
def pads_of_gigabytes(d: Draft) -> None:
    set_attribute(conv(d), "pads", [40000] * 4)


@damage(EITHER)
def pads_of_another_rank(d: Draft) -> None:
    set_attribute(conv(d), "pads", [1, 1])


@damage(EITHER)
def pads_and_auto_pad(d: Draft) -> None:
    node = conv(d)
    set_attribute(node, "pads", [1, 1, 1, 1])
    set_attribute(node, "auto_pad", "SAME_UPPER")


@damage(EITHER)
def auto_pad_unknown(d: Draft) -> None:
    set_attribute(conv(d), "auto_pad", "SIDEWAYS")


@damage(REFUSED)
def kernel_shape_that_contradicts_the_weight(d: Draft) -> None:
    set_attribute(conv(d), "kernel_shape", [5, 5])


@damage(EITHER)
def kernel_shape_of_another_rank(d: Draft) -> None:
    set_attribute(conv(d), "kernel_shape", [3])


@damage(EITHER)
def kernel_shape_zero(d: Draft) -> None:
    set_attribute(conv(d), "kernel_shape", [0, 0])


@damage(REFUSED)
def axis_out_of_range(d: Draft) -> None:
    set_attribute(d.node("Softmax", "Flatten", "Concat", "Gather"), "axis", d.rng.choice([9, -9, 2**40]))


@damage(EITHER, on="attention opset9")
def axes_out_of_range(d: Draft) -> None:
    set_attribute(d.node("ReduceMean", "Squeeze", "Unsqueeze", "Slice"), "axes", [d.rng.choice([9, -9, 2**40])])


@damage(EITHER, on="attention opset9")
def axes_twice(d: Draft) -> None:
    set_attribute(d.node("ReduceMean", "Squeeze", "Unsqueeze", "Slice"), "axes", [1, 1])


def transpose(d: Draft, perm: list[int]) -> None:
    set_attribute(d.node("Transpose"), "perm", perm)


@damage(REFUSED, on="attention", count=2)
def perm_with_an_axis_twice(d: Draft) -> None:
    transpose(d, [0, 1, 1, 3])


@damage(REFUSED, on="attention", count=2)
def perm_out_of_range(d: Draft) -> None:
    transpose(d, [0, 1, 2, 9])


@damage(REFUSED, on="attention", count=2)
def perm_negative(d: Draft) -> None:
    transpose(d, [0, 1, 2, -1])


@damage(REFUSED, on="attention", count=2)
def perm_too_short(d: Draft) -> None:
    transpose(d, [1, 0])


def replace(d: Draft, kind: int) -> None:
    """One attribute of a node gets a value of another type."""
    node = d.one(n for n in d.graph.node if n.attribute and all(a.type != AttributeProto.GRAPH for a in n.attribute))
    attribute = d.one(node.attribute)
    old = attribute.type
    if old == kind:
        raise Skip
    name = attribute.name
    attribute.Clear()
    attribute.name, attribute.type = name, kind
    match kind:
        case AttributeProto.STRING:
            attribute.s = b"text"
        case AttributeProto.FLOAT:
            attribute.f = 1.5
        case AttributeProto.INT:
            attribute.i = 1
        case AttributeProto.FLOATS:
            attribute.floats.extend([1.0, 1.0])
        case AttributeProto.STRINGS:
            attribute.strings.extend([b"a", b"b"])
        case AttributeProto.TENSOR:
            attribute.t.CopyFrom(numpy_helper.from_array(np.ones(2, np.int64), "t"))
        case AttributeProto.GRAPH:
            attribute.g.CopyFrom(helper.make_graph([], "g", [], []))


def _wrong(kind: str) -> None:
    number = AttributeProto.AttributeType.Value(kind)

    def wrong(d: Draft) -> None:
        replace(d, number)

    wrong.__name__ = f"an_attribute_becomes_{kind.lower()}"
    wrong.__module__ = __name__
    damage(REFUSED)(wrong)


for _kind in ("STRING", "FLOAT", "INT", "FLOATS", "STRINGS", "TENSOR", "GRAPH"):
    _wrong(_kind)


@damage(EITHER)
def an_attribute_without_a_type(d: Draft) -> None:
    """IR 1 wrote none."""
    d.one(a for n in d.graph.node for a in n.attribute).ClearField("type")


@damage(EITHER)
def an_attribute_whose_type_lies(d: Draft) -> None:
    """The value is in another field than the type says."""
    d.one(a for n in d.graph.node for a in n.attribute if a.type == AttributeProto.INTS).type = AttributeProto.FLOATS


@damage(EITHER)
def an_attribute_of_type_77(d: Draft) -> None:
    """Protobuf keeps an unknown enumerator aside."""
    raw = d.one(a for n in d.graph.node for a in n.attribute)
    raw.MergeFromString(b"\xa0\x01\x4d")


@damage(EITHER)
def an_attribute_without_a_name(d: Draft) -> None:
    d.one(a for n in d.graph.node for a in n.attribute).name = ""


@damage(EITHER)
def an_unknown_attribute(d: Draft) -> None:
    set_attribute(d.node(), "colour", "blue")


@damage(EITHER)
def a_reference_outside_of_a_function(d: Draft) -> None:
    d.one(a for n in d.graph.node for a in n.attribute).ref_attr_name = "alpha"


@damage(REFUSED)
def a_required_attribute_is_missing(d: Draft) -> None:
    """Concat needs its axis, Cast its type, MaxPool its kernel, If its branches."""
    node = d.node("Concat", "Cast", "MaxPool", "If", "Loop")
    drop_attribute(node, node.attribute[0].name)


@damage(REFUSED, on="attention", count=4)
def cast_to_nothing(d: Draft) -> None:
    set_attribute(d.node("Cast"), "to", d.rng.choice([0, 99, -1, 2**40]))


@damage(EITHER, on="conv")
def an_attribute_of_a_million_numbers(d: Draft) -> None:
    set_attribute(conv(d), "strides", [1] * 10**6)


@damage(EITHER, on="conv classifier attention")
def a_tensor_attribute_with_bad_bytes(d: Draft) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4], raw_data=b"12345")
    set_attribute(d.node(), "extra", tensor)
