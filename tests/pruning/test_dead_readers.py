"""Dead channels with a constant, and who reads them: what goes into a bias must be what the reader would have added, everywhere.

A convolution of 6 channels whose filters 1 and 4 are zero and whose bias is not: these channels are the same number at every pixel,
whatever the input. Each reader is a case; ``goes`` says whether the two channels can go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from tests.nets import feed_for
from tests.pruning.cases.case import ints, linear, wide
from tests.pruning.check import distance
from tests.pruning.known import parameters
from tests.pruning.nets import Distinct, values_of
from tests.pruning.subject import dead_only
from tests.pruning.test_dead import STORED, _zeroed


@dataclass(frozen=True)
class Reader:
    build: Callable[[Distinct, str], str]
    goes: bool | None = None
    """None where it is no matter: outputs must stay."""


def conv_and_conv(net: Distinct, a: str) -> str:
    """One reader without a border, one with."""
    return net.op("Add", net.conv(a, 4, 1), net.conv(a, 4, 3, pad=1))


def two_plain(net: Distinct, a: str) -> str:
    return net.op("Add", net.conv(a, 4, 1, bias=False), net.conv(net.op("Relu", a), 4, 1))


def shared_bias(net: Distinct, a: str) -> str:
    """Two readers have one bias, and one of them reads something else."""
    bias = net.const(net.random(4))
    first = net.op("Conv", a, net.const(net.random(4, 6, 1, 1)), bias)
    return wide(net, net.op("Mul", first, net.op("Conv", "x", net.const(net.random(4, 3, 1, 1)), bias)), 4)


def shared_weight(net: Distinct, a: str) -> str:
    weight = net.const(net.random(4, 6, 1, 1))
    b = net.conv("x", 6, 1)
    return wide(net, net.op("Mul", net.op("Conv", a, weight), net.op("Conv", b, weight)), 4)


def grouped(net: Distinct, a: str) -> str:
    return net.conv(a, 4, 1, group=2)


def depthwise_then_plain(net: Distinct, a: str) -> str:
    return net.conv(net.conv(a, 6, 3, group=6), 4, 1)


def padded_depthwise_then_plain(net: Distinct, a: str) -> str:
    return net.conv(net.conv(a, 6, 3, group=6, pad=1), 4, 1)


def strided(net: Distinct, a: str) -> str:
    return net.conv(a, 4, 3, strides=[2, 2], dilations=[2, 2])


def auto_padded(net: Distinct, a: str) -> str:
    return net.conv(a, 4, 3, auto_pad="SAME_UPPER")


def transposed(net: Distinct, a: str) -> str:
    """Kernel and stride of 2: every output pixel has one tap, but not all of them the same."""
    made = net.op("ConvTranspose", a, net.const(net.random(6, 4, 2, 2)), net.const(net.random(4)), strides=[2, 2])
    return wide(net, made, 4)


def transposed_overlapping(net: Distinct, a: str) -> str:
    made = net.op("ConvTranspose", a, net.const(net.random(6, 4, 3, 3)), strides=[2, 2], pads=[1] * 4)
    return wide(net, made, 4)


def pooled_gemm(net: Distinct, a: str) -> str:
    flat = net.op("Flatten", net.op("GlobalAveragePool", a))
    made = net.op("Gemm", flat, net.const(net.random(6, 4)), net.const(net.random(1, 4)), alpha=0.5, beta=2.0)
    return _as_map(net, made)


def _as_map(net: Distinct, flat: str) -> str:
    return wide(net, net.op("Unsqueeze", flat, ints(net, 2, 3)), 4)


def gemm_with_rows(net: Distinct, a: str) -> str:
    """A Gemm whose addend has a row for each sample."""
    flat = net.op("Flatten", net.op("GlobalMaxPool", a))
    return _as_map(net, net.op("Gemm", flat, net.const(net.random(4, 6)), net.const(net.random(2, 4)), transB=1, beta=0.5))


def gemm_without(net: Distinct, a: str) -> str:
    return _as_map(net, net.op("Gemm", net.op("Flatten", net.op("GlobalMaxPool", a)), net.const(net.random(6, 4)), alpha=3.0))


def flattened(net: Distinct, a: str) -> str:
    """All pixels of a channel into one row."""
    return _as_map(net, net.op("Gemm", net.op("Flatten", a), net.const(net.random(4, 216)), transB=1))


def tokens(net: Distinct, a: str) -> str:
    """A MatMul without a bias, and with an Add after it."""
    t = net.op("Transpose", net.op("Reshape", a, ints(net, 0, 6, -1)), perm=[0, 2, 1])
    made = net.op("Mul", linear(net, t, 6, 4), net.op("MatMul", t, net.const(net.random(6, 4))))
    return wide(net, net.op("Reshape", net.op("Transpose", made, perm=[0, 2, 1]), ints(net, 0, 4, 6, 6)), 4)


def queries(net: Distinct, a: str) -> str:
    """As queries, a constant meets keys that are not constant."""
    t = net.op("Transpose", net.op("Reshape", a, ints(net, 0, 6, -1)), perm=[0, 2, 1])
    k = net.op("Reshape", net.conv("x", 6, 1), ints(net, 0, 6, -1))
    made = net.op("MatMul", net.op("Softmax", net.op("MatMul", t, k), axis=-1), linear(net, t, 6, 4))
    return wide(net, net.op("Reshape", net.op("Transpose", made, perm=[0, 2, 1]), ints(net, 0, 4, 6, 6)), 4)


def values(net: Distinct, a: str) -> str:
    """As values, a constant stays one: the weights of a softmax add up to 1."""
    t = net.op("Transpose", net.op("Reshape", a, ints(net, 0, 6, -1)), perm=[0, 2, 1])
    q = net.op("Reshape", net.conv("x", 5, 1), ints(net, 0, 5, -1))
    score = net.op("Softmax", net.op("MatMul", net.op("Transpose", q, perm=[0, 2, 1]), q), axis=-1)
    made = linear(net, net.op("MatMul", score, t), 6, 4)
    return wide(net, net.op("Reshape", net.op("Transpose", made, perm=[0, 2, 1]), ints(net, 0, 4, 6, 6)), 4)


def pixel_by_pixel(net: Distinct, a: str) -> str:
    """Times a constant that differs from pixel to pixel: no longer one number."""
    return net.conv(net.op("Mul", a, net.const(net.random(6, 6, 6))), 4, 1)


def gated(net: Distinct, a: str) -> str:
    """Times something computed: no constant any more."""
    return net.conv(net.op("Mul", a, net.op("Sigmoid", net.conv("x", 1, 1))), 4, 1)


def concat(net: Distinct, a: str) -> str:
    return net.conv(wide(net, net.op("Concat", net.conv("x", 2, 1), a, net.op("Neg", a), axis=1), 14), 4, 1)


def padded_by_pad(net: Distinct, a: str) -> str:
    return net.conv(net.op("Pad", a, ints(net, 0, 0, 1, 1, 0, 0, 1, 1)), 4, 3)


def padded_by_edge(net: Distinct, a: str) -> str:
    return net.conv(net.op("Pad", a, ints(net, 0, 0, 1, 1, 0, 0, 1, 1), mode="edge"), 4, 3)


def average_with_border(net: Distinct, a: str) -> str:
    """An average that counts the border is smaller there."""
    return net.conv(net.op("AveragePool", a, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1), 4, 1)


def average_without(net: Distinct, a: str) -> str:
    return net.conv(net.op("AveragePool", a, kernel_shape=[3, 3], pads=[1] * 4), 4, 1)


def instance_normalised(net: Distinct, a: str) -> str:
    """A constant channel normalises to its shift."""
    return net.conv(net.op("InstanceNormalization", a, net.const(net.random(6)), net.const(net.random(6))), 4, 1)


def softmax_of_pixels(net: Distinct, a: str) -> str:
    return net.conv(net.op("Softmax", a, axis=3), 4, 1)


def cumulated(net: Distinct, a: str) -> str:
    return net.conv(net.op("CumSum", a, net.const(np.array(3))), 4, 1)


def spaced(net: Distinct, a: str) -> str:
    return net.conv(wide(net, net.op("SpaceToDepth", a, blocksize=2), 24), 4, 1)


def unknown(net: Distinct, a: str) -> str:
    return net.op("Add", net.conv(a, 4, 1), net.conv(net.op("Einsum", a, equation="nchw->nchw"), 4, 1))


def summed_with_live(net: Distinct, a: str) -> str:
    return net.conv(net.op("Add", a, net.conv("x", 6, 1)), 4, 1)


def twice_the_constant(net: Distinct, a: str) -> str:
    return net.conv(net.op("Sub", net.op("Mul", a, a), net.op("Abs", a)), 4, 1)


def resized(net: Distinct, a: str) -> str:
    return net.conv(net.op("Resize", a, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="linear"), 4, 1)


_GO = (
    two_plain,
    strided,
    pooled_gemm,
    gemm_without,
    flattened,
    tokens,
    concat,
    depthwise_then_plain,
    twice_the_constant,
)
_STAY = (conv_and_conv, auto_padded, queries, gated, summed_with_live, unknown, padded_depthwise_then_plain, average_with_border)
_STAY += (padded_by_pad, transposed)
_EITHER = (shared_bias, shared_weight, grouped, transposed_overlapping, gemm_with_rows, values, pixel_by_pixel, padded_by_edge)
_EITHER += (average_without, instance_normalised, softmax_of_pixels, cumulated, spaced, resized)

READERS: dict[str, Reader] = {
    f.__name__.replace("_", " "): Reader(f, goes) for goes, found in ((True, _GO), (False, _STAY), (None, _EITHER)) for f in found
}


def network(reader: Reader) -> onnx.ModelProto:
    net = Distinct(0)
    i = net.input(2, 3, 6, 6)
    a = net.op("Conv", i, net.const(_zeroed(net.random(6, 3, 3, 3))), net.const(net.random(6)), pads=[1] * 4, out="a")
    return net.model(net.conv(net.op("Tanh", reader.build(net, wide(net, a, 6))), 3, 1))


@pytest.mark.parametrize("name", parameters(READERS, "reader, outputs"))
def test_outputs_stay(name: str) -> None:
    original = network(READERS[name])
    pruned, _ = dead_only(original)
    feed, output = feed_for(original), original.graph.output[0].name
    assert distance(values_of(original, feed)[output], values_of(pruned, feed)[output]) <= STORED


@pytest.mark.parametrize("name", parameters((n for n, r in READERS.items() if r.goes is not None), "reader, goes"))
def test_what_goes(name: str) -> None:
    pruned, _ = dead_only(network(READERS[name]))
    weight = next(n.input[1] for n in pruned.graph.node if n.output[0] == "a")
    assert [i.dims[0] for i in pruned.graph.initializer if i.name == weight] == [4 if READERS[name].goes else 6]
