"""Random affine regions: whatever fold takes, at any cost, must compute the same in float64.

Topologies are sequences, sums with and without skips, concatenations, and nestings of them, over convolutions of every stride,
dilation, pad and grouping, transposed convolutions, batch norms, scales, shifts, pads, average pools, selections and strides,
nearest resizing, and space and depth, in one to three dimensions.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context
from tests.nets import Net, exact_outputs, feed_for

STEPS = [*["conv"] * 6, "bn", "scale", "shift", "pad", "pool", "move", "move", "deconv", "nearest", "phases"]


class Region:
    """Draws one random region."""

    def __init__(self, seed: int) -> None:
        self.net = Net(seed, dtype=np.float64)
        self.rng = np.random.default_rng(seed + 10**6)
        self.dims = int(self.rng.choice([1, 2, 2, 2, 3]))
        self.size = 10

    def proto(self) -> onnx.ModelProto:
        size = int(self.rng.integers(5, 11))
        net = self.net
        x = net.input(1, 4, *([size] * self.dims))
        return net.model(net.op("Identity", self.grow(x, int(self.rng.integers(1, 4)))))

    def grow(self, x: str, depth: int) -> str:
        for _ in range(int(self.rng.integers(1, 4))):
            x = self.branches(x, depth - 1) if depth > 0 and self.rng.random() < 0.4 else self.step(x)
        return x

    def branches(self, x: str, depth: int) -> str:
        """A sum of branches that keep the size, or share a stride."""
        width = self.net.widths[x]
        stride = int(self.rng.choice([1, 1, 2]))
        parts: list[str] = []
        for _ in range(int(self.rng.integers(2, 4))):
            y = self.same_size(x, width, stride)
            if depth > 0 and self.rng.random() < 0.5:
                y = self.same_size(y, width, 1)
            parts.append(y)
        if stride == 1 and self.rng.random() < 0.5:
            parts.append(x)
        if self.rng.random() < 0.3:
            total = self.net.op("Concat", *parts, axis=1)
            self.net.widths[total] = width * len(parts)
            return total
        total = parts[0]
        for part in parts[1:]:
            total = self.net.op(str(self.rng.choice(["Add", "Sub"])), total, part)
        return total

    def same_size(self, x: str, width: int, stride: int) -> str:
        half = int(self.rng.integers(0, 3))
        dilation = int(self.rng.choice([1, 1, 2]))
        y = self.net.conv(
            x, width, (2 * half + 1,) * self.dims, pad=half * dilation, bias=bool(self.rng.random() < 0.5),
            group=int(self.rng.choice([1, 2, width])), strides=[stride] * self.dims, dilations=[dilation] * self.dims,
        )  # fmt: skip
        return self.net.bn(y) if self.rng.random() < 0.3 else y

    def step(self, x: str) -> str:
        net, rng, width = self.net, self.rng, self.net.widths[x]
        kind = str(rng.choice(STEPS))
        if kind == "move":
            return self.move(x)
        if kind == "deconv":
            return self.deconv(x)
        if kind == "nearest" and self.size < 40:
            self.size *= 2
            factors = [1.0, 1.0, *rng.integers(1, 3, self.dims).astype(float)]
            mode = {"mode": "nearest", "coordinate_transformation_mode": str(rng.choice(["half_pixel", "tf_half_pixel_for_nn"]))}
            return net.op("Resize", x, "", net.const(np.asarray(factors, np.float32), exact=True), nearest_mode="floor", **mode)
        if kind == "phases" and self.dims == 2:
            return self.phases(x)
        if kind == "bn":
            return net.bn(x)
        if kind in ("scale", "shift"):
            shape = [(width, *([1] * self.dims)), (1, width, *([1] * self.dims)), ()][int(rng.integers(3))]
            return net.op("Mul" if kind == "scale" else "Add", x, net.const(net.random(*shape)))
        if kind == "pad":
            pads = [0, 0, *rng.integers(0, 3, self.dims), 0, 0, *rng.integers(0, 3, self.dims)]
            return net.op("Pad", x, net.const(np.asarray(pads, np.int64)))
        if kind == "pool":
            pad = int(rng.integers(0, 2))
            return net.op(
                "AveragePool", x, kernel_shape=[2] * self.dims, pads=[pad] * (2 * self.dims),
                strides=[int(rng.integers(1, 3))] * self.dims, count_include_pad=int(rng.integers(2)),
            )  # fmt: skip
        group = int(rng.choice([1, 1, 2, width]))
        return net.conv(
            x, int(rng.choice([2, 4, 8])) if group < width else width, tuple(int(k) for k in rng.integers(1, 4, self.dims)),
            bias=bool(rng.random() < 0.5), group=group, pads=[int(p) for p in rng.integers(0, 3, 2 * self.dims)],
            strides=[int(s) for s in rng.integers(1, 3, self.dims)], dilations=[int(d) for d in rng.integers(1, 3, self.dims)],
        )  # fmt: skip

    def move(self, x: str) -> str:
        """A selection of channels, or a part of the space."""
        net, rng, width = self.net, self.rng, self.net.widths[x]
        kind = str(rng.choice(["slice", "gather", "crop", "stride"]))
        if kind == "gather":
            index = rng.integers(0, width, int(rng.integers(1, 6)))
            y = net.op("Gather", x, net.const(index), axis=1)
            net.widths[y] = len(index)
            return y
        start, stop, axis, step = 0, 10**6, int(rng.integers(2, 2 + self.dims)), 1
        if kind == "slice":
            start, axis = int(rng.integers(0, width)), 1
        elif kind == "crop":
            start, stop = int(rng.integers(0, 2)), -int(rng.integers(1, 3))
        else:
            start, step = int(rng.integers(0, 2)), 2
        y = net.op("Slice", x, *(net.const(np.asarray([v])) for v in (start, stop, axis, step)))
        net.widths[y] = width - start if axis == 1 else width
        return y

    def deconv(self, x: str) -> str:
        """A transposed convolution; small, since it grows."""
        net, rng = self.net, self.rng
        if self.size > 40:
            return x
        strides = [int(s) for s in rng.integers(1, 4, self.dims)]
        self.size *= max(strides)
        taps = [int(k) for k in rng.integers(1, 5, self.dims)]
        pads = [int(rng.integers(0, k)) for k in [*taps, *taps]]
        names = [x, net.const(net.random(net.widths[x], 3, *taps)), *([net.const(net.random(3))] if rng.random() < 0.5 else [])]
        extra = [int(rng.integers(0, s)) for s in strides]
        y = net.op("ConvTranspose", *names, strides=strides, pads=pads, output_padding=extra, kernel_shape=taps)
        net.widths[y] = 3
        return y

    def phases(self, x: str) -> str:
        """Space to depth, or channels and then depth to space."""
        net, rng, width = self.net, self.rng, self.net.widths[x]
        if rng.random() < 0.4:
            y = net.op("SpaceToDepth", x, blocksize=2)
            net.widths[y] = width * 4
            return y
        wide = net.conv(x, 8, (1,) * self.dims, bias=bool(rng.random() < 0.5))
        self.size *= 2
        y = net.op("DepthToSpace", wide, blocksize=2, mode=str(rng.choice(["DCR", "CRD"])))
        net.widths[y] = 2
        return y


def check(seed: int) -> bool:
    """Whether fold took anything; AssertionError if what it took is wrong."""
    region = Region(seed)
    try:
        proto = region.proto()
        feed = feed_for(proto, seed)
        before = exact_outputs(proto, feed)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError, IndexError):
        return False  # the region shrank its tensor to nothing
    if not all(y.size for y in before):
        return False
    model = Model.load(proto)
    outcome = Fold(max_growth=1e9).run(model, Context(model.copy()))
    after = exact_outputs(model.proto(), feed)
    for a, b in zip(before, after, strict=True):
        assert a.shape == b.shape, f"seed {seed}"
        assert np.abs(a - b).max() <= 1e-11 * max(1.0, np.abs(a).max()), f"seed {seed}"
    return outcome.changed


@pytest.mark.parametrize("start", range(0, 160, 40))
def test_what_fold_takes_is_exact(start: int) -> None:
    taken = sum(check(seed) for seed in range(start, start + 40))
    assert taken >= 5, "hardly any region was folded: the test has lost its subject"


@pytest.mark.slow
@pytest.mark.parametrize("start", range(10_000, 30_000, 500))
def test_twenty_thousand_regions(start: int) -> None:
    for seed in range(start, start + 500):
        check(seed)
