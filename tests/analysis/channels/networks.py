"""Small networks of convolutions: spines, concatenations, grouped and transposed kernels, moves of data, shared weights."""

from __future__ import annotations

import numpy as np

from tests.nets import Net


def images(net: Net, c: int = 3, size: int | str = 8) -> str:
    return net.input(2, c, size, size)


def named(net: Net, x: str, name: str) -> str:
    """The same tensor under a name for the expectations."""
    return net.op("Identity", x, out=name)


def relu(net: Net, x: str, name: str = "") -> str:
    return net.op("Relu", x, out=name)


def head(net: Net, x: str, width: int = 5) -> str:
    return net.conv(x, width, 1)


def residual(net: Net) -> str:
    a = relu(net, net.bn(net.conv(images(net), 8, pad=1)), "spine")
    b = relu(net, net.conv(a, 6, pad=1), "inner")
    return head(net, net.op("Add", a, net.conv(b, 8, pad=1)))


def projection(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    b = net.conv(relu(net, net.conv(a, 4, 1), "inner"), 8, 1)
    return head(net, relu(net, net.op("Add", net.conv(a, 8, 1, bias=False), b), "sum"))


def concat_nested(net: Net) -> str:
    i = images(net)
    a, b, c = net.conv(i, 4), net.conv(i, 6), net.conv(i, 3)
    ab = net.op("Concat", named(net, a, "a"), named(net, b, "b"), axis=1)
    net.widths[ab] = 10
    abc = net.op("Concat", ab, named(net, c, "c"), a, axis=1)
    net.widths[abc] = 17
    return head(net, relu(net, abc))


def concat_itself(net: Net) -> str:
    a = relu(net, net.conv(images(net), 4), "a")
    aa = net.op("Concat", a, a, axis=1)
    net.widths[aa] = 8
    return head(net, aa)


def concat_constant(net: Net) -> str:
    a = relu(net, net.conv(images(net), 4), "a")
    c = net.op("Concat", a, net.const(net.random(2, 2, 6, 6)), axis=1)
    net.widths[c] = 6
    return head(net, c)


def concat_input(net: Net) -> str:
    i = images(net)
    c = net.op("Concat", relu(net, net.conv(i, 4, pad=1), "a"), i, axis=1)
    net.widths[c] = 7
    return head(net, c)


def concat_spatial(net: Net) -> str:
    i = images(net)
    return head(net, net.op("Concat", relu(net, net.conv(i, 4), "a"), net.conv(i, 4), axis=2))


def split_bypass(net: Net) -> str:
    a = net.conv(images(net), 9)
    net.op("Split", named(net, a, "a"), net.const(np.array([2, 4, 3])), out="s", outputs=3, axis=1)
    net.widths.update(s=2, s_1=4, s_2=3)
    b = net.conv(net.op("Relu", "s_1"), 4, pad=1)
    joined = net.op("Concat", "s", b, "s_2", axis=1)
    net.widths[joined] = 9
    return head(net, joined)


def split_equal(net: Net) -> str:
    a = relu(net, net.conv(images(net), 8), "a")
    net.op("Split", a, out="s", outputs=2, axis=1)
    net.widths.update(s=4, s_1=4)
    return head(net, net.op("Mul", "s", net.op("Sigmoid", "s_1")))


def split_attribute(net: Net) -> str:
    a = relu(net, net.conv(images(net), 8), "a")
    net.op("Split", a, out="s", outputs=2, axis=1, split=[3, 5])
    net.widths.update(s=3, s_1=5)
    return net.op("Add", head(net, "s"), head(net, "s_1"))


def strided_slice(net: Net) -> str:
    a = relu(net, net.conv(images(net), 8), "a")
    s = net.op("Slice", a, *(net.const(np.array([v])) for v in (1, 8, 1, 2)))
    net.widths[s] = 4
    return net.op("Add", head(net, s), head(net, a))


def slice_range(net: Net) -> str:
    a = relu(net, net.conv(images(net), 8), "a")
    s = net.op("Slice", a, *(net.const(np.array([v])) for v in (-6, 2**62, 1)))
    net.widths[s] = 6
    return head(net, s)


def gather_constant(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    g = net.op("Gather", a, net.const(np.array([5, 0, 2, -2, 0])), axis=1)
    net.widths[g] = 5
    return head(net, g)


def depthwise(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    return head(net, relu(net, net.conv(a, 6, group=6), "d"))


def depthwise_multiplier(net: Net) -> str:
    a = relu(net, net.conv(images(net), 4), "a")
    return head(net, relu(net, net.conv(a, 12, group=4), "d"))


def grouped(net: Net) -> str:
    a = relu(net, net.conv(images(net), 12), "a")
    b = relu(net, net.conv(a, 6, group=2), "b")
    return head(net, relu(net, net.conv(b, 9, 1, group=3), "c"))


def many_groups(net: Net) -> str:
    a = relu(net, net.conv(images(net), 12), "a")
    return head(net, relu(net, net.conv(a, 12, group=6), "b"))


def grouped_after_concat(net: Net) -> str:
    i = images(net)
    c = net.op("Concat", relu(net, net.conv(i, 3), "a"), net.conv(i, 5), axis=1)
    net.widths[c] = 8
    return head(net, relu(net, net.conv(c, 8, group=2), "g"))


def grouped_input(net: Net) -> str:
    return head(net, relu(net, net.conv(images(net, 4), 8, group=2), "a"))


def _transposed(net: Net, x: str, rows: int, group: int, out: str = "") -> str:
    weight = net.const(net.random(net.widths[x], rows, 2, 2))
    made = net.op("ConvTranspose", x, weight, net.const(net.random(rows * group)), out=out, group=group, strides=[2, 2])
    net.widths[made] = rows * group
    return made


def transposed(net: Net) -> str:
    return head(net, relu(net, _transposed(net, relu(net, net.conv(images(net), 6), "a"), 5, 1), "t"))


def transposed_grouped(net: Net) -> str:
    return head(net, relu(net, _transposed(net, relu(net, net.conv(images(net), 8), "a"), 3, 2), "t"))


def transposed_depthwise(net: Net) -> str:
    return head(net, relu(net, _transposed(net, relu(net, net.conv(images(net), 6), "a"), 2, 6), "t"))


def conv1d(net: Net) -> str:
    a = relu(net, net.bn(net.conv(net.input(2, 3, 9), 6, (3,))), "a")
    return net.conv(a, 4, (3,))


def conv3d(net: Net) -> str:
    a = relu(net, net.conv(net.input(1, 2, 4, 4, 4), 6, (2, 2, 2)), "a")
    return net.conv(net.op("GlobalMaxPool", a), 4, (1, 1, 1))


def gemm(net: Net, x: str, k: int, n: int, trans: int, out: str = "") -> str:
    weight = net.const(net.random(n, k) if trans else net.random(k, n))
    return net.op("Gemm", x, weight, net.const(net.random(n)), out=out, transB=trans, alpha=0.5)


def flatten_gemm(net: Net) -> str:
    a = relu(net, net.conv(images(net, size=6), 5), "a")
    return gemm(net, relu(net, gemm(net, net.op("Flatten", a), 80, 7, 1), "h"), 7, 4, 0)


def flatten_gemm_untransposed(net: Net) -> str:
    a = relu(net, net.conv(images(net, size=6), 5), "a")
    return gemm(net, net.op("Reshape", a, net.const(np.array([0, -1]))), 80, 4, 0)


def flatten_channels_last(net: Net) -> str:
    a = net.op("Transpose", relu(net, net.conv(images(net, size=6), 5), "a"), perm=[0, 2, 3, 1])
    return gemm(net, net.op("Flatten", a), 80, 4, 1)


def gemm_transposed_data(net: Net) -> str:
    a = relu(net, gemm(net, net.input(4, 6), 6, 8, 0), "a")
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
    a = relu(net, net.conv(images(net), 8), "a")
    r = net.op("Reshape", a, net.const(np.array([2, 2, 4, 36])))
    r = net.op("Reshape", net.op("Sigmoid", r), net.const(np.array([0, 8, 6, -1])))
    net.widths[r] = 8
    return head(net, r)


def shuffle(net: Net) -> str:
    a = relu(net, net.conv(images(net), 8), "a")
    r = net.op("Reshape", a, net.const(np.array([2, 2, 4, 6, 6])))
    r = net.op("Reshape", net.op("Transpose", r, perm=[0, 2, 1, 3, 4]), net.const(np.array([2, 8, 6, 6])))
    net.widths[r] = 8
    return head(net, r)


def shuffle_uneven(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    r = net.op("Reshape", a, net.const(np.array([2, 3, 2, -1])))
    r = net.op("Reshape", net.op("Transpose", r, perm=[0, 2, 1, 3]), net.const(np.array([2, -1, 6, 6])))
    net.widths[r] = 6
    return head(net, r)


def reshape_mixing(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    r = net.op("Reshape", a, net.const(np.array([2, 4, 54])))
    return net.op("MatMul", r, net.const(net.random(54, 3)))


def pixel_shuffle(net: Net, mode: str) -> str:
    a = named(net, net.conv(images(net), 12), "a")
    d = net.op("DepthToSpace", a, blocksize=2, mode=mode)
    net.widths[d] = 3
    return head(net, d)


def space_to_depth(net: Net) -> str:
    a = relu(net, net.conv(images(net), 5), "a")
    d = net.op("SpaceToDepth", a, blocksize=2)
    net.widths[d] = 20
    return head(net, d)


def lowered_pixel_shuffle(net: Net) -> str:
    a = named(net, net.conv(images(net), 12), "a")
    r = net.op("Reshape", a, net.const(np.array([-1, 3, 2, 2, 6, 6])))
    r = net.op("Reshape", net.op("Transpose", r, perm=[0, 1, 4, 2, 5, 3]), net.const(np.array([-1, 3, 12, 12])))
    net.widths[r] = 3
    return head(net, r)


def squeeze_excite(net: Net, pool: str = "GlobalAveragePool") -> str:
    a = relu(net, net.conv(images(net), 8), "a")
    s = net.op(pool, a, axes=[2, 3]) if pool == "ReduceMean" else net.op(pool, a)
    s = net.op("Sigmoid", net.conv(relu(net, net.conv(s, 4, 1), "inner"), 8, 1))
    return head(net, net.op("Mul", a, s))


def gate(net: Net) -> str:
    a = relu(net, net.conv(images(net), 8), "a")
    return head(net, net.op("Mul", a, net.op("Sigmoid", net.conv(a, 1, 1), out="gate")))


def constants(net: Net) -> str:
    a = net.conv(images(net), 6)
    for shape in ((6, 1, 1), (1, 6, 1, 1), (), (1,), (2, 6, 1, 1), (1, 6, 6, 6), (6, 6), (6,)):
        a = net.op("Add", a, net.const(net.random(*shape)))
    made = net.op("Mul", net.const(net.random(6, 1, 1)), a, out="a")
    net.widths[made] = 6
    return head(net, made)


def prelu(net: Net, *shape: int) -> str:
    return head(net, net.op("PRelu", net.conv(images(net), 6), net.const(net.random(*shape)), out="a"))


def where(net: Net) -> str:
    a = net.conv(images(net), 6)
    zero = net.const(np.zeros((), np.float32))
    return head(net, net.op("Where", net.op("Greater", a, zero), a, net.const(net.random(6, 1, 1)), out="a"))


def expand(net: Net) -> str:
    a = net.op("GlobalAveragePool", relu(net, net.conv(images(net), 6), "a"))
    e = net.op("Expand", a, net.const(np.array([2, 6, 3, 3])))
    return head(net, e)


def tile(net: Net) -> str:
    t = net.op("Tile", relu(net, net.conv(images(net), 4), "a"), net.const(np.array([1, 3, 1, 2])))
    net.widths[t] = 12
    return head(net, t)


def pad_channels(net: Net) -> str:
    a = relu(net, net.conv(images(net), 4), "a")
    p = net.op("Pad", a, net.const(np.array([0, 1, 1, 0, 0, 2, 0, 0])), net.const(np.float32(0.5)))
    net.widths[p] = 7
    return head(net, p)


def squeeze_unsqueeze(net: Net) -> str:
    a = net.op("GlobalAveragePool", relu(net, net.conv(images(net), 6), "a"))
    s = net.op("Squeeze", a, net.const(np.array([2, -1])))
    u = net.op("Unsqueeze", net.op("Tanh", s), net.const(np.array([-1, 2])))
    return head(net, u)


def shared(net: Net) -> str:
    i = images(net)
    w = net.const(net.random(6, 3, 3, 3), "w")
    v = net.const(net.random(4, 6, 1, 1), "v")
    a, b = net.op("Conv", i, w), net.op("Conv", net.op("Neg", i), w)
    return net.op("Add", net.op("Conv", relu(net, a, "a"), v), net.op("Conv", relu(net, b, "b"), v))


def shared_axes(net: Net) -> str:
    w = net.const(net.random(6, 6, 1, 1), "w")
    a = relu(net, net.op("Conv", net.conv(images(net), 6), w), "a")
    return head(net, relu(net, _with_width(net, net.op("Conv", a, w), 6), "b"))


def _with_width(net: Net, x: str, width: int) -> str:
    net.widths[x] = width
    return x


def inner_output(net: Net) -> tuple[str, str]:
    a = relu(net, net.conv(images(net), 6), "a")
    b = relu(net, net.conv(a, 6), "b")
    return b, head(net, relu(net, net.conv(b, 4), "c"))


def resize_sizes(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    return head(net, net.op("Resize", a, "", "", net.const(np.array([2, 6, 12, 12])), mode="nearest"))


def resize_scales(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    return head(net, net.op("Resize", a, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="linear"))
