"""Channels that training left dead go at ratio 0, and the outputs stay what they were; what only looks dead stays.

Each network has a convolution of 6 channels, "a", of which channels 1 and 4 are made dead in some way; what lies between them and
the next convolution is the case. ``goes`` says whether they can go: where the channel is a constant other than 0 (mode C), only
through a consumer that has no border, or with the border made up for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest

from tests.nets import feed_for
from tests.pruning.check import distance
from tests.pruning.known import parameters
from tests.pruning.nets import Distinct, values_of
from tests.pruning.subject import dead_only

DEAD = (1, 4)
STORED = 1e-6
"""Of an output's range: what a constant adds is rounded to the file's float32 when it becomes part of a bias."""

Between = Callable[[Distinct, str], str]


@dataclass(frozen=True)
class Dead:
    goes: bool
    between: Between = lambda net, x: net.op("Relu", x)
    filters: bool = True
    bias: bool = False
    kernel: int = 3
    pad: int = 1
    columns: bool = False


def _zeroed(array: Any, axis: int = 0) -> Any:
    made = np.array(array)
    made[(slice(None),) * axis + (list(DEAD),)] = 0
    return made


def network(dead: Dead, seed: int = 0) -> onnx.ModelProto:
    net = Distinct(seed)
    i = net.input(2, 3, 8, 8)
    weight = net.random(6, 3, 3, 3)
    inputs = [i, net.const(_zeroed(weight) if dead.filters else weight)]
    if dead.bias:
        inputs.append(net.const(net.random(6)))
    a = net.op("Conv", *inputs, pads=[1] * 4, out="a")
    net.widths[a] = 6
    b = dead.between(net, a)
    width = net.widths.get(b) or 6
    reads = net.random(5, width, dead.kernel, dead.kernel)
    made = net.op("Conv", b, net.const(_zeroed(reads, 1) if dead.columns else reads), net.const(net.random(5)), pads=[dead.pad] * 4)
    net.widths[made] = 5
    return net.model(net.conv(net.op("Relu", made), 3, 1))


def _op(kind: str, *constants: Any, first: bool = False, **attrs: Any) -> Between:
    def build(net: Distinct, x: str) -> str:
        others = [net.const(np.asarray(c, np.int64 if np.asarray(c).dtype.kind == "i" else np.float32)) for c in constants]
        made = net.op(kind, *([*others, x] if first else [x, *others]), **attrs)
        net.widths[made] = 6
        return made

    return build


def _batch_norm(scale: bool, shift: bool, mean: bool = True) -> Between:
    def build(net: Distinct, x: str) -> str:
        values = [net.random(6, low=0.5, high=1.5), net.random(6), net.random(6), net.random(6, low=0.5, high=1.5)]
        values = [_zeroed(v) if z else v for v, z in zip(values, (scale, shift, mean and not scale, False), strict=True)]
        return net.op("BatchNormalization", x, *map(net.const, values))

    return build


def _mask(net: Distinct, x: str) -> str:
    made = net.op("Mul", net.const(_zeroed(np.ones((1, 6, 1, 1)), 1)), net.op("Sigmoid", x))
    net.widths[made] = 6
    return made


def _residual(net: Distinct, x: str) -> str:
    return net.op("Add", net.op("Relu", x), net.conv("x", 6, 1))


def _dead_sum(net: Distinct, x: str) -> str:
    other = net.op("Conv", "x", net.const(_zeroed(net.random(6, 3, 1, 1))))
    return net.op("Add", net.op("Relu", x), other)


def _depthwise(bias: bool) -> Between:
    def build(net: Distinct, x: str) -> str:
        return net.conv(x, 6, 3, pad=1, group=6, bias=bias)

    return build


def _excite(net: Distinct, x: str) -> str:
    s = net.op("Sigmoid", net.conv(net.op("GlobalAveragePool", x), 6, 1))
    return net.op("Mul", x, s)


def _concat(net: Distinct, x: str) -> str:
    made = net.op("Concat", x, net.conv("x", 2, 1), axis=1)
    net.widths[made] = 8
    return made


def _grouped_uneven(net: Distinct, x: str) -> str:
    """Blocks of 2: channels 1 and 4 lie in the first and the last, none in the middle."""
    return net.conv(x, 6, 1, group=3, bias=False)


def _quantize(net: Distinct, x: str) -> str:
    pair = net.const(np.float32(0.05)), net.const(np.uint8(100))
    return net.op("DequantizeLinear", net.op("QuantizeLinear", x, *pair), *pair)


def _where(net: Distinct, x: str) -> str:
    return net.op("Where", net.op("Less", net.conv("x", 6, 1), net.const(np.float32(0))), x, net.const(np.float32(0.5)))


CASES: dict[str, Dead] = {
    "zero filters": Dead(True),
    "zero filters, unused columns too": Dead(True, columns=True),
    "zero columns of the reader": Dead(True, filters=False, bias=True, columns=True),
    "batch norm of zero scale and shift": Dead(True, _batch_norm(True, True), filters=False, bias=True),
    "batch norm of zero shift and mean behind zero filters": Dead(True, _batch_norm(False, True)),
    "a constant mask": Dead(True, _mask, filters=False, bias=True),
    "a mask in [C,H,W]": Dead(True, _op("Mul", _zeroed(np.ones((6, 8, 8)))), filters=False, bias=True),
    "a sum of dead channels": Dead(True, _dead_sum),
    "a sum with live channels": Dead(False, _residual),
    "depthwise without bias": Dead(True, _depthwise(False)),
    "squeeze-excite": Dead(True, _excite),
    "beside others in a concat": Dead(True, _concat),
    "max pool": Dead(True, _op("MaxPool", kernel_shape=[3, 3], pads=[1] * 4)),
    "average pool": Dead(True, _op("AveragePool", kernel_shape=[3, 3], pads=[1] * 4)),
    "pad with zeros": Dead(True, _op("Pad", [0, 0, 1, 1, 0, 0, 1, 1])),
    "quantizers": Dead(True, _quantize),
    "Clip around zero": Dead(True, _op("Clip", -1.0, 1.0)),
    "Softmax of the pixels": Dead(False, _op("Softmax", axis=3)),
    "grouped, uneven counts": Dead(False, _grouped_uneven),
    "pad with ones": Dead(False, _op("Pad", [0, 0, 1, 1, 0, 0, 1, 1], 1.0)),
    "Clip above zero": Dead(False, _op("Clip", 0.25, 1.0)),
    "Where with a constant": Dead(False, _where),
    "zero to the power of zero": Dead(False, _op("Pow", 0.0)),
    "a constant less a dead channel": Dead(False, _op("Sub", 1.0, first=True)),
    "at most a negative constant": Dead(False, _op("Min", -0.5)),
    "at least a constant": Dead(False, _op("Max", 0.5)),
    "Cos": Dead(False, _op("Cos")),
    "Exp": Dead(False, _op("Exp")),
    "HardSigmoid": Dead(False, _op("HardSigmoid")),
    "Softplus, padded reader": Dead(False, _op("Softplus")),
    "Sigmoid, padded reader": Dead(False, _op("Sigmoid")),
    "a bias, padded reader": Dead(False, bias=True),
    "a batch norm's shift, padded reader": Dead(False, _batch_norm(True, False), filters=False, bias=True),
    "depthwise with bias, padded reader": Dead(False, _depthwise(True)),
    "Sigmoid, 1x1 reader": Dead(True, _op("Sigmoid"), kernel=1, pad=0),
    "Sigmoid, unpadded reader": Dead(True, _op("Sigmoid"), pad=0),
    "a bias, 1x1 reader": Dead(True, bias=True, kernel=1, pad=0),
    "a bias, unpadded reader": Dead(True, bias=True, pad=0),
    "a batch norm's shift, 1x1 reader": Dead(True, _batch_norm(True, False), filters=False, bias=True, kernel=1, pad=0),
    "a bias, 1x1 reader with a border": Dead(False, bias=True, kernel=1, pad=1),
}  # fmt: skip


@pytest.mark.parametrize("name", parameters(CASES, "dead, outputs"))
def test_outputs_stay(name: str) -> None:
    original = network(CASES[name])
    pruned, _ = dead_only(original)
    feed = feed_for(original)
    output = original.graph.output[0].name
    assert distance(values_of(original, feed)[output], values_of(pruned, feed)[output]) <= STORED


def _biases(net: Distinct) -> str:
    """Of zero filters the biases of 1, 2, 3 and 4; the others have none."""
    weight = net.random(12, 3, 1, 1)
    weight[:4] = 0
    a = net.op("Conv", net.input(2, 3, 6, 6), net.const(weight), net.const(np.array([1.0, 2, 3, 4, *[0] * 8])), out="a")
    net.widths[a] = 12
    return a


def _pixels(net: Distinct) -> str:
    made = net.op("DepthToSpace", _biases(net), blocksize=2, mode="CRD")
    net.widths[made] = 3
    return net.conv(made, 3, 1)


def _blocks(net: Distinct) -> str:
    return net.conv(net.conv(_biases(net), 6, 1, group=3), 3, 1)


@pytest.mark.parametrize("build", [_pixels, _blocks])
def test_channels_that_go_together_have_biases_of_their_own(build: Callable[[Distinct], str]) -> None:
    net = Distinct(0)
    original = net.model(build(net))
    pruned, _ = dead_only(original)
    feed, output = feed_for(original), original.graph.output[0].name
    assert distance(values_of(original, feed)[output], values_of(pruned, feed)[output]) <= STORED


@pytest.mark.parametrize("name", parameters((n for n, c in CASES.items() if c.goes), "dead, goes"))
def test_dead_channels_go(name: str) -> None:
    pruned, _ = dead_only(network(CASES[name]))
    weight = next(n.input[1] for n in pruned.graph.node if n.output[0] == "a")
    assert [i.dims[0] for i in pruned.graph.initializer if i.name == weight] == [4]


def test_nothing_is_dead() -> None:
    original = network(Dead(False, filters=False, bias=True))
    pruned, outcome = dead_only(original)
    assert not outcome.changed
    assert pruned.SerializeToString(deterministic=True) == original.SerializeToString(deterministic=True)
