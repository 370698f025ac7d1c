"""The oracle itself: what it says of regions whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.nets import Net, feed_for
from tests.property.one_operator import missed


def x(net: Net, c: int = 4, size: int = 8) -> str:
    return net.input(1, c, size, size)


ONE: dict[str, tuple[Callable[[Net], str], list[int]]] = {
    "conv-bn": (lambda n: n.bn(n.conv(x(n), 4)), [1]),
    "a convolution alone": (lambda n: n.conv(x(n), 4), []),
    "1x1 without bias then padded 3x3": (lambda n: n.conv(n.conv(x(n), 6, 1, bias=False), 4, pad=1), [1]),
    "1x1 with bias then padded 3x3": (lambda n: n.conv(n.conv(x(n), 6, 1), 4, pad=1), []),
    "3x3 without pad then padded 1x1": (lambda n: n.conv(n.conv(x(n), 6, 3, bias=False), 4, 1, pad=1), []),
    "3x3 padded then 3x3": (lambda n: n.conv(n.conv(x(n), 6, 3, pad=1), 4, 3), [1]),
    "3x3 padded then 3x3 padded": (lambda n: n.conv(n.conv(x(n), 6, 3, pad=1, bias=False), 4, 3, pad=1), []),
    "strides 2 and 2": (lambda n: n.conv(n.conv(x(n, size=9), 6, 1, strides=[2, 2]), 4, 2, strides=[2, 2]), [1]),
    "a sum with a skip": (lambda n: n.op("Add", n.conv(i := x(n), 4, pad=1), i), [1]),
    "an average pool that leaves its pad out": (
        lambda n: n.op("AveragePool", n.conv(x(n), 4, 1), kernel_shape=[3, 3], pads=[1] * 4), [],
    ),
    "an average pool that counts its pad": (
        lambda n: n.op(
            "AveragePool", n.conv(x(n), 4, bias=False, pad=2), kernel_shape=[3, 3], pads=[1] * 4, strides=[3, 3],
            count_include_pad=1,
        ), [1],
    ),
    "a mean after a convolution, dearer as one": (lambda n: n.op("AveragePool", n.conv(x(n), 4), kernel_shape=[3, 3]), []),
    "depthwise then pointwise, dearer as one": (lambda n: n.conv(n.conv(x(n), 4, group=4), 8, 1), []),
    "a rectified map is not affine": (lambda n: n.conv(n.op("Relu", n.conv(x(n), 4)), 4), []),
    "convolution and shuffle": (lambda n: n.op("DepthToSpace", n.conv(x(n), 8), blocksize=2), []),
    "convolution, shuffle, scale": (lambda n: n.op("Neg", n.op("DepthToSpace", n.conv(x(n), 8), blocksize=2)), [2]),
    "transposed, then scale": (
        lambda n: n.op("Neg", n.op("ConvTranspose", x(n), n.const(n.random(4, 2, 3, 3)), strides=[2, 2], pads=[1] * 4)), [1],
    ),
    "a pad that needs another side": (lambda n: n.conv(n.op("Pad", x(n), n.const(np.asarray([0, 0, 0, 1, 0, 0, 2, 0]))), 4), [1]),
    "a crop of the first row": (
        lambda n: n.op("Slice", n.conv(x(n), 4), n.const(np.asarray([1])), n.const(np.asarray([99])), n.const(np.asarray([2]))), [],
    ),
    "Gemm chain": (lambda n: n.op("Gemm", n.op("Gemm", n.input(3, 4), n.const(n.random(4, 8))), n.const(n.random(8, 2))), [1]),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_what_could_be_one_operator(name: str) -> None:
    build, expected = ONE[name]
    net = Net(seed=len(name), dtype=np.float64)
    proto = net.model(build(net))
    assert [m.fewest for m in missed(proto, feed_for(proto), dynamic=False)] == expected


@pytest.mark.parametrize(("size", "expected"), [(8, [1]), (9, [])])
def test_what_holds_at_one_size_only_counts_there(size: int, expected: list[int]) -> None:
    """2x2 by 2 without a bias, then a 1x1 padded at the end: of 9 rows the last is cut off, of 8 none."""
    net = Net(dtype=np.float64)
    inner = net.conv(x(net, size=size), 6, 2, strides=[2, 2], bias=False)
    proto = net.model(net.conv(inner, 4, 1, pads=[0, 0, 1, 1]))
    assert [m.fewest for m in missed(proto, feed_for(proto), dynamic=False)] == expected
