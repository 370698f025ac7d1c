"""Small named networks for channels: what should be prunable, in how many units, and what should be frozen and why.

A case builds a network on ``Net`` and names its outputs. ``free`` maps a tensor to the number of units along its channels that
can go; ``frozen`` maps a tensor to a piece of the reason why none can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from tests.nets import Net

Build = Callable[[Net], str | tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    build: Build
    free: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    opset: int = 17


def _x(net: Net, c: int = 3, size: int | str = 8) -> str:
    return net.input(2, c, size, size)


def named(net: Net, x: str, name: str) -> str:
    """The same tensor under a name for the expectations."""
    return net.op("Identity", x, out=name)


def relu(net: Net, x: str, name: str = "") -> str:
    return net.op("Relu", x, out=name)


def head(net: Net, x: str, width: int = 5) -> str:
    return net.conv(x, width, 1)


def residual(net: Net) -> str:
    a = relu(net, net.bn(net.conv(_x(net), 8, pad=1)), "spine")
    b = relu(net, net.conv(a, 6, pad=1), "inner")
    return head(net, net.op("Add", a, net.conv(b, 8, pad=1)))


def projection(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    b = net.conv(relu(net, net.conv(a, 4, 1), "inner"), 8, 1)
    return head(net, relu(net, net.op("Add", net.conv(a, 8, 1, bias=False), b), "sum"))


def concat_nested(net: Net) -> str:
    i = _x(net)
    a, b, c = net.conv(i, 4), net.conv(i, 6), net.conv(i, 3)
    ab = net.op("Concat", named(net, a, "a"), named(net, b, "b"), axis=1)
    net.widths[ab] = 10
    abc = net.op("Concat", ab, named(net, c, "c"), a, axis=1)
    net.widths[abc] = 17
    return head(net, relu(net, abc))


def concat_itself(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 4), "a")
    aa = net.op("Concat", a, a, axis=1)
    net.widths[aa] = 8
    return head(net, aa)


def concat_constant(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 4), "a")
    c = net.op("Concat", a, net.const(net.random(2, 2, 6, 6)), axis=1)
    net.widths[c] = 6
    return head(net, c)


def concat_input(net: Net) -> str:
    i = _x(net)
    c = net.op("Concat", relu(net, net.conv(i, 4, pad=1), "a"), i, axis=1)
    net.widths[c] = 7
    return head(net, c)


def concat_spatial(net: Net) -> str:
    i = _x(net)
    return head(net, net.op("Concat", relu(net, net.conv(i, 4), "a"), net.conv(i, 4), axis=2))


def split_bypass(net: Net) -> str:
    a = net.conv(_x(net), 9)
    net.op("Split", named(net, a, "a"), net.const(np.array([2, 4, 3])), out="s", outputs=3, axis=1)
    net.widths.update(s=2, s_1=4, s_2=3)
    b = net.conv(net.op("Relu", "s_1"), 4, pad=1)
    joined = net.op("Concat", "s", b, "s_2", axis=1)
    net.widths[joined] = 9
    return head(net, joined)


def split_equal(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 8), "a")
    net.op("Split", a, out="s", outputs=2, axis=1)
    net.widths.update(s=4, s_1=4)
    return head(net, net.op("Mul", "s", net.op("Sigmoid", "s_1")))


def split_attribute(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 8), "a")
    net.op("Split", a, out="s", outputs=2, axis=1, split=[3, 5])
    net.widths.update(s=3, s_1=5)
    return net.op("Add", head(net, "s"), head(net, "s_1"))


def strided_slice(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 8), "a")
    s = net.op("Slice", a, *(net.const(np.array([v])) for v in (1, 8, 1, 2)))
    net.widths[s] = 4
    return net.op("Add", head(net, s), head(net, a))


def slice_range(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 8), "a")
    s = net.op("Slice", a, *(net.const(np.array([v])) for v in (-6, 2**62, 1)))
    net.widths[s] = 6
    return head(net, s)


def gather_constant(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    g = net.op("Gather", a, net.const(np.array([5, 0, 2, -2, 0])), axis=1)
    net.widths[g] = 5
    return head(net, g)


def depthwise(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    return head(net, relu(net, net.conv(a, 6, group=6), "d"))


def depthwise_multiplier(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 4), "a")
    return head(net, relu(net, net.conv(a, 12, group=4), "d"))


def grouped(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 12), "a")
    b = relu(net, net.conv(a, 6, group=2), "b")
    return head(net, relu(net, net.conv(b, 9, 1, group=3), "c"))


def many_groups(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 12), "a")
    return head(net, relu(net, net.conv(a, 12, group=6), "b"))


def grouped_after_concat(net: Net) -> str:
    i = _x(net)
    c = net.op("Concat", relu(net, net.conv(i, 3), "a"), net.conv(i, 5), axis=1)
    net.widths[c] = 8
    return head(net, relu(net, net.conv(c, 8, group=2), "g"))


def grouped_input(net: Net) -> str:
    return head(net, relu(net, net.conv(_x(net, 4), 8, group=2), "a"))


def _transposed(net: Net, x: str, rows: int, group: int, out: str = "") -> str:
    weight = net.const(net.random(net.widths[x], rows, 2, 2))
    made = net.op("ConvTranspose", x, weight, net.const(net.random(rows * group)), out=out, group=group, strides=[2, 2])
    net.widths[made] = rows * group
    return made


def transposed(net: Net) -> str:
    return head(net, relu(net, _transposed(net, relu(net, net.conv(_x(net), 6), "a"), 5, 1), "t"))


def transposed_grouped(net: Net) -> str:
    return head(net, relu(net, _transposed(net, relu(net, net.conv(_x(net), 8), "a"), 3, 2), "t"))


def transposed_depthwise(net: Net) -> str:
    return head(net, relu(net, _transposed(net, relu(net, net.conv(_x(net), 6), "a"), 2, 6), "t"))


def conv1d(net: Net) -> str:
    a = relu(net, net.bn(net.conv(net.input(2, 3, 9), 6, (3,))), "a")
    return net.conv(a, 4, (3,))


def conv3d(net: Net) -> str:
    a = relu(net, net.conv(net.input(1, 2, 4, 4, 4), 6, (2, 2, 2)), "a")
    return net.conv(net.op("GlobalMaxPool", a), 4, (1, 1, 1))


def _gemm(net: Net, x: str, k: int, n: int, trans: int, out: str = "") -> str:
    weight = net.const(net.random(n, k) if trans else net.random(k, n))
    return net.op("Gemm", x, weight, net.const(net.random(n)), out=out, transB=trans, alpha=0.5)


def flatten_gemm(net: Net) -> str:
    a = relu(net, net.conv(_x(net, size=6), 5), "a")
    return _gemm(net, relu(net, _gemm(net, net.op("Flatten", a), 80, 7, 1), "h"), 7, 4, 0)


def flatten_gemm_untransposed(net: Net) -> str:
    a = relu(net, net.conv(_x(net, size=6), 5), "a")
    return _gemm(net, net.op("Reshape", a, net.const(np.array([0, -1]))), 80, 4, 0)


def flatten_channels_last(net: Net) -> str:
    a = net.op("Transpose", relu(net, net.conv(_x(net, size=6), 5), "a"), perm=[0, 2, 3, 1])
    return _gemm(net, net.op("Flatten", a), 80, 4, 1)


def gemm_transposed_data(net: Net) -> str:
    a = relu(net, _gemm(net, net.input(4, 6), 6, 8, 0), "a")
    t = net.op("Transpose", a, perm=[1, 0])
    return net.op("Gemm", t, net.const(net.random(8, 3)), transA=1)


def matmul(net: Net) -> str:
    h = net.op("MatMul", net.input(2, 7, 6), net.const(net.random(6, 8)))
    h = net.op("Gelu" if net.opset >= 20 else "Erf", net.op("Add", h, net.const(net.random(8))), out="h")
    return net.op("MatMul", h, net.const(net.random(8, 6)))


def matmul_left(net: Net) -> str:
    h = relu(net, net.op("MatMul", net.const(net.random(8, 6)), net.input(2, 6, 5)), "h")
    return net.op("MatMul", net.const(net.random(4, 8)), h)


def reshape_split_axis(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 8), "a")
    r = net.op("Reshape", a, net.const(np.array([2, 2, 4, 36])))
    r = net.op("Reshape", net.op("Sigmoid", r), net.const(np.array([0, 8, 6, -1])))
    net.widths[r] = 8
    return head(net, r)


def shuffle(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 8), "a")
    r = net.op("Reshape", a, net.const(np.array([2, 2, 4, 6, 6])))
    r = net.op("Reshape", net.op("Transpose", r, perm=[0, 2, 1, 3, 4]), net.const(np.array([2, 8, 6, 6])))
    net.widths[r] = 8
    return head(net, r)


def shuffle_uneven(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    r = net.op("Reshape", a, net.const(np.array([2, 3, 2, -1])))
    r = net.op("Reshape", net.op("Transpose", r, perm=[0, 2, 1, 3]), net.const(np.array([2, -1, 6, 6])))
    net.widths[r] = 6
    return head(net, r)


def reshape_mixing(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    r = net.op("Reshape", a, net.const(np.array([2, 4, 54])))
    return net.op("MatMul", r, net.const(net.random(54, 3)))


def pixel_shuffle(net: Net, mode: str) -> str:
    a = named(net, net.conv(_x(net), 12), "a")
    d = net.op("DepthToSpace", a, blocksize=2, mode=mode)
    net.widths[d] = 3
    return head(net, d)


def space_to_depth(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 5), "a")
    d = net.op("SpaceToDepth", a, blocksize=2)
    net.widths[d] = 20
    return head(net, d)


def lowered_pixel_shuffle(net: Net) -> str:
    a = named(net, net.conv(_x(net), 12), "a")
    r = net.op("Reshape", a, net.const(np.array([-1, 3, 2, 2, 6, 6])))
    r = net.op("Reshape", net.op("Transpose", r, perm=[0, 1, 4, 2, 5, 3]), net.const(np.array([-1, 3, 12, 12])))
    net.widths[r] = 3
    return head(net, r)


def squeeze_excite(net: Net, pool: str = "GlobalAveragePool") -> str:
    a = relu(net, net.conv(_x(net), 8), "a")
    s = net.op(pool, a, axes=[2, 3]) if pool == "ReduceMean" else net.op(pool, a)
    s = net.op("Sigmoid", net.conv(relu(net, net.conv(s, 4, 1), "inner"), 8, 1))
    return head(net, net.op("Mul", a, s))


def gate(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 8), "a")
    return head(net, net.op("Mul", a, net.op("Sigmoid", net.conv(a, 1, 1), out="gate")))


def constants(net: Net) -> str:
    a = net.conv(_x(net), 6)
    for shape in ((6, 1, 1), (1, 6, 1, 1), (), (1,), (2, 6, 1, 1), (1, 6, 6, 6), (6, 6), (6,)):
        a = net.op("Add", a, net.const(net.random(*shape)))
    made = net.op("Mul", net.const(net.random(6, 1, 1)), a, out="a")
    net.widths[made] = 6
    return head(net, made)


def prelu(net: Net, *shape: int) -> str:
    return head(net, net.op("PRelu", net.conv(_x(net), 6), net.const(net.random(*shape)), out="a"))


def where(net: Net) -> str:
    a = net.conv(_x(net), 6)
    zero = net.const(np.zeros((), np.float32))
    return head(net, net.op("Where", net.op("Greater", a, zero), a, net.const(net.random(6, 1, 1)), out="a"))


def expand(net: Net) -> str:
    a = net.op("GlobalAveragePool", relu(net, net.conv(_x(net), 6), "a"))
    e = net.op("Expand", a, net.const(np.array([2, 6, 3, 3])))
    return head(net, e)


def tile(net: Net) -> str:
    t = net.op("Tile", relu(net, net.conv(_x(net), 4), "a"), net.const(np.array([1, 3, 1, 2])))
    net.widths[t] = 12
    return head(net, t)


def pad_channels(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 4), "a")
    p = net.op("Pad", a, net.const(np.array([0, 1, 1, 0, 0, 2, 0, 0])), net.const(np.float32(0.5)))
    net.widths[p] = 7
    return head(net, p)


def squeeze_unsqueeze(net: Net) -> str:
    a = net.op("GlobalAveragePool", relu(net, net.conv(_x(net), 6), "a"))
    s = net.op("Squeeze", a, net.const(np.array([2, -1])))
    u = net.op("Unsqueeze", net.op("Tanh", s), net.const(np.array([-1, 2])))
    return head(net, u)


def shared(net: Net) -> str:
    i = _x(net)
    w = net.const(net.random(6, 3, 3, 3), "w")
    v = net.const(net.random(4, 6, 1, 1), "v")
    a, b = net.op("Conv", i, w), net.op("Conv", net.op("Neg", i), w)
    return net.op("Add", net.op("Conv", relu(net, a, "a"), v), net.op("Conv", relu(net, b, "b"), v))


def shared_axes(net: Net) -> str:
    w = net.const(net.random(6, 6, 1, 1), "w")
    a = relu(net, net.op("Conv", net.conv(_x(net), 6), w), "a")
    return head(net, relu(net, _with_width(net, net.op("Conv", a, w), 6), "b"))


def _with_width(net: Net, x: str, width: int) -> str:
    net.widths[x] = width
    return x


def inner_output(net: Net) -> tuple[str, str]:
    a = relu(net, net.conv(_x(net), 6), "a")
    b = relu(net, net.conv(a, 6), "b")
    return b, head(net, relu(net, net.conv(b, 4), "c"))


def resize_sizes(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    return head(net, net.op("Resize", a, "", "", net.const(np.array([2, 6, 12, 12])), mode="nearest"))


def resize_scales(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    return head(net, net.op("Resize", a, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="linear"))


def softmax(net: Net, axis: int) -> str:
    return head(net, net.op("Softmax", net.conv(_x(net), 6), out="a", axis=axis))


def layer_norm(net: Net) -> str:
    h = net.op("MatMul", net.input(2, 7, 6), net.const(net.random(6, 8)))
    h = net.op("LayerNormalization", h, net.const(net.random(8)), net.const(net.random(8)), out="h")
    return net.op("MatMul", h, net.const(net.random(8, 3)))


def layer_norm_by_count(net: Net) -> str:
    h = net.op("MatMul", net.input(2, 7, 6), net.const(net.random(6, 8)), out="h")
    n = net.op("Cast", net.op("Gather", net.op("Shape", h), net.const(np.array(2))), to=1)
    return net.op("MatMul", net.op("Div", h, n), net.const(net.random(8, 3)))


def argmax(net: Net) -> str:
    a = net.op("ArgMax", net.conv(_x(net), 6), axis=1, out="i")
    return net.op("Cast", a, to=1)


def lrn(net: Net) -> str:
    return head(net, net.op("LRN", net.conv(_x(net), 6), out="a", size=3))


def instance_norm(net: Net) -> str:
    a = net.op("InstanceNormalization", net.conv(_x(net), 6), net.const(net.random(6)), net.const(net.random(6)), out="a")
    return head(net, a)


def reduce_channels(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    m = net.op("ReduceMax", a, axes=[1], keepdims=1)
    net.widths[m] = 1
    return net.conv(m, 2, 1)


def unknown(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    b = net.op("Einsum", a, equation="nchw->nchw")
    return head(net, relu(net, net.conv(b, 4), "b"))


def dynamic_gather(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    order = net.op("ArgMax", net.op("ReduceMean", a, axes=[0, 2, 3], keepdims=0), axis=0, keepdims=1)
    g = net.op("Gather", a, order, axis=1)
    net.widths[g] = 1
    return net.conv(g, 2, 1)


def shape_arithmetic(net: Net) -> str:
    a = relu(net, net.conv(net.input("n", 3, 8, 8), 8), "a")
    n = net.op("Gather", net.op("Shape", a), net.const(np.array([0])))
    r = net.op("Reshape", a, net.op("Concat", n, net.const(np.array([2, 4, -1])), axis=0))
    r = net.op("Transpose", r, perm=[0, 2, 1, 3])
    r = net.op("Reshape", r, net.op("Concat", n, net.const(np.array([8, 6, 6])), axis=0))
    net.widths[r] = 8
    return head(net, r)


def shape_of_channels(net: Net) -> str:
    a = relu(net, net.conv(_x(net, size="s"), 6), "a")
    s = net.op("Shape", a)
    flat = net.op("Reshape", net.op("GlobalAveragePool", a), net.op("Slice", s, net.const(np.array([0])), net.const(np.array([2]))))
    return _gemm(net, flat, 6, 3, 1)


def constant_node(net: Net) -> str:
    import onnx

    value = onnx.numpy_helper.from_array(net.random(6, 3, 3, 3).astype(np.float32))
    net.nodes.append(onnx.helper.make_node("Constant", [], ["w"], value=value))
    a = net.op("Conv", _x(net), "w")
    net.widths[a] = 6
    return head(net, relu(net, a, "a"))


def captured(net: Net) -> str:
    from onnx import helper

    a = relu(net, net.conv(_x(net), 6), "a")
    b = relu(net, net.conv(a, 4), "b")
    body = [
        helper.make_graph([helper.make_node(op, ["a"], [f"{op}_o"])], op, [], [helper.make_tensor_value_info(f"{op}_o", 1, None)])
        for op in ("Neg", "Abs")
    ]
    picked = net.op("If", net.const(np.array(True)), out="picked", then_branch=body[0], else_branch=body[1])
    net.widths[picked] = 6
    return net.op("Add", head(net, b), net.conv(picked, 5, 3))


def quantized(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    scale, zero = net.const(np.float32(0.05)), net.const(np.uint8(3))
    return head(net, net.op("DequantizeLinear", net.op("QuantizeLinear", a, scale, zero), scale, zero))


def quantized_per_channel(net: Net, axis: int) -> str:
    """Weights in integers with a scale and a zero point a channel of their ``axis``: rows 0, columns 1."""
    rng = np.random.default_rng(1)
    count = (6, 3)[axis]
    whole = net.const(rng.integers(-100, 100, (6, 3, 3, 3)).astype(np.int8))
    scale, zero = net.const(net.random(count, low=0.01, high=0.02)), net.const(rng.integers(-3, 3, count).astype(np.int8))
    weight = net.op("DequantizeLinear", whole, scale, zero, axis=axis)
    a = net.op("Conv", _x(net), weight)
    net.widths[a] = 6
    b = relu(net, a, "a")
    whole = net.const(rng.integers(-100, 100, (5, 6, 1, 1)).astype(np.int8))
    count = (5, 6)[axis]
    scale, zero = net.const(net.random(count, low=0.01, high=0.02)), net.const(rng.integers(-3, 3, count).astype(np.int8))
    return net.op("Conv", b, net.op("DequantizeLinear", whole, scale, zero, axis=axis))


def quantized_activations_per_channel(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    scale, zero = net.const(net.random(6, low=0.01, high=0.02)), net.const(np.zeros(6, np.uint8))
    return head(net, net.op("DequantizeLinear", net.op("QuantizeLinear", a, scale, zero), scale, zero))


def computed_weight(net: Net) -> str:
    """A convolution whose weight another layer makes: rows and columns are channels like any others."""
    w = net.op(
        "Reshape", net.op("MatMul", net.input(6, 3, name="w"), net.const(net.random(3, 3))), net.const(np.array([6, 3, 1, 1]))
    )
    a = net.op("Conv", net.conv(_x(net), 3), w)
    net.widths[a] = 6
    return head(net, relu(net, a, "a"))


def recurrent(net: Net, kind: str, gates: int, directions: int = 1) -> str:
    """[T, B, I] -> layer of 6 units -> layer of 4 units -> a product."""
    hidden = 6
    x = net.op("MatMul", net.input(5, 2, 7), net.const(net.random(7, 8)), out="x8")
    parameters = [net.random(directions, gates * hidden, 8), net.random(directions, gates * hidden, hidden)]
    extra: list[str] = [net.const(net.random(directions, 2 * gates * hidden)), "", net.const(net.random(directions, 2, hidden))]
    if kind == "LSTM":
        extra += [net.const(net.random(directions, 2, hidden)), net.const(net.random(directions, 3 * hidden))]
    way = {"direction": "bidirectional"} if directions == 2 else {}
    y = net.op(kind, x, *(net.const(p) for p in parameters), *extra, hidden_size=hidden, out="y", **way)
    y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.const(np.array([0, 0, -1])))
    z = net.op(
        kind,
        y,
        net.const(net.random(1, gates * 4, directions * hidden)),
        net.const(net.random(1, gates * 4, 4)),
        hidden_size=4,
        out="z",
    )
    return net.op("MatMul", net.op("Squeeze", z, net.const(np.array([1]))), net.const(net.random(4, 3)))


def fused_attention(net: Net, how: str) -> str:
    """Queries, keys and values of two heads of four from one product, told apart by Gather, Split or Slice."""
    i = net.input(2, 5, 8)
    qkv = net.op("Add", net.op("MatMul", i, net.const(net.random(8, 24))), net.const(net.random(24)), out="qkv")
    if how == "split":
        net.op("Split", qkv, net.const(np.array([8, 8, 8])), out="part", outputs=3, axis=2)
        parts = ["part", "part_1", "part_2"]
        parts = [net.op("Reshape", p, net.const(np.array([2, 5, 2, 4]))) for p in parts]
        q, k, v = (net.op("Transpose", p, perm=[0, 2, 1, 3]) for p in parts)
    else:
        wide = net.op("Transpose", net.op("Reshape", qkv, net.const(np.array([2, 5, 3, 2, 4]))), perm=[2, 0, 3, 1, 4])
        if how == "gather":
            q, k, v = (net.op("Gather", wide, net.const(np.array(n)), axis=0) for n in range(3))
        else:
            ends = [[net.const(np.array([v])) for v in (n, n + 1, 0)] for n in range(3)]
            q, k, v = (net.op("Squeeze", net.op("Slice", wide, *e), net.const(np.array([0]))) for e in ends)
    q = net.op("Mul", q, net.const(np.float32(0.5)))
    score = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
    score = net.op("Softmax", net.op("Add", score, net.const(net.random(1, 2, 5, 5))))
    mixed = net.op("Transpose", net.op("MatMul", score, v), perm=[0, 2, 1, 3], out="mixed")
    return net.op("MatMul", net.op("Reshape", mixed, net.const(np.array([2, 5, 8]))), net.const(net.random(8, 3)))


def grouped_query(net: Net) -> str:
    """Four heads of queries, two of keys and values, which Expand repeats."""
    i = net.input(2, 5, 8)
    q = net.op("Reshape", net.op("MatMul", i, net.const(net.random(8, 16)), out="q"), net.const(np.array([2, 5, 4, 4])))
    q = net.op("Transpose", q, perm=[0, 2, 1, 3])
    made = []
    for name in "kv":
        x = net.op("Reshape", net.op("MatMul", i, net.const(net.random(8, 8)), out=name), net.const(np.array([2, 5, 2, 4])))
        x = net.op("Unsqueeze", net.op("Transpose", x, perm=[0, 2, 1, 3]), net.const(np.array([2])))
        x = net.op("Expand", x, net.const(np.array([2, 2, 2, 5, 4])))
        made.append(net.op("Reshape", x, net.const(np.array([2, 4, 5, 4]))))
    score = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", made[0], perm=[0, 1, 3, 2])))
    mixed = net.op("Transpose", net.op("MatMul", score, made[1]), perm=[0, 2, 1, 3])
    return net.op("MatMul", net.op("Reshape", mixed, net.const(np.array([2, 5, 16]))), net.const(net.random(16, 3)))


def equal_vectors(net: Net) -> str:
    """Two layers whose biases are one initializer: their channels have nothing to do with each other."""
    i, b = _x(net), net.const(net.random(6), "b")
    made = []
    for name in ("a", "c"):
        y = relu(net, net.op("Conv", i, net.const(net.random(6, 3, 3, 3)), b), name)
        net.widths[y] = 6
        made.append(head(net, y))
    return net.op("Add", *made)


def group_norm_lowered(net: Net) -> str:
    a = net.op("Reshape", net.conv(_x(net), 6), net.const(np.array([0, 2, -1])))
    a = net.op("InstanceNormalization", a, net.const(np.ones(2)), net.const(np.zeros(2)))
    a = net.op("Reshape", a, net.const(np.array([0, 6, 6, 6])), out="a")
    net.widths[a] = 6
    return head(net, a)


def attention(net: Net) -> str:
    i = net.input(2, 5, 8)
    q, k, v = (net.op("MatMul", i, net.const(net.random(8, 8)), out=n) for n in "qkv")
    score = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])))
    return net.op("MatMul", net.op("MatMul", score, v), net.const(net.random(8, 3)))


def two_batches(net: Net) -> str:
    a = relu(net, net.conv(_x(net), 6), "a")
    r = net.op("Reshape", a, net.const(np.array([12, 1, 6, 6])))
    net.widths[r] = 1
    r = net.op("Reshape", net.conv(r, 2, pad=1), net.const(np.array([2, 12, 6, 6])))
    net.widths[r] = 12
    return head(net, r)


def embedding(net: Net) -> str:
    ids = net.op("Cast", net.op("Abs", net.input(2, 7)), to=7)
    words = net.op("Gather", net.const(net.random(20, 8)), net.op("Mod", ids, net.const(np.array(20))), out="words")
    return net.op("MatMul", net.op("Tanh", words), net.const(net.random(8, 3)))


CASES: dict[str, Case] = {
    "embedding": Case(embedding, {"words": 8}),
    "residual": Case(residual, {"spine": 8, "inner": 6}),
    "projection": Case(projection, {"a": 6, "inner": 4, "sum": 8}),
    "concat nested": Case(concat_nested, {"a": 4, "b": 6, "c": 3}),
    "concat with itself": Case(concat_itself, {"a": 4}),
    "concat with a constant": Case(concat_constant, {"a": 4}),
    "concat with the input": Case(concat_input, {"a": 4}),
    "concat on another axis": Case(concat_spatial, {"a": 4}),
    "unequal split with bypass": Case(split_bypass, {"s": 2, "s_1": 4, "s_2": 3}),
    "split into halves that meet": Case(split_equal, {"a": 4}, opset=12),
    "split by attribute": Case(split_attribute, {"a": 8}, opset=11),
    "strided slice": Case(strided_slice, {"a": 8}),
    "slice from behind": Case(slice_range, {"a": 8}),
    "gather by constant": Case(gather_constant, {"a": 6}),
    "depthwise": Case(depthwise, {"a": 6, "d": 6}),
    "depthwise with multiplier 3": Case(depthwise_multiplier, {"a": 4, "d": 4}),
    "grouped": Case(grouped, {"a": 6, "b": 1, "c": 3}),
    "more groups than channels in one": Case(many_groups, {"a": 6, "b": 6}),
    "grouped across a concat": Case(grouped_after_concat, {"g": 4}),
    "grouped on the input": Case(grouped_input, frozen={"a": "graph input"}),
    "transposed": Case(transposed, {"a": 6, "t": 5}),
    "transposed grouped": Case(transposed_grouped, {"a": 4, "t": 3}),
    "transposed depthwise": Case(transposed_depthwise, {"a": 6, "t": 6}),
    "one dimension": Case(conv1d, {"a": 6}),
    "three dimensions": Case(conv3d, {"a": 6}),
    "flatten, transB": Case(flatten_gemm, {"a": 5, "h": 7}),
    "flatten by reshape": Case(flatten_gemm_untransposed, {"a": 5}),
    "flatten channels last": Case(flatten_channels_last, {"a": 5}),
    "transA": Case(gemm_transposed_data, {"a": 8}),
    "matmul": Case(matmul, {"h": 8}),
    "matmul from the left": Case(matmul_left, {"h": 8}),
    "reshape that splits and joins": Case(reshape_split_axis, {"a": 4}),
    "shuffle": Case(shuffle, {"a": 4}),
    "shuffle uneven": Case(shuffle_uneven, {"a": 3}),
    "reshape across channels and pixels": Case(reshape_mixing, frozen={"a": "cuts across"}),
    "pixel shuffle DCR": Case(lambda n: pixel_shuffle(n, "DCR"), {"a": 3}),
    "pixel shuffle CRD": Case(lambda n: pixel_shuffle(n, "CRD"), {"a": 3}),
    "space to depth": Case(space_to_depth, {"a": 5}),
    "pixel shuffle lowered": Case(lowered_pixel_shuffle, {"a": 3}),
    "squeeze-excite": Case(squeeze_excite, {"a": 8, "inner": 4}),
    "squeeze-excite by mean": Case(lambda n: squeeze_excite(n, "ReduceMean"), {"a": 8, "inner": 4}),
    "spatial gate": Case(gate, {"a": 8}),
    "broadcast constants": Case(constants, {"a": 6}),
    "PRelu per channel": Case(lambda n: prelu(n, 6, 1, 1), {"a": 6}),
    "PRelu scalar": Case(lambda n: prelu(n, 1), {"a": 6}),
    "where": Case(where, {"a": 6}),
    "expand": Case(expand, {"a": 6}),
    "tile": Case(tile, {"a": 4}),
    "pad channels": Case(pad_channels, {"a": 4}),
    "squeeze and unsqueeze": Case(squeeze_unsqueeze, {"a": 6}),
    "shared initializers": Case(shared, {"a": 6, "b": 6}),
    "shared on both axes": Case(shared_axes, {"a": 6, "b": 6}),
    "an output inside": Case(inner_output, {"a": 6, "c": 4}, {"b": "graph output"}),
    "resize by sizes": Case(resize_sizes, {"a": 6}),
    "resize by scales": Case(resize_scales, {"a": 6}),
    "softmax over channels": Case(lambda n: softmax(n, 1), frozen={"a": "Softmax"}),
    "softmax over pixels": Case(lambda n: softmax(n, -1), {"a": 6}),
    "layer norm": Case(layer_norm, frozen={"h": "LayerNormalization"}),
    "a number of channels as a value": Case(layer_norm_by_count, frozen={"h": "computes with the number"}),
    "argmax over channels": Case(argmax, frozen={"t0": "ArgMax"}),
    "local response norm": Case(lrn, frozen={"a": "LRN"}),
    "instance norm": Case(instance_norm, {"a": 6}),
    "maximum over channels": Case(reduce_channels, frozen={"a": "ReduceMax"}, opset=13),
    "unknown operator": Case(unknown, {"b": 4}, {"a": "does not know"}),
    "gather by data": Case(dynamic_gather, frozen={"a": "ArgMax"}),
    "shape arithmetic with a constant width": Case(shape_arithmetic, {"a": 4}),
    "shape that counts channels": Case(shape_of_channels, {"a": 6}),
    "weight from a Constant node": Case(constant_node, {"a": 6}),
    "read inside a subgraph": Case(captured, {"b": 4}, {"a": "inside"}),
    "quantizers per tensor": Case(quantized, {"a": 6}),
    "quantized weights by row": Case(partial(quantized_per_channel, axis=0), {"a": 6}),
    "quantized weights by column": Case(partial(quantized_per_channel, axis=1), {"a": 6}),
    "quantized activations by channel": Case(quantized_activations_per_channel, {"a": 6}),
    "computed weight": Case(computed_weight, frozen={"a": "its weight cannot shrink"}),
    "LSTM": Case(partial(recurrent, kind="LSTM", gates=4), {"x8": 8, "y": 6, "z": 4}),
    "GRU": Case(partial(recurrent, kind="GRU", gates=3), {"x8": 8, "y": 6, "z": 4}),
    "RNN in both directions": Case(partial(recurrent, kind="RNN", gates=1, directions=2), {"x8": 8, "y": 6, "z": 4}),
    "LSTM in both directions": Case(partial(recurrent, kind="LSTM", gates=4, directions=2), {"x8": 8, "y": 6, "z": 4}),
    "fused attention, gather": Case(partial(fused_attention, how="gather"), {"qkv": 4, "mixed": 4}),
    "fused attention, slice": Case(partial(fused_attention, how="slice"), {"qkv": 4, "mixed": 4}),
    "fused attention, split": Case(partial(fused_attention, how="split"), {"qkv": 8, "mixed": 4}),
    "grouped queries": Case(grouped_query, {"q": 4, "k": 4, "v": 4}),
    "equal vectors": Case(equal_vectors, {"a": 6, "c": 6}),
    "group norm in three nodes": Case(group_norm_lowered, {"a": 2}),
    "attention": Case(attention, {"q": 8, "k": 8, "v": 8}),
    "channels as a batch": Case(two_batches, {"a": 6}),
}
