"""What a pruner easily gets wrong: values that name channels by number, constants of odd types, one vector in several roles.

Most of these say nothing of what can go, only that what goes goes exactly.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.pruning.cases.case import Case, conv, head, image, ints, linear, relu, wide
from tests.pruning.nets import Distinct


def pooling_indices(net: Distinct) -> tuple[str, str]:
    """The indices of MaxPool count through all channels."""
    a = conv(net, image(net), 6, "a")
    net.op("MaxPool", a, out="p", outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    return head(net, wide(net, "p", 6)), net.op("ReduceMax", net.op("Cast", "p_1", to=1), axes=[1, 2, 3], keepdims=0)


def unpooled(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    net.op("MaxPool", a, out="p", outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    return head(net, wide(net, net.op("MaxUnpool", "p", "p_1", kernel_shape=[2, 2], strides=[2, 2]), 6))


def boolean_constant(net: Distinct) -> str:
    """A choice for each channel, by a constant of truth values."""
    i = image(net)
    a, b = conv(net, i, 6, "a"), conv(net, i, 6, "b")
    chosen = net.const(np.array([1, 0, 0, 1, 1, 0], bool).reshape(6, 1, 1))
    return head(net, wide(net, net.op("Where", chosen, a, b), 6))


def whole_numbers(net: Distinct) -> str:
    """Channels as 64-bit integers, shifted by a constant for each."""
    a = conv(net, image(net), 6, "a")
    n = net.op("Cast", net.op("Mul", a, net.const(np.float32(100))), to=TensorProto.INT64)
    n = net.op("Add", n, net.const(np.arange(10, 70, 10).reshape(6, 1, 1)))
    return head(net, wide(net, net.op("Cast", n, to=1), 6))


def counted_by_range(net: Distinct) -> str:
    """Each channel is scaled by its number, which Range gives of the number of channels that Shape gives."""
    a = conv(net, net.input("n", 3, "h", "w"), 6, "a")
    count = net.op("Gather", net.op("Shape", a), net.const(np.array(1)))
    number = net.op("Range", net.const(np.array(0)), count, net.const(np.array(1)))
    scale = net.op("Unsqueeze", net.op("Cast", number, to=1), ints(net, 1, 2))
    return head(net, wide(net, net.op("Mul", a, scale), 6))


def ones_like(net: Distinct) -> str:
    """A tensor of ones as large as another, beside it and added to it."""
    a = conv(net, net.input("n", 3, "h", "w"), 6, "a")
    value = numpy_helper.from_array(np.ones(1, np.float32))
    ones = net.op("ConstantOfShape", net.op("Shape", a), value=value)
    both = net.op("Concat", net.op("Add", a, ones), ones, axis=1)
    return head(net, wide(net, both, 12))


def expanded_like(net: Distinct) -> str:
    a = conv(net, net.input("n", 3, "h", "w"), 6, "a")
    mean = net.op("GlobalAveragePool", a)
    return head(net, wide(net, net.op("Sub", a, net.op("Expand", mean, net.op("Shape", a))), 6))


def vector_in_two_roles(net: Distinct) -> str:
    """One vector is the bias of two convolutions and the scale of a third's batch norm."""
    i, v = image(net), net.const(net.random(6))
    a = relu(net, wide(net, net.op("Conv", i, net.const(net.random(6, 3, 1, 1)), v), 6), "a")
    b = relu(net, wide(net, net.op("Conv", i, net.const(net.random(6, 3, 1, 1)), v), 6), "b")
    c = net.conv(i, 6, 1)
    others = net.random(6), net.random(6), net.random(6, low=0.5, high=1.5)
    n = net.op("BatchNormalization", c, v, *map(net.const, others), out="n")
    return head(net, wide(net, net.op("Concat", head(net, a, 3), head(net, b, 3), n, axis=1), 12))


def vector_on_other_axes(net: Distinct) -> str:
    """One vector is added along channels, and along the width of another tensor."""
    i, v = image(net, size=6), net.const(net.random(6))
    a = net.op("Add", net.conv(i, 6, 1), net.op("Unsqueeze", v, ints(net, 1, 2)), out="a")
    return net.op("Add", head(net, wide(net, a, 6)), v)


def weight_as_data(net: Distinct) -> tuple[str, str]:
    """A convolution's weight is also summed up for an output."""
    w = net.const(net.random(6, 3, 1, 1), "w")
    a = relu(net, wide(net, net.op("Conv", image(net), w), 6), "a")
    return head(net, a), net.op("ReduceSum", w, keepdims=0)


def channels_meet_width(net: Distinct) -> str:
    """A square map plus itself with channels and width exchanged."""
    a = conv(net, image(net, size=6), 6, "a")
    return head(net, net.op("Add", a, net.op("Transpose", a, perm=[0, 3, 2, 1])))


def gram(net: Distinct) -> str:
    """x x^T sums over channels of one tensor, read twice."""
    h = linear(net, net.input(2, 5, 6), 6, 8, "h")
    return linear(net, net.op("MatMul", h, net.op("Transpose", h, perm=[0, 2, 1])), 5, 3)


def cross_covariance(net: Distinct) -> str:
    """x^T x has channels on both axes; a softmax over one of them."""
    i = net.input(2, 5, 6)
    q, k, v = (linear(net, i, 6, 8, n) for n in "qkv")
    score = net.op("Softmax", net.op("MatMul", net.op("Transpose", q, perm=[0, 2, 1]), k), axis=-1)
    return linear(net, net.op("MatMul", v, score), 8, 3)


def linear_attention(net: Distinct) -> str:
    """(k^T v) before q: no softmax, so all three sizes are free."""
    i = net.input(2, 5, 6)
    q, k, v = (linear(net, i, 6, 8, n) for n in "qkv")
    return linear(net, net.op("MatMul", q, net.op("MatMul", net.op("Transpose", k, perm=[0, 2, 1]), v)), 8, 3)


def scattered(net: Distinct) -> str:
    """Channels overwritten by number."""
    a = net.op("Transpose", conv(net, image(net), 6, "a"), perm=[1, 0, 2, 3])
    made = net.op("ScatterND", a, net.const(np.array([[1], [4]])), net.const(net.random(2, 2, 8, 8)))
    return head(net, wide(net, net.op("Transpose", made, perm=[1, 0, 2, 3]), 6))


def gathered_elements(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    index = np.broadcast_to(np.array([3, 0, 5]).reshape(1, 3, 1, 1), (2, 3, 8, 8))
    return head(net, wide(net, net.op("GatherElements", a, net.const(np.array(index)), axis=1), 3))


def compressed(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    return head(net, wide(net, net.op("Compress", a, net.const(np.array([1, 0, 1, 1, 0, 1], bool)), axis=1), 4))


def cropped_channels(net: Distinct) -> str:
    """Pad by negative amounts takes channels away."""
    a = conv(net, image(net), 8, "a")
    return head(net, wide(net, net.op("Pad", a, ints(net, 0, -2, 0, 0, 0, -1, 0, 0)), 5))


def reflected_channels(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    return head(net, wide(net, net.op("Pad", a, ints(net, 0, 2, 0, 0, 0, 1, 0, 0), mode="reflect"), 9))


def empty_part(net: Distinct) -> str:
    a = conv(net, image(net), 8, "a")
    net.op("Split", a, ints(net, 8, 0), out="s", outputs=2, axis=1)
    return head(net, wide(net, net.op("Concat", "s_1", "s", axis=1), 8))


def triangle(net: Distinct) -> str:
    """Trilu over tokens and channels: channel k stays only from token k on."""
    h = linear(net, net.input(2, 6, 4), 4, 6, "h")
    return linear(net, net.op("Trilu", h, upper=0), 6, 3)


def vector_product(net: Distinct) -> str:
    """MatMul with a vector, which has no rows."""
    h = linear(net, net.input(2, 5, 6), 6, 8, "h")
    return net.op("MatMul", h, net.const(net.random(8)))


def gemm_biases(net: Distinct) -> str:
    i = net.input(4, 6)
    a = net.op("Gemm", i, net.const(net.random(6, 8)), net.const(net.random(1, 8)), alpha=0.5, beta=2.0, out="a")
    b = net.op("Gemm", net.op("Tanh", a), net.const(net.random(8, 6)), net.const(net.random(4, 6)), out="b")
    c = net.op("Gemm", net.op("Tanh", b), net.const(net.random(7, 6)), net.const(np.float32(0.3)), transB=1, out="c")
    return net.op("Gemm", net.op("Tanh", c), net.const(net.random(7, 3)), net.const(net.random(4, 1)))


def norm_over_all(net: Distinct) -> str:
    """LayerNormalization from the channel axis on."""
    a = conv(net, image(net, size=4), 6, "a")
    return head(net, net.op("LayerNormalization", a, net.const(net.random(6, 4, 4)), axis=1))


def batch_concat(net: Distinct) -> str:
    i = image(net)
    return head(net, net.op("Concat", conv(net, i, 6, "a"), conv(net, i, 6, "b"), axis=0, out="both"))


def twice_the_same_output(net: Distinct) -> tuple[str, str]:
    a = conv(net, image(net), 6, "a")
    made = head(net, a)
    return made, net.op("Identity", a, out="tap")


def weight_by_transpose(net: Distinct) -> str:
    """Weights that are stored transposed, scaled and in halves."""
    i = net.input(2, 5, 6)
    w = net.op("Transpose", net.const(net.random(8, 6)), perm=[1, 0])
    h = net.op("Tanh", net.op("MatMul", i, net.op("Mul", w, net.const(np.float32(0.5)))), out="h")
    v = net.op("Concat", net.const(net.random(5, 3)), net.const(net.random(3, 3)), axis=0)
    return net.op("MatMul", h, v)


def overridable_weight(net: Distinct) -> str:
    """A weight that the caller may override is no constant."""
    w = net.const(net.random(6, 3, 1, 1), "w")
    net.inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 3, 1, 1]))
    a = relu(net, wide(net, net.op("Conv", image(net), w), 6), "a")
    return head(net, conv(net, a, 4, "b"))


def size_of_another(net: Distinct) -> str:
    """The number of channels of one tensor is the target of another's Reshape."""
    i = net.input("n", 3, 8, 8)
    a, b = conv(net, i, 6, "a"), net.conv(i, 6, 1)
    shape = net.op("Concat", net.op("Slice", net.op("Shape", a), ints(net, 0), ints(net, 2)), ints(net, -1), axis=0)
    flat = net.op("Reshape", b, shape)
    return net.op("Add", head(net, a), head(net, wide(net, net.op("Reshape", flat, net.op("Shape", b)), 6)))


def counted_down(net: Distinct) -> str:
    """Half of the channels by arithmetic on their number: it must be half of what is left, or stay."""
    a = conv(net, net.input("n", 3, "h", "w"), 8, "a")
    count = net.op("Slice", net.op("Shape", a), ints(net, 1), ints(net, 2))
    first = net.op("Slice", a, ints(net, 0), net.op("Div", count, ints(net, 2)), ints(net, 1))
    return head(net, wide(net, first, 4))


def unseen_count(net: Distinct, kind: str) -> tuple[str, str]:
    """The number of channels of "b", which shape inference does not know behind computed ends, is a size of something else."""
    i = net.input("n", 3, 8, 8)
    a, b = conv(net, i, 6, "a"), conv(net, i, 4, "b")
    rows = net.op("Slice", b, ints(net, 0), net.op("Gather", net.op("Shape", i), ints(net, 0)), ints(net, 2))
    count = net.op("Reshape", net.op("Gather", net.op("Shape", rows), net.const(np.array(1))), ints(net, -1))
    if kind == "Slice":
        made = net.op(kind, a, ints(net, 0), count, ints(net, 3))
    elif kind == "Reshape":
        made = net.op(kind, a, net.op("Concat", ints(net, 0, 6), count, ints(net, -1), axis=0))
    elif kind == "Resize":
        kept = net.op("Slice", net.op("Shape", a), ints(net, 0), ints(net, 2))
        made = net.op(kind, a, "", "", net.op("Concat", kept, count, count, axis=0), mode="nearest")
    elif kind == "Expand":
        made = net.op(kind, net.op("GlobalAveragePool", a), net.op("Concat", ints(net, 1, 1, 1), count, axis=0))
    else:
        ones = net.op(
            kind, net.op("Concat", ints(net, 1, 1, 1), count, axis=0), value=numpy_helper.from_array(np.ones(1, np.float32))
        )
        made = net.op("Mul", a, net.op("ReduceSum", ones))
    return net.op("ReduceSum", head(net, wide(net, made, 6)), ints(net, 3)), head(net, wide(net, rows, 4))


BUILDS = (
    *(pooling_indices, unpooled, boolean_constant, whole_numbers, counted_by_range, ones_like, expanded_like, vector_in_two_roles),
    *(vector_on_other_axes, weight_as_data, channels_meet_width, gram, cross_covariance, linear_attention, scattered),
    *(gathered_elements, compressed, cropped_channels, reflected_channels, empty_part, triangle, vector_product, gemm_biases),
    *(norm_over_all, batch_concat, twice_the_same_output, weight_by_transpose, overridable_weight, size_of_another, counted_down),
)

CASES: dict[str, Case] = {f"hostile: {build.__name__.replace('_', ' ')}": Case(build) for build in BUILDS} | {
    f"hostile: a number of channels unseen in {kind}": Case(partial(unseen_count, kind=kind), frozen={"b": "counted"})
    for kind in ("Slice", "Reshape", "Resize", "Expand", "ConstantOfShape")
}
