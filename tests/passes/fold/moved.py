"""Networks with selections, phases and matrix products, for the tests of fold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.nets import Net

Build = Callable[[Net], str]


def x(net: Net, c: int = 4, size: int | str = 9) -> str:
    return net.input(1, c, size, size)


def ints(net: Net, *values: int) -> str:
    return net.const(np.asarray(values, np.int64))


def sliced(net: Net, y: str, start: int, stop: int, axis: int = 1, step: int = 1) -> str:
    out = net.op("Slice", y, ints(net, start), ints(net, stop), ints(net, axis), ints(net, step))
    if axis == 1:
        net.widths[out] = len(range(start, stop, step))
    return out


def shuffled(net: Net, y: str, groups: int) -> str:
    """A channel shuffle; N, H and W are taken over."""
    c = net.widths[y]
    wide = net.op("Reshape", y, ints(net, 0, groups, c // groups, 9, 9))
    turned = net.op("Transpose", wide, perm=[0, 2, 1, 3, 4])
    out = net.op("Reshape", turned, ints(net, 0, c, 9, 9))
    net.widths[out] = c
    return out


def upscaled(net: Net, y: str, factor: int, mode: str = "DCR") -> str:
    out = net.op("DepthToSpace", y, blocksize=factor, mode=mode)
    net.widths[out] = net.widths[y] // factor**2
    return out


def nearest(net: Net, y: str, factor: int, **attrs: str) -> str:
    return net.op("Resize", y, "", net.const(np.asarray([1, 1, factor, factor], np.float32)), mode="nearest", **attrs)


def deconv(net: Net, y: str, width: int, kernel: int, stride: int, *, bias: bool = True, **attrs: object) -> str:
    weight = net.const(net.random(net.widths[y], width, kernel, kernel))
    names = [y, weight, *([net.const(net.random(width))] if bias else [])]
    out = net.op("ConvTranspose", *names, strides=[stride, stride], **attrs)
    net.widths[out] = width
    return out


def anchor(net: Net, mode: str, repeat: str) -> str:
    """Super-resolution on top of the repeated input: y = DepthToSpace(conv(x) + repeat(x)), in either order of channels."""
    i = x(net, 3)
    body = net.conv(net.conv(i, 16, 3, pad=1), 12, 1)
    if repeat == "concat":
        skip = net.op("Concat", i, i, i, i, axis=1)
    else:
        skip = net.op("Gather", i, ints(net, *np.repeat(range(3), 4)), axis=1)
    total = net.op("Add", body, skip)
    net.widths[total] = 12
    return upscaled(net, total, 2, mode)


def nearest_skip(net: Net, mode: str) -> str:
    i = x(net, 3)
    body = upscaled(net, net.conv(i, 12, 3, pad=1), 2, mode)
    return net.op("Add", body, nearest(net, i, 2))


def split_convs(net: Net) -> str:
    """A grouped convolution as it is written without groups."""
    i = x(net, 8)
    first = net.op("Split", i, ints(net, 4, 4), axis=1, outputs=2)
    net.widths |= {first: 4, f"{first}_1": 4}
    return net.op("Concat", net.conv(first, 6, 3, pad=1), net.conv(f"{first}_1", 6, 3, pad=1), axis=1)


def focus(net: Net) -> str:
    """Four strided slices side by side, then a convolution."""
    i = x(net, 3, 8)
    parts = [sliced(net, sliced(net, i, a, 8, 2, 2), b, 8, 3, 2) for b in (0, 1) for a in (0, 1)]
    y = net.op("Concat", *parts, axis=1)
    net.widths[y] = 12
    return net.conv(y, 8, 3, pad=1)


def long_skip(net: Net) -> str:
    """SESR: the one channel of the input is added to all channels of the features."""
    i = x(net, 1)
    return net.op("Add", net.conv(net.conv(i, 64, 5, pad=2), 16, 1), i)


def gemm(net: Net, y: str, c_in: int, c_out: int, **attrs: object) -> str:
    return net.op("Gemm", y, net.const(net.random(c_in, c_out)), net.const(net.random(c_out)), **attrs)


def reshaped(net: Net, y: str, *shape: int) -> str:
    return net.op("Reshape", y, ints(net, *shape))


MOVED: dict[str, tuple[Build, list[str]]] = {
    "conv-slice": (lambda n: sliced(n, n.conv(x(n), 8, 3), 2, 6), ["Conv"]),
    "depthwise conv-slice": (lambda n: sliced(n, n.conv(x(n, 8), 8, 3, group=8), 2, 6), ["Conv", "Slice"]),
    "conv-gather": (lambda n: n.op("Gather", n.conv(x(n), 8, 3), ints(n, 5, 1, -1), axis=1), ["Conv"]),
    "conv-shuffle-conv": (lambda n: n.conv(shuffled(n, n.conv(x(n), 32, 3, pad=1), 4), 4, 1), ["Conv"]),
    "shuffle alone": (lambda n: shuffled(n, x(n, 8), 2), ["Gather"]),
    "shuffle-conv": (lambda n: n.conv(shuffled(n, x(n, 8), 2), 4), ["Conv"]),
    "split, convs, concat": (split_convs, ["Conv"]),
    "concat-1x1": (lambda n: n.conv(cat(n, i := x(n), n.conv(i, 8, 3, pad=1)), 4, 1), ["Conv"]),
    "parallel convs, concat": (lambda n: n.op("Concat", n.conv(i := x(n), 4, 3, pad=1), n.conv(i, 6, 3, pad=1), axis=1), ["Conv"]),
    "focus": (focus, ["Conv"]),
    "crop after conv": (lambda n: sliced(n, n.conv(x(n), 4, 3, pad=1), 1, -1, 2), ["Conv"]),
    "conv-averagepool": (lambda n: n.op("AveragePool", n.conv(x(n, size=11), 4, 3), kernel_shape=[2, 2], strides=[2, 2]), ["Conv"]),
    "1x1-averagepool": (
        lambda n: n.op("AveragePool", n.conv(x(n), 4, 1), kernel_shape=[3, 3], strides=[3, 3]), ["AveragePool", "Conv"]
    ),
    "1x1-globalaveragepool": (lambda n: n.op("GlobalAveragePool", n.conv(x(n), 16, 1)), ["Conv", "GlobalAveragePool"]),
    "conv-d2s-bn": (lambda n: n.bn(upscaled(n, n.conv(x(n), 8, 3, pad=1), 2)), ["Conv", "DepthToSpace"]),
    "s2d-conv": (lambda n: n.conv(depth(n, x(n, 4, 8)), 4, 3, pad=1), ["Conv"]),
    "anchor, dcr, concat": (lambda n: anchor(n, "DCR", "concat"), ["Conv", "DepthToSpace"]),
    "anchor, crd, gather": (lambda n: anchor(n, "CRD", "gather"), ["Conv", "DepthToSpace"]),
    "nearest skip, dcr": (lambda n: nearest_skip(n, "DCR"), ["Conv", "DepthToSpace"]),
    "nearest skip, crd": (lambda n: nearest_skip(n, "CRD"), ["Conv", "DepthToSpace"]),
    "nearest-1x1": (lambda n: n.conv(nearest(n, x(n), 2), 4, 1), ["Conv", "Resize"]),
    "1x1-convtranspose": (lambda n: deconv(n, n.conv(x(n), 32, 1, bias=False), 6, 4, 2, pads=[1, 1, 1, 1]), ["ConvTranspose"]),
    "1x1-convtranspose with bias, kernel = stride": (lambda n: deconv(n, n.conv(x(n), 32, 1), 6, 2, 2), ["Conv", "DepthToSpace"]),
    "convtranspose-1x1": (lambda n: n.conv(deconv(n, x(n), 32, 4, 2, pads=[1, 1, 1, 1]), 4, 1), ["ConvTranspose"]),
    "convtranspose, odd": (
        lambda n: n.bn(deconv(n, x(n), 6, 3, 2, pads=[1, 1, 1, 1])), ["ConvTranspose"]
    ),
    "convtranspose, output padding": (
        lambda n: n.bn(deconv(n, x(n), 6, 3, 2, pads=[0, 1, 1, 0], output_padding=[1, 0])), ["ConvTranspose"]
    ),
    "convtranspose, dilated": (lambda n: n.bn(deconv(n, x(n), 6, 3, 3, dilations=[2, 2])), ["ConvTranspose"]),
    "gemm, reshape, gemm": (lambda n: gemm(n, reshaped(n, gemm(n, n.input(3, 8), 8, 6), -1, 6), 6, 4), ["Gemm"]),
    "matmul, reshape, gemm": (
        lambda n: gemm(n, reshaped(n, n.op("MatMul", n.input(2, 5, 8), n.const(n.random(8, 32))), -1, 32), 32, 6),
        ["Gemm", "Reshape"],
    ),
    "reshape, gemm, reshape": (
        lambda n: reshaped(n, gemm(n, reshaped(n, n.input(2, 5, 8), -1, 8), 8, 6), 2, 5, 6), ["Add", "MatMul"]
    ),
    "1x1, flatten, gemm": (lambda n: gemm(n, n.op("Flatten", n.conv(x(n, 8, 1), 32, 1)), 32, 6), ["Flatten", "Gemm"]),
    "channels last: transpose, matmul, transpose": (
        lambda n: n.op(
            "Transpose", n.op("MatMul", n.op("Transpose", n.conv(x(n), 16, 1), perm=[0, 2, 3, 1]), n.const(n.random(16, 4))),
            perm=[0, 3, 1, 2],
        ),
        ["Conv"],
    ),
    "one channel to all": (long_skip, ["Conv"]),
}  # fmt: skip


def cat(net: Net, *parts: str) -> str:
    out = net.op("Concat", *parts, axis=1)
    net.widths[out] = sum(net.widths[p] for p in parts)
    return out


def depth(net: Net, y: str) -> str:
    out = net.op("SpaceToDepth", y, blocksize=2)
    net.widths[out] = 4 * net.widths[y]
    return out
