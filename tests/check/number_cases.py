"""The cases of rules about numbers: integers, channels, budgets, drift. They go into the same table (``tests.check.cases``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.check.cases import Given, Make, case
from tests.nets import Net

# -- integers ---------------------------------------------------------------------------------------------------------------------


class Integers(Net):
    """Quantizers by hand: uint8 activations, int8 weights with a scale a channel, int32 biases."""

    SCALE = 0.05

    def dequantize(self, array: Any, scale: Any, zero: Any, **attrs: Any) -> str:
        return self.op("DequantizeLinear", self.const(array), self.const(scale), self.const(zero), **attrs)

    def quantized(self, x: str, scale: float = SCALE, kind: Any = np.uint8) -> str:
        names = [self.const(np.array(scale)), self.const(np.array(128 if kind == np.uint8 else 0, kind))]
        q = self.op("QuantizeLinear", x, *names)
        y = self.op("DequantizeLinear", q, *names)
        self.widths[y] = self.widths.get(x, 0)
        return y

    def qconv(self, x: str, width: int, *, bias_scale: float = 1.0, bias_kind: Any = np.int32, ends: float = 0.0) -> str:
        """A convolution of quantized things; ``bias_scale``: times the right one; ``ends``: share of weights at 127."""
        q = self.rng.integers(-100, 100, (width, self.widths[x], 3, 3)).astype(np.int8)
        q[self.rng.random(q.shape) < ends] = 127
        scale = self.random(width, low=0.01, high=0.02).astype(np.float32)
        weight = self.dequantize(q, scale, np.zeros(width, np.int8), axis=0)
        steps = (scale * np.float32(self.SCALE) * np.float32(bias_scale)).astype(np.float32)
        stored = self.rng.integers(-100, 100, width).astype(bias_kind)
        bias = self.dequantize(stored, steps, np.zeros(width, bias_kind), axis=0)
        y = self.op("Conv", x, weight, bias, pads=[1] * 4, kernel_shape=[3, 3])
        self.widths[y] = width
        return y


def integer_net(**options: Any) -> onnx.ModelProto:
    net = Integers()
    x = net.quantized(net.input(1, 16, 16, 16))
    return net.model(net.quantized(net.qconv(x, 16, **options)))


@case("GO200")
def float_net(bad: bool) -> onnx.ModelProto:
    if not bad:
        return integer_net()
    net = Net()
    return net.model(net.conv(net.op("Relu", net.conv(net.input(1, 16, 32, 32), 32, pad=1)), 32, pad=1))


@case("GO201")
def one_in_float(bad: bool) -> onnx.ModelProto:
    net = Integers()
    x = net.quantized(net.op("Relu", net.qconv(net.quantized(net.input(1, 16, 32, 32)), 64)))
    x = net.conv(x, 64, pad=1) if bad else net.qconv(x, 64)
    x = net.qconv(net.quantized(net.op("Relu", x)), 64)
    return net.model(net.quantized(x))


@case("GO202")
def island(bad: bool) -> onnx.ModelProto:
    net = Integers()
    x = net.quantized(net.input(1, 32, 32, 32))
    x = net.quantized(net.op("Relu", net.qconv(x, 32)))
    y = net.quantized(net.qconv(x, 32))
    added = net.op("Add", x, y)
    added = net.op("Relu", added)
    net.widths[added] = 32
    z = net.op("Sigmoid", added) if bad else net.op("Sigmoid", net.quantized(added))
    net.widths[z] = 32
    return net.model(net.quantized(net.qconv(net.quantized(z), 32)))


@case("GO203")
def twice_quantized(bad: bool) -> onnx.ModelProto:
    net = Integers()
    x = net.quantized(net.input(1, 16, 16, 16))
    return net.model(net.quantized(net.qconv(net.quantized(x, net.SCALE if bad else 0.06), 16)))


@case("GO203")
def quantized_again_without_zero_points(bad: bool) -> onnx.ModelProto:
    """No zero point means uint8 to a QuantizeLinear, and the type of its input to a DequantizeLinear."""
    net = Integers()
    steps = net.const(np.array(0.05))
    first = net.op("QuantizeLinear", net.input(1, 16), steps, net.const(np.array(0, np.uint8 if bad else np.int8)))
    again = net.op("QuantizeLinear", net.op("DequantizeLinear", first, steps), steps)
    return net.model(net.op("Neg", net.op("DequantizeLinear", again, steps)))


case("GO204")(lambda bad: integer_net(bias_scale=1.01 if bad else 1.0))
case("GO204")(lambda bad: integer_net(bias_kind=np.int8 if bad else np.int32))
case("GO207")(lambda bad: integer_net(ends=0.2 if bad else 0.0))


@case("GO205")
def quantized_before_relu(bad: bool) -> onnx.ModelProto:
    net = Integers()
    x = net.qconv(net.quantized(net.input(1, 16, 16, 16)), 16)
    return net.model(net.quantized(net.op("Relu", net.quantized(x) if bad else x)))


@case("GO206")
def zero_scale(bad: bool) -> onnx.ModelProto:
    net = Integers()
    return net.model(net.quantized(net.op("Relu", net.input(1, 4)), 0.0 if bad else 0.1))


@case("GO208")
def signed_activations(bad: bool) -> onnx.ModelProto:
    net = Integers()
    x = net.quantized(net.input(1, 16, 16, 16), kind=np.int8 if bad else np.uint8)
    return net.model(net.quantized(net.qconv(x, 16)))


# -- channels ---------------------------------------------------------------------------------------------------------------------


def two_convs(width: int) -> onnx.ModelProto:
    net = Net()
    return net.model(net.conv(net.op("Relu", net.conv(net.input(1, 16, 8, 8), width, pad=1)), 16, pad=1))


case("GO301")(lambda bad: two_convs(33 if bad else 32))
case("GO302")(lambda bad: two_convs(9 if bad else 16))


@case("GO303")
def odd_depthwise(bad: bool) -> onnx.ModelProto:
    net = Net()
    width = 20 if bad else 32
    x = net.op("Relu", net.conv(net.input(1, 16, 32, 32), width, 1))
    return net.model(net.conv(net.op("Relu", net.conv(x, width, pad=1, group=width)), 16, 1))


@case("GO304")
def mask(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 16, 8, 8), 32, pad=1))
    factors = np.ones((1, 32, 1, 1))
    factors[0, ::2] = 0.0 if bad else 0.5
    y = net.op("Mul", x, net.const(factors))
    return net.model(net.conv(y, 16, pad=1))


@case("GO304")
def window(bad: bool) -> onnx.ModelProto:
    """Zeros along a row of pixels are no masked channels."""
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 16, 8, 8), 8, pad=1))
    net.widths[y := net.op("Mul", x, net.const(np.hanning(8).reshape((1, 8, 1, 1) if bad else (1, 1, 1, 8))))] = 8
    return net.model(net.conv(y, 16, pad=1))


@case("GO304")
def masked_branch(bad: bool) -> onnx.ModelProto:
    """What is masked in one branch of a sum is still there in the sum."""
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 16, 8, 8), 16, pad=1))
    factors = np.ones((1, 16, 1, 1))
    factors[0, ::2] = 0.0
    net.widths[x] = 16
    masked = net.op("Mul", net.op("Relu", net.conv(x, 16, pad=1)), net.const(factors))
    net.widths[y := masked if bad else net.op("Add", x, masked)] = 16
    return net.model(net.conv(y, 16, pad=1))


@case("GO304")
def masked_output(bad: bool) -> onnx.ModelProto:
    """An output has the channels that it has."""
    net = Net()
    factors = np.ones((1, 8, 1, 1))
    factors[0, ::2] = 0.0
    net.widths[y := net.op("Mul", net.conv(net.input(1, 16, 8, 8), 8, pad=1), net.const(factors))] = 8
    return net.model(net.conv(y, 16, pad=1) if bad else y)


@case("GO305")
def zero_filters(bad: bool) -> onnx.ModelProto:
    proto = two_convs(32)
    weight, bias = proto.graph.initializer[0], proto.graph.initializer[1]
    for tensor in (weight, bias):
        array = numpy_helper.to_array(tensor).copy()
        if bad:
            array[:16] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return proto


# -- budgets: the limit of the trigger is just below what the model has, that of the twin just at it -------------------------------


def budget(name: str, count: int) -> Make:
    return lambda bad: Given(two_convs(32), limits={name: count - 1 if bad else count})


PARAMS = 16 * 32 * 9 + 32 + 32 * 16 * 9 + 16
case("GO410")(budget("max-params", PARAMS))
case("GO411")(budget("max-macs", 2 * 16 * 32 * 9 * 64))
case("GO412")(budget("max-bytes", len(two_convs(32).SerializeToString())))
case("GO413")(budget("max-activation", 4 * 64 * (16 + 32 + 32)))
case("GO414")(budget("max-nodes", 3))


@case("GO415")
def twice_as_slow(bad: bool) -> Given:
    def deep(count: int) -> onnx.ModelProto:
        net = Net()
        x = net.input(1, 64, 32, 32)
        for _ in range(count):
            x = net.op("Relu", net.conv(x, 64, pad=1))
        return net.model(x)

    return Given(deep(6 if bad else 2), against=deep(3), limits={"max-latency-ratio": 1.2})


# -- drift ------------------------------------------------------------------------------------------------------------------------


def drifting(name: str, least: float, build: Callable[[Net], str]) -> Make:
    """The same network with a little and with much noise on its weights."""

    def make(bad: bool) -> Given:
        net = Net()
        reference = net.model(build(net))
        noisy = onnx.ModelProto.FromString(reference.SerializeToString())
        rng = np.random.default_rng(1)
        for tensor in noisy.graph.initializer:
            array = numpy_helper.to_array(tensor)
            off = array + (1.0 if bad else 1e-6) * rng.standard_normal(array.shape)
            tensor.CopyFrom(numpy_helper.from_array(off.astype(array.dtype), tensor.name))
        return Given(noisy, against=reference, limits={name: least})

    return make


def classes(net: Net) -> str:
    x = net.input("N", 16)
    return net.op("MatMul", x, net.const(net.random(16, 10)))


def image(net: Net) -> str:
    return net.conv(net.input(1, 3, 16, 16), 3, pad=1)


case("GO510")(drifting("min-sqnr-db", 30, classes))
case("GO511")(drifting("min-psnr-db", 30, image))
case("GO512")(drifting("min-top1", 0.99, classes))
case("GO513")(drifting("min-cosine", 0.999, classes))
