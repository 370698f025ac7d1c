"""Reshape, shuffles, pixel shuffles, broadcasting, gates, shape arithmetic, resizing."""

from __future__ import annotations

import numpy as np

from tests.pruning.cases.case import Case, conv, head, image, ints, linear, relu, wide
from tests.pruning.nets import Distinct


def _reshaped(net: Distinct, x: str, *shape: int, **attrs: int) -> str:
    return net.op("Reshape", x, ints(net, *shape), **attrs)


def reshape_there_and_back(net: Distinct, first: tuple[int, ...], then: tuple[int, ...], **attrs: int) -> str:
    a = conv(net, image(net), 8, "a")
    r = net.op("Sigmoid", _reshaped(net, a, *first, **attrs))
    return head(net, wide(net, _reshaped(net, r, *then, **attrs), 8))


def channels_and_space(net: Distinct) -> str:
    """[N, C, H, W] as [N, C*H, W]: a channel is H neighbours of one axis."""
    a = conv(net, image(net), 6, "a")
    r = wide(net, _reshaped(net, a, 2, 48, 8), 48)
    return net.conv(r, 4, (1,))


def across_channels_and_space(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    return net.op("MatMul", _reshaped(net, a, 2, 4, 96), net.const(net.random(96, 3)))


def tokens(net: Distinct) -> str:
    a = net.conv(image(net), 6, 2, strides=[2, 2])
    t = net.op("Transpose", _reshaped(net, a, 2, 6, -1), perm=[0, 2, 1], out="tokens")
    return linear(net, net.op("Tanh", t), 6, 4)


def shuffle(net: Distinct, width: int, groups: int) -> str:
    a = conv(net, image(net), width, "a")
    r = _reshaped(net, a, 2, groups, width // groups, 8, 8)
    s = wide(net, _reshaped(net, net.op("Transpose", r, perm=[0, 2, 1, 3, 4]), 2, width, 8, 8), width)
    return head(net, s)


def shuffle_unit(net: Distinct) -> str:
    """ShuffleNet V2: one half passes by, both are shuffled, twice."""
    x = conv(net, image(net), 8, "stem")
    for k in range(2):
        net.op("Split", x, ints(net, 4, 4), out=f"s{k}", outputs=2, axis=1)
        net.widths.update({f"s{k}": 4, f"s{k}_1": 4})
        b = conv(net, net.bn(net.conv(conv(net, f"s{k}_1", 4, f"b{k}", 1), 4, pad=1, group=4, bias=False)), 4, f"cut{k}", 1)
        x = net.op("Concat", f"s{k}", b, axis=1)
        x = net.op("Transpose", _reshaped(net, x, 2, 2, 4, 8, 8), perm=[0, 2, 1, 3, 4])
        x = wide(net, _reshaped(net, x, 2, -1, 8, 8), 8)
    return head(net, x)


def grouped_shuffle(net: Distinct) -> str:
    a = conv(net, conv(net, image(net), 12, "a"), 12, "b", group=3)
    r = net.op("Transpose", _reshaped(net, a, 2, 3, 4, 64), perm=[0, 2, 1, 3])
    s = wide(net, _reshaped(net, r, 2, 12, 8, 8), 12)
    return head(net, conv(net, s, 6, "end", group=3))


def depth_to_space(net: Distinct, mode: str) -> str:
    a = net.op("Sigmoid", net.conv(image(net), 12), out="a")
    return head(net, wide(net, net.op("DepthToSpace", a, blocksize=2, mode=mode, out="d"), 3))


def space_to_depth(net: Distinct) -> str:
    a = conv(net, image(net), 5, "a")
    return head(net, wide(net, net.op("SpaceToDepth", a, blocksize=2, out="d"), 20))


def lowered_pixel_shuffle(net: Distinct) -> str:
    a = conv(net, image(net), 12, "a")
    r = net.op("Transpose", _reshaped(net, a, 2, 3, 2, 2, 8, 8), perm=[0, 1, 4, 2, 5, 3])
    return head(net, wide(net, _reshaped(net, r, 2, 3, 16, 16), 3))


def focus(net: Distinct) -> str:
    """Four strided slices of a feature map, concatenated: space to depth by hand."""
    a = conv(net, image(net), 4, "a")
    parts = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        r = net.op("Slice", a, *(ints(net, v) for v in (row, 99, 2, 2)))
        parts.append(net.op("Slice", r, *(ints(net, v) for v in (column, 99, 3, 2))))
    return head(net, wide(net, net.op("Concat", *parts, axis=1, out="d"), 16))


def squeeze_excite(net: Distinct, pool: str) -> str:
    a = conv(net, image(net), 8, "a")
    axes = {"axes": [2, 3]} if pool == "ReduceMean" else {}
    s = wide(net, net.op(pool, a, out="pooled", **axes), 8)
    s = net.op("HardSigmoid", net.conv(relu(net, net.conv(s, 4, 1), "inner"), 8, 1), out="weights")
    return head(net, net.op("Mul", s, a))


def squeeze_excite_dense(net: Distinct) -> str:
    """Squeeze-excite by Gemm, between a squeeze of the axes and their return."""
    a = conv(net, image(net), 8, "a")
    s = net.op("ReduceMean", a, axes=[2, 3], keepdims=0)
    s = relu(net, linear(net, s, 8, 4), "inner")
    s = net.op("Sigmoid", linear(net, s, 4, 8))
    return head(net, wide(net, net.op("Mul", a, net.op("Unsqueeze", s, ints(net, 2, 3))), 8))


def spatial_gate(net: Distinct) -> str:
    a = conv(net, image(net), 8, "a")
    return head(net, net.op("Mul", a, net.op("Sigmoid", net.conv(a, 1, 1), out="gate"), out="gated"))


def split_gate(net: Distinct) -> str:
    """One channel of a Split is for all of the others, as a confidence is for the scores of all classes."""
    a = net.conv(conv(net, image(net), 4, "other"), 7, 1)
    net.op("Split", a, ints(net, 1, 6), axis=1, outputs=2, out="s")
    return head(net, wide(net, net.op("Sum", "s_1", net.op("Sigmoid", "s"), "s"), 6))


def outer_product(net: Distinct) -> str:
    """Channels of one map times those of another, summed over pixels: one axis of 6 x 5."""
    i = image(net)
    a, b = (net.op("Reshape", conv(net, i, w, n), ints(net, 2, w, 64)) for w, n in ((6, "a"), (5, "b")))
    made = net.op("MatMul", a, net.op("Transpose", b, perm=[0, 2, 1]))
    return net.op("Gemm", net.op("Flatten", made), net.const(net.random(30, 3)))


def squeezed(net: Distinct, batch: int | str = 2) -> str:
    """Squeeze that names no axes: one channel that is left is none of them."""
    a = conv(net, net.input(batch, 3, 8, 8), 6, "a")
    return net.op("Gemm", net.op("Squeeze", net.op("GlobalAveragePool", a)), net.const(net.random(6, 3)))


def spatial_gate_of_mean(net: Distinct) -> str:
    """CBAM: the gate looks at the mean over channels, which knows how many there were."""
    a = conv(net, image(net), 8, "a")
    m = wide(net, net.op("ReduceMean", a, axes=[1], keepdims=1), 1)
    return head(net, net.op("Mul", a, net.op("Sigmoid", net.conv(m, 1, 1))))


def broadcast(net: Distinct, *shapes: tuple[int, ...]) -> str:
    """Constants on 6 channels of 6 by 6 pixels: [6] is along the last axis, not along channels."""
    a = net.conv(image(net), 6)
    for k, shape in enumerate(shapes):
        other = net.const(net.random(*shape))
        a = wide(net, net.op("Mul" if k % 2 else "Add", *((other, a) if k % 3 else (a, other))), 6)
    return head(net, relu(net, a, "a"))


def made_by_broadcast(net: Distinct) -> str:
    """One channel times a vector of constants: six channels, which no operator mixed before."""
    a = net.op("Mul", net.conv(image(net), 1), net.const(net.random(6, 1, 1)))
    return head(net, relu(net, wide(net, a, 6), "a"))


def prelu(net: Distinct, *shape: int) -> str:
    return head(net, net.op("PRelu", net.conv(image(net), 6), net.const(net.random(*shape)), out="a"))


def where(net: Distinct) -> str:
    i = image(net)
    a, b = conv(net, i, 6, "a"), conv(net, i, 6, "b")
    test = net.op("Greater", a, net.const(np.float32(0.2)))
    return head(net, wide(net, net.op("Where", test, net.const(net.random(6, 1, 1)), b, out="picked"), 6))


def expand(net: Distinct) -> str:
    a = net.op("GlobalAveragePool", conv(net, image(net), 6, "a"))
    return head(net, net.op("Expand", a, ints(net, 2, 6, 3, 3), out="e"))


def expand_one(net: Distinct) -> str:
    """One channel becomes six equal ones, which nothing made that could make fewer."""
    a = conv(net, image(net), 1, "a")
    return head(net, wide(net, net.op("Expand", a, ints(net, 1, 6, 1, 1), out="e"), 6))


def tile(net: Distinct) -> str:
    a = conv(net, image(net), 4, "a")
    return head(net, wide(net, net.op("Tile", a, ints(net, 1, 3, 1, 2), out="tiled"), 12))


def shape_arithmetic(net: Distinct) -> str:
    """Batch and size come from Shape, the number of channels is written into the file."""
    a = conv(net, net.input("n", 3, "h", "w"), 8, "a")
    shape = net.op("Shape", a)
    n, h, w = (net.op("Gather", shape, ints(net, k), axis=0) for k in (0, 2, 3))
    r = net.op("Reshape", a, net.op("Concat", n, ints(net, 2, 4), h, w, axis=0))
    r = net.op("Transpose", r, perm=[0, 2, 1, 3, 4])
    return head(net, wide(net, net.op("Reshape", r, net.op("Concat", n, ints(net, 8), h, w, axis=0)), 8))


def shape_of_channels(net: Distinct) -> str:
    """The number of channels is read off a tensor, and used as a size."""
    a = conv(net, net.input("n", 3, "h", "w"), 6, "a")
    s = net.op("Slice", net.op("Shape", a), ints(net, 0), ints(net, 2))
    flat = net.op("Reshape", net.op("GlobalAveragePool", a), s)
    return linear(net, flat, 6, 3)


def channels_as_number(net: Distinct) -> str:
    """A mean over channels as a sum over their number."""
    h = linear(net, net.input(2, 7, 6), 6, 8, "h")
    n = net.op("Cast", net.op("Gather", net.op("Shape", h), net.const(np.array(2))), to=1)
    return linear(net, net.op("Div", h, n), 8, 3)


def resize_sizes(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    return head(net, net.op("Resize", a, "", "", ints(net, 2, 6, 12, 12), mode="nearest", out="r"))


def resize_like(net: Distinct) -> str:
    """The size of another map, with the number of channels of this one: as segmentation heads are exported."""
    i = net.input("n", 3, "h", "w")
    a = conv(net, net.op("MaxPool", i, kernel_shape=[2, 2], strides=[2, 2]), 6, "a")
    size = net.op("Slice", net.op("Shape", i), ints(net, 2), ints(net, 4))
    sizes = net.op("Concat", net.op("Slice", net.op("Shape", a), ints(net, 0), ints(net, 2)), size, axis=0)
    return head(net, net.op("Resize", a, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel", out="r"))


def inner_output(net: Distinct) -> tuple[str, str]:
    b = conv(net, conv(net, image(net), 6, "a"), 6, "b")
    return b, head(net, conv(net, b, 4, "c"))


def many_outputs(net: Distinct) -> tuple[str, ...]:
    a = conv(net, image(net), 8, "a")
    b, c = conv(net, a, 6, "b"), conv(net, a, 4, "c")
    return head(net, b, 2), head(net, c, 3), net.op("Add", head(net, b, 4), net.conv(c, 4, 1), out="sum")


def pad_channels(net: Distinct) -> str:
    """A shortcut that pads with channels of zeros, as ResNets on small images do."""
    a = conv(net, image(net), 4, "a")
    p = net.op("Pad", a, ints(net, 0, 2, 0, 0, 0, 2, 0, 0), net.const(np.float32(0)))
    return head(net, net.op("Add", wide(net, p, 8), net.conv(a, 8, pad=1), out="sum"))


CASES: dict[str, Case] = {
    "Reshape with -1": Case(lambda n: reshape_there_and_back(n, (2, 2, 4, -1), (2, -1, 8, 8)), {"a": 8}),
    "Reshape with 0": Case(lambda n: reshape_there_and_back(n, (0, 0, -1), (0, 0, 8, 8)), {"a": 8}),
    "Reshape with allowzero": Case(lambda n: reshape_there_and_back(n, (2, 8, 64), (2, 8, 8, 8), allowzero=1), {"a": 8}),
    "Reshape merging channels and space": Case(channels_and_space, {"a": 6}),
    "Reshape across channels and space": Case(across_channels_and_space, frozen={"a": "cut-across"}),
    "feature map to tokens": Case(tokens, {"tokens": 6}),
    "shuffle, even groups": Case(lambda n: shuffle(n, 8, 2), {"a": 8}),
    "shuffle, uneven groups": Case(lambda n: shuffle(n, 6, 3), {"a": 6}),
    "ShuffleNet V2": Case(shuffle_unit, {"stem": 8, "b0": 4, "b1": 4, "cut0": 4, "cut1": 4}),
    "grouped, shuffle, grouped": Case(grouped_shuffle, {"a": 12, "b": 12, "end": 6}),
    "DepthToSpace CRD": Case(lambda n: depth_to_space(n, "CRD"), {"a": 12, "d": 3}, together=(("a", "d"),)),
    "DepthToSpace DCR": Case(lambda n: depth_to_space(n, "DCR"), {"a": 12, "d": 3}, together=(("a", "d"),)),
    "SpaceToDepth": Case(space_to_depth, {"a": 5, "d": 20}, together=(("a", "d"),)),
    "PixelShuffle lowered": Case(lowered_pixel_shuffle, {"a": 12}),
    "outer product of two maps": Case(outer_product, {"a": 6}, {"b": "two-kinds"}),
    "Squeeze of all axes of one": Case(squeezed, {"a": 6}),
    "Squeeze of all axes of one, any batch": Case(lambda n: squeezed(n, "n")),
    "space to depth by slices": Case(focus, {"a": 4, "d": 16}),
    "squeeze-excite by GlobalAveragePool": Case(
        lambda n: squeeze_excite(n, "GlobalAveragePool"), {"a": 8, "inner": 4}, together=(("a", "pooled", "weights"),)
    ),
    "squeeze-excite by ReduceMean": Case(
        lambda n: squeeze_excite(n, "ReduceMean"), {"a": 8, "inner": 4}, together=(("a", "pooled", "weights"),)
    ),
    "squeeze-excite by dense layers": Case(squeeze_excite_dense, {"a": 8, "inner": 4}),
    "gate of one channel": Case(spatial_gate, {"a": 8}, together=(("a", "gated"),), apart=(("a", "gate"),)),
    "gate of one channel of a Split": Case(split_gate, {"s_1": 6, "other": 4}),
    "gate of the mean over channels": Case(spatial_gate_of_mean, frozen={"a": "reduced"}),
    "constants [C,1,1], [1,C,1,1] and scalar": Case(lambda n: broadcast(n, (6, 1, 1), (1, 6, 1, 1), (), (1,)), {"a": 6}),
    "a constant [C] where C is W": Case(lambda n: broadcast(n, (6,)), {"a": 6}),
    "constants [C,H,W] and [1,1,H,1]": Case(lambda n: broadcast(n, (6, 6, 6), (1, 1, 6, 1), (6, 6)), {"a": 6}),
    "channels made by broadcasting": Case(made_by_broadcast, {"a": 6}),
    "PRelu, scalar": Case(lambda n: prelu(n, 1), {"a": 6}),
    "PRelu, per channel": Case(lambda n: prelu(n, 6, 1, 1), {"a": 6}),
    "Where": Case(where, {"a": 6, "b": 6}, together=(("a", "b", "picked"),)),
    "Expand": Case(expand, {"a": 6, "e": 6}),
    "Expand of one channel": Case(expand_one),
    "Tile": Case(tile, {"a": 4}),
    "shape arithmetic with a hard-coded C": Case(shape_arithmetic, {"a": 8}),
    "shape arithmetic with C by Shape": Case(shape_of_channels, {"a": 6}),
    "the number of channels as a value": Case(channels_as_number, frozen={"h": "counted"}),
    "Resize by sizes": Case(resize_sizes, {"a": 6, "r": 6}),
    "Resize like another map": Case(resize_like, {"a": 6, "r": 6}),
    "an output that is an inner tensor": Case(inner_output, {"a": 6, "c": 4}, {"b": "graph-output"}),
    "many outputs": Case(many_outputs, {"a": 8, "b": 6, "c": 4}),
    "shortcut padded with channels": Case(pad_channels, {"a": 4, "sum": 8}),
}  # fmt: skip
