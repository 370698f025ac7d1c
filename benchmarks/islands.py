"""Six small networks with operators that have no integer kernel: never slower than float, and what stays float has a reason.

    python -m benchmarks.islands [NAME...] [--seconds 8]

Random weights, 16 random samples. For each network: the time of ``fold,quant`` over that of ``fold`` (median and its interval,
sessions in turns, one thread), the error of the outputs, integer and float kernels of the runtime's own graph, and the operators
that stayed in float, by reason. The exit code is 1 if a result is slower than float beyond doubt.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx

import graphopt
from graphopt.runtime import Session
from graphopt.runtime.ratio import time_ratio
from tests.nets import Array, Net, feed_for

SAMPLES = 16


class Draft(Net):
    """Weights of the usual size, so that values keep theirs through many layers."""

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Array:
        """Normal, of a deviation that keeps the size of what a kernel reads; ``Net`` draws evenly from an interval."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 16
        drawn: Array = (low + high) / 2 + self.rng.standard_normal(shape) * (high - low) / 2 * np.sqrt(2 / fan_in)
        return drawn

    def linear(self, x: str, width: int, out: int) -> str:
        """[..., width] to [..., out], with a bias."""
        y = self.op("MatMul", x, self.const(self.rng.standard_normal((width, out)) * width**-0.5))
        return self.op("Add", y, self.const(self.random(out) * 0.1))


def silu_residual(net: Draft) -> str:
    x = net.conv(net.input(1, 3, 64, 64), 48, pad=1)
    for _ in range(4):
        y = net.conv(x, 48, pad=1)
        y = net.op("Mul", y, net.op("Sigmoid", y))
        x = net.op("Add", x, net.conv(y, 48, pad=1))
    return net.conv(x, 3, pad=1)


def u_net(net: Draft) -> str:
    """Two levels, with bilinear Resize on the way up."""
    x, skips = net.input(1, 3, 64, 64), []
    for width in (32, 64):
        x = net.op("Relu", net.conv(x, width, pad=1))
        skips.append(x)
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Relu", net.conv(x, 96, pad=1))
    for skip in reversed(skips):
        width = net.widths[skip]
        up = net.op("Resize", x, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="linear")
        joined = net.op("Concat", up, skip, axis=1)
        net.widths[joined] = net.widths[x] + width
        x = net.op("Relu", net.conv(joined, width, pad=1))
    return net.conv(x, 3, 1)


def hard_swish(net: Draft) -> str:
    """Inverted residuals with squeeze-excite, as in MobileNetV3."""
    x = net.op("HardSwish", net.conv(net.input(1, 3, 112, 112), 24, pad=1, strides=[2, 2]))
    for _ in range(4):
        y = net.op("HardSwish", net.conv(x, 96, 1))
        y = net.op("HardSwish", net.conv(y, 96, 5, pad=2, group=96))
        gate = net.op("Relu", net.conv(net.op("GlobalAveragePool", y), 24, 1))
        gate = net.op("HardSigmoid", net.conv(gate, 96, 1), alpha=1 / 6)
        x = net.op("Add", x, net.conv(net.op("Mul", y, gate), 24, 1))
    return net.op("Flatten", net.op("GlobalAveragePool", net.conv(x, 64, 1)))


def transformer(net: Draft) -> str:
    """Two layers, 64 tokens of 128 features, 4 heads."""
    x, width, heads = net.input(1, 64, 128), 128, 4

    def normalized(t: str) -> str:
        return net.op("LayerNormalization", t, net.const(np.ones(width)), net.const(np.zeros(width)))

    def split(t: str, *order: int) -> str:
        return net.op("Transpose", net.op("Reshape", t, net.const(np.array([1, 64, heads, width // heads]))), perm=list(order))

    for _ in range(2):
        y = normalized(x)
        q, k, v = (net.linear(y, width, width) for _ in range(3))
        scores = net.op("MatMul", split(q, 0, 2, 1, 3), split(k, 0, 2, 3, 1))
        scores = net.op("Softmax", net.op("Mul", scores, net.const(np.float32((width / heads) ** -0.5))), axis=-1)
        mixed = net.op("Transpose", net.op("MatMul", scores, split(v, 0, 2, 1, 3)), perm=[0, 2, 1, 3])
        x = net.op("Add", x, net.linear(net.op("Reshape", mixed, net.const(np.array([1, 64, width]))), width, width))
        y = net.linear(normalized(x), width, 4 * width)
        half = net.op("Erf", net.op("Mul", y, net.const(np.float32(2**-0.5))))
        y = net.op("Mul", net.op("Mul", y, net.op("Add", half, net.const(np.float32(1.0)))), net.const(np.float32(0.5)))
        x = net.op("Add", x, net.linear(y, 4 * width, width))
    return net.linear(normalized(x), width, 10)


def decoder(net: Draft) -> str:
    """Two upsamplings: kernel and stride 2, then kernel 4 with stride 2."""
    x = net.op("Relu", net.conv(net.input(1, 64, 16, 16), 64, pad=1))
    for taps, pads in ((2, 0), (4, 1)):
        weight = net.const(net.random(64, 64, taps, taps) * 2)
        x = net.op("ConvTranspose", x, weight, kernel_shape=[taps] * 2, strides=[2, 2], pads=[pads] * 4)
        x = net.op("Relu", net.conv(net.op("Relu", x), 64, pad=1))
    return net.conv(x, 3, pad=1)


def gru(net: Draft) -> str:
    """40 steps of 64 features into 128 units, between two dense layers."""
    x = net.op("Relu", net.linear(net.input(40, 1, 32), 32, 64))
    weights = [net.const(net.rng.standard_normal((1, 384, n)) * n**-0.5) for n in (64, 128)]
    y = net.op("GRU", x, *weights, net.const(np.zeros((1, 768))), hidden_size=128)
    return net.linear(net.op("Squeeze", y, net.const(np.array([1]))), 128, 64)


NETS: dict[str, Callable[[Draft], str]] = {
    "silu-residual": silu_residual,
    "u-net": u_net,
    "hard-swish": hard_swish,
    "transformer": transformer,
    "decoder": decoder,
    "gru": gru,
}


def show(name: str, seconds: float) -> bool:
    """Quantize and time one of them; whether it is slower than float."""
    net = Draft(opset=17)
    proto = net.model(NETS[name](net))
    feeds = [feed_for(proto, seed) for seed in range(SAMPLES)]
    folded = graphopt.run(proto, "fold", timing=False).model.proto()
    result = graphopt.run(proto, "fold,quant", data=feeds, timing=False)
    made = result.model.proto()
    ratio = time_ratio(made, folded, feeds[0], seconds=seconds)
    noise = [sqnr(folded, made, feed) for feed in feeds[:4]]
    facts = result.report.passes[-1].facts
    print(
        f"{name:14} time {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f}), SQNR {np.mean(noise):.1f} dB, "
        f"{count(facts.get('integer_kernels'))} integer and {count(facts.get('float_kernels'))} float kernels"
    )
    print("".join(f"    {line}\n" for line in reasons(result.report)), end="", flush=True)
    return ratio.low > 1.0


def count(kernels: object) -> int:
    """How many there are, of a count by operator."""
    return sum(kernels.values()) if isinstance(kernels, dict) else 0


def sqnr(wanted: onnx.ModelProto, got: onnx.ModelProto, feed: dict[str, Array]) -> float:
    """Of the first output, in dB."""
    a, b = (next(iter(Session(p).run(feed).values())).astype(np.float64) for p in (wanted, got))
    return float(10 * np.log10((a**2).mean() / max(((a - b) ** 2).mean(), 1e-30)))


def reasons(report: graphopt.Report) -> list[str]:
    """What stayed in float, by reason."""
    refusals = report.passes[-1].refusals
    lines = Counter((r.code, r.why) for r in refusals)
    return [f"{n} x {code}: {why}" for (code, why), n in lines.most_common()]


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETS), help=", ".join(NETS))
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to time each")
    args = parser.parse_args()
    slower = [name for name in args.names if show(name, args.seconds)]
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
