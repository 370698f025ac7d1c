"""Random affine regions: whatever fold takes, at any cost, must compute the same in float64.

Topologies are sequences, sums with and without skips, and nestings of them, over convolutions of every stride, dilation, pad and
grouping, batch norms, scales, shifts, pads and average pools, in one to three dimensions.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context
from tests.nets import Net, exact_outputs, feed_for


class Region:
    """Draws one random region."""

    def __init__(self, seed: int) -> None:
        self.net = Net(seed, dtype=np.float64)
        self.rng = np.random.default_rng(seed + 10**6)
        self.dims = int(self.rng.choice([1, 2, 2, 2, 3]))

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
        kind = str(rng.choice(["conv", "conv", "conv", "bn", "scale", "shift", "pad", "pool"]))
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
