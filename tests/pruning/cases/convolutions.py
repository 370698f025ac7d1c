"""Shortcuts, joins and splits, grouped convolutions, dense layers."""

from __future__ import annotations

import numpy as np

from tests.pruning.cases.case import Case, conv, head, image, ints, linear, relu, wide
from tests.pruning.nets import Distinct


def identity_shortcut(net: Distinct) -> str:
    a = relu(net, net.bn(net.conv(image(net), 8, pad=1)), "spine")
    b = conv(net, a, 6, "inner")
    c = relu(net, net.op("Add", a, net.bn(net.conv(b, 8, pad=1, bias=False))), "spine2")
    d = conv(net, c, 5, "inner2")
    return head(net, net.op("Add", net.conv(d, 8, pad=1), c, out="spine3"))


def projection_shortcut(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    b = net.conv(conv(net, a, 4, "inner"), 8, 1)
    side = net.bn(net.conv(a, 8, 1, bias=False, strides=[1, 1]))
    return head(net, relu(net, wide(net, net.op("Add", side, b), 8), "sum"))


def nested_concat(net: Distinct) -> str:
    i = image(net)
    a, b, c = conv(net, i, 4, "a"), conv(net, i, 6, "b"), conv(net, i, 3, "c")
    ab = wide(net, net.op("Concat", a, b, axis=1), 10)
    return head(net, relu(net, wide(net, net.op("Concat", c, ab, a, axis=-3), 17), "all"))


def dense_block(net: Distinct) -> str:
    x, width = conv(net, image(net), 4, "a"), 4
    for k in range(3):
        new = conv(net, relu(net, net.bn(x)), 3, f"new{k}")
        width += 3
        x = wide(net, net.op("Concat", x, new, axis=1), width)
    return head(net, x)


def concat_itself(net: Distinct) -> str:
    a = conv(net, image(net), 4, "a")
    return head(net, wide(net, net.op("Concat", a, net.op("Sigmoid", a), a, axis=1), 12))


def concat_constant(net: Distinct) -> str:
    a = conv(net, image(net), 4, "a")
    return head(net, wide(net, net.op("Concat", net.const(net.random(2, 2, 8, 8)), a, axis=1), 6))


def concat_elsewhere(net: Distinct) -> str:
    i = image(net)
    return head(net, net.op("Concat", conv(net, i, 4, "a"), conv(net, i, 4, "b"), axis=3, out="both"))


def split_bypass(net: Distinct) -> str:
    a = conv(net, image(net), 9, "a")
    net.op("Split", a, ints(net, 2, 4, 3), out="s", outputs=3, axis=1)
    net.widths.update(s=2, s_1=4, s_2=3)
    return head(net, wide(net, net.op("Concat", "s", conv(net, "s_1", 4, "b"), "s_2", axis=1), 9))


def c2f(net: Distinct) -> str:
    a = conv(net, image(net), 8, "a")
    net.op("Split", a, out="s", outputs=2, axis=1, **({} if net.opset < 18 else {"num_outputs": 2}))
    net.widths.update(s=4, s_1=4)
    m = net.op("Add", "s_1", conv(net, conv(net, "s_1", 3, "m1"), 4, "m2"), out="m")
    return head(net, wide(net, net.op("Concat", "s", "s_1", m, axis=1), 12))


def strided_slice(net: Distinct) -> str:
    a = conv(net, image(net), 8, "a")
    s = wide(net, net.op("Slice", a, *(ints(net, v) for v in (1, 8, 1, 3))), 3)
    return net.op("Add", head(net, s), head(net, a))


def backward_slice(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    return head(net, net.op("Slice", a, *(ints(net, v) for v in (-1, -(2**40), 1, -1)), out="turned"))


def depthwise(net: Distinct) -> str:
    return head(net, conv(net, conv(net, image(net), 6, "a"), 6, "d", group=6))


def multiplier(net: Distinct) -> str:
    return head(net, conv(net, conv(net, image(net), 4, "a"), 8, "d", group=4))


def one_channel(net: Distinct) -> str:
    a = conv(net, conv(net, image(net), 6, "a"), 1, "one")
    return head(net, net.op("Mul", conv(net, a, 6, "b"), a, out="scaled"))


def depthwise_of_one(net: Distinct) -> str:
    return head(net, conv(net, conv(net, image(net), 1, "one"), 4, "d", group=1))


def grouped_chain(net: Distinct) -> str:
    a = conv(net, image(net), 12, "a")
    return head(net, conv(net, conv(net, a, 12, "b", group=2), 6, "end", group=3))


def grouped_straddling(net: Distinct) -> str:
    i = image(net)
    c = wide(net, net.op("Concat", conv(net, i, 3, "a"), conv(net, i, 5, "b"), axis=1), 8)
    return head(net, conv(net, c, 8, "g", group=2))


def grouped_residual(net: Distinct) -> str:
    a = conv(net, image(net), 8, "a")
    return head(net, net.op("Add", a, conv(net, conv(net, a, 8, "g", group=4), 8, "b"), out="sum"))


def transposed_grouped(net: Distinct) -> str:
    a = conv(net, image(net), 8, "a")
    weight, bias = net.const(net.random(8, 3, 2, 2)), net.const(net.random(6))
    t = net.op("ConvTranspose", a, weight, bias, group=2, strides=[2, 2], out="t")
    return head(net, relu(net, wide(net, t, 6)))


def transposed_depthwise(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    t = net.op("ConvTranspose", a, net.const(net.random(6, 1, 4, 4)), group=6, strides=[2, 2], pads=[1, 1, 1, 1], out="t")
    return head(net, t)


def conv1d(net: Distinct) -> str:
    a = relu(net, net.bn(net.conv(net.input(2, 3, 9), 6, (3,))), "a")
    return net.conv(relu(net, net.conv(a, 6, (3,), group=6), "d"), 4, (1,))


def conv3d(net: Distinct) -> str:
    a = relu(net, net.bn(net.conv(net.input(1, 2, 5, 4, 4), 6, (2, 2, 2))), "a")
    return net.conv(net.op("GlobalAveragePool", a), 4, (1, 1, 1))


def flatten(net: Distinct, trans: int) -> str:
    a = relu(net, net.conv(image(net, size=6), 5), "a")
    flat = net.op("Flatten", a)
    weight = net.random(7, 80) if trans else net.random(80, 7)
    h = relu(net, net.op("Gemm", flat, net.const(weight), net.const(net.random(7)), transB=trans, alpha=0.5), "h")
    return net.op("Gemm", h, net.const(net.random(7, 4)), net.const(net.random(1, 4)), beta=2.0)


def flatten_matmul(net: Distinct) -> str:
    a = relu(net, net.conv(image(net, size=6), 5), "a")
    flat = net.op("Reshape", a, ints(net, 2, 80))
    return linear(net, relu(net, linear(net, flat, 80, 7), "h"), 7, 4)


def concat_flat(net: Distinct) -> str:
    """A flattened feature map beside other features: blocks of 16 elements beside single ones."""
    i = image(net, size=6)
    a = relu(net, net.conv(i, 5), "a")
    b = net.op("Flatten", net.op("GlobalMaxPool", relu(net, net.conv(i, 4), "b")))
    return linear(net, net.op("Concat", net.op("Flatten", a), b, axis=1), 84, 3)


def shared_equal(net: Distinct) -> str:
    i = image(net)
    w, v = net.const(net.random(6, 3, 3, 3), "w"), net.const(net.random(4, 6, 1, 1), "v")
    a = relu(net, net.op("Conv", i, w), "a")
    b = net.op("Tanh", net.op("Conv", net.op("Neg", i), w), out="b")
    return net.op("Add", net.op("Conv", a, v), net.op("Conv", b, v))


def shared_other_axes(net: Distinct) -> str:
    w = net.const(net.random(6, 6, 1, 1), "w")
    a = relu(net, net.op("Conv", conv(net, image(net), 6, "x0"), w), "a")
    return head(net, wide(net, relu(net, net.op("Conv", a, w), "b"), 6))


def shared_transposed(net: Distinct) -> str:
    """The same matrix once from the right and once transposed: its two axes change roles."""
    i = net.input(3, 6)
    w = net.const(net.random(6, 8), "w")
    h = net.op("Tanh", net.op("MatMul", i, w), out="h")
    return linear(net, net.op("Gemm", h, w, transB=1, out="back"), 6, 4)


def feature_pyramid(net: Distinct) -> tuple[str, str]:
    a = conv(net, image(net), 6, "a")
    b = conv(net, net.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 8, "b")
    top = net.conv(b, 4, 1)
    up = net.op("Resize", top, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    low = net.op("Add", net.conv(a, 4, 1), up, out="low")
    return head(net, wide(net, low, 4)), head(net, net.op("Identity", top, out="top"))


CASES: dict[str, Case] = {
    "residual spine, identity shortcut": Case(
        identity_shortcut,
        {"spine": 8, "inner": 6, "inner2": 5},
        together=(("spine", "spine2", "spine3"),),
        apart=(("spine", "inner"),),
    ),
    "residual spine, projection shortcut": Case(projection_shortcut, {"a": 6, "inner": 4, "sum": 8}, apart=(("a", "sum"),)),
    "nested concat": Case(
        nested_concat, {"a": 4, "b": 6, "c": 3, "all": 17}, together=(("a", "all"), ("b", "all")), apart=(("a", "b"),)
    ),
    "DenseNet block": Case(dense_block, {"a": 4, "new0": 3, "new1": 3, "new2": 3}),
    "concat of a tensor with itself": Case(concat_itself, {"a": 4}),
    "concat with a constant": Case(concat_constant, {"a": 4}),
    "concat on another axis": Case(concat_elsewhere, {"a": 4, "both": 4}, together=(("a", "b", "both"),)),
    "unequal split with bypass": Case(split_bypass, {"a": 9, "s": 2, "b": 4, "s_2": 3}, apart=(("s", "b"), ("s", "s_1"))),
    "C2f": Case(c2f, {"a": 8, "s": 4, "s_1": 4, "m1": 3}, together=(("s_1", "m", "m2"),), apart=(("s", "s_1"),)),
    "C2f, Split-18": Case(c2f, {"a": 8, "s": 4, "s_1": 4, "m1": 3}, together=(("s_1", "m", "m2"),), opset=18),
    "strided slice": Case(strided_slice, {"a": 8}),
    "slice backwards": Case(backward_slice, {"a": 6, "turned": 6}),
    "depthwise": Case(depthwise, {"a": 6, "d": 6}, together=(("a", "d"),)),
    "depthwise, multiplier 2": Case(multiplier, {"a": 4, "d": 8}, together=(("a", "d"),)),
    "one output channel": Case(one_channel, {"a": 6, "b": 6}, together=(("b", "scaled"),)),
    "depthwise of one channel": Case(depthwise_of_one, {"d": 4}),
    "grouped to grouped with other counts": Case(grouped_chain, {"a": 12, "b": 12, "end": 6}),
    "grouped after a concat that straddles": Case(grouped_straddling, {"a": 3, "b": 5, "g": 8}),
    "grouped in a residual block": Case(grouped_residual, {"a": 8, "g": 8}, together=(("a", "b", "sum"),)),
    "ConvTranspose grouped": Case(transposed_grouped, {"a": 8, "t": 6}),
    "ConvTranspose depthwise": Case(transposed_depthwise, {"a": 6, "t": 6}, together=(("a", "t"),)),
    "Conv1d": Case(conv1d, {"a": 6, "d": 6}),
    "Conv3d": Case(conv3d, {"a": 6}),
    "Flatten with H*W > 1, transB 0": Case(lambda n: flatten(n, 0), {"a": 5, "h": 7}),
    "Flatten with H*W > 1, transB 1": Case(lambda n: flatten(n, 1), {"a": 5, "h": 7}),
    "Flatten by Reshape into MatMul": Case(flatten_matmul, {"a": 5, "h": 7}),
    "flattened maps beside other features": Case(concat_flat, {"a": 5, "b": 4}),
    "a shared initializer on equal axes": Case(shared_equal, {"a": 6, "b": 6}, together=(("a", "b"),)),
    "a shared initializer on different axes": Case(shared_other_axes, {"a": 6, "b": 6, "x0": 6}, together=(("x0", "a", "b"),)),
    "a shared initializer and its transpose": Case(shared_transposed, {"h": 8}, {"back": "graph-input"}),
    "feature pyramid": Case(feature_pyramid, {"a": 6, "b": 8, "low": 4}, together=(("low", "top"),)),
}  # fmt: skip
