"""Random affine regions as ONNX models: what a generator of cases for fold draws.

Sequences, sums, skips, concatenations, splits and nestings of them, over convolutions (kernels 1 to 7, strides, dilations, groups,
pads that need not be symmetric), transposed ones, batch norms, scales, shifts, pads, average pools, channel slices, gathers and
shuffles, DepthToSpace, SpaceToDepth and nearest Resize, in one to three dimensions; and over Gemm and MatMul. Now and then what
must not be folded over: a Relu, a pad that reflects, an inner tensor that is an output, a weight that the caller may override.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.nets import Net

WIDTHS = (1, 2, 3, 4, 6, 8)
LARGEST = {1: 40, 2: 14, 3: 8}
"""Spatial size by dimensions up to which a region grows, so that all of its Jacobian can be looked at."""


class Region:
    """One random region. ``dynamic``: the spatial sizes are not told to the model, ``size`` is one of those it is run at."""

    def __init__(self, seed: int, dtype: Any = np.float64) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = Net(seed, dtype=dtype, opset=18)
        self.dims = int(self.rng.choice([0, 0, 1, 2, 2, 2, 2, 2, 3]))
        self.dynamic = bool(self.dims and self.rng.random() < 0.2)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.seen: list[str] = []

    def proto(self) -> onnx.ModelProto:
        """Draw the model."""
        top = self._spatial() if self.dims else self._matrix()
        extra = [str(self.rng.choice(self.seen))] if self.seen and self.rng.random() < 0.08 else []
        top = self.op("Identity", top)
        net = self.net
        if self.rng.random() < 0.04 and net.initializers:
            one = net.initializers[int(self.rng.integers(len(net.initializers)))]
            if one.data_type != onnx.TensorProto.INT64:
                net.inputs.append(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))
        return net.model(top, *(e for e in extra if e != top))

    # -- tools -------------------------------------------------------------------------------------------------------------

    def pick(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def op(self, kind: str, *inputs: str, shape: Sequence[int] | None = None, outputs: int = 1, **attrs: Any) -> str:
        """A node; ``shape``: of its output, that of its first input if not given."""
        name = self.net.op(kind, *inputs, outputs=outputs, **attrs)
        self.shapes[name] = tuple(self.shapes[inputs[0]] if shape is None else shape)
        self.net.widths[name] = self.width(name)
        self.seen.append(name)
        return name

    def width(self, x: str) -> int:
        return self.shapes[x][1] if self.dims else self.shapes[x][-1]

    def sizes(self, x: str) -> tuple[int, ...]:
        return self.shapes[x][2:]

    def ints(self, *values: int) -> str:
        return self.net.const(np.asarray(values, np.int64))

    def weight(self, *shape: int) -> str:
        return self.net.const(self.net.random(*shape))

    # -- spatial regions ---------------------------------------------------------------------------------------------------

    def _spatial(self) -> str:
        size = [int(self.rng.integers(*{1: (8, 21), 2: (5, 10), 3: (4, 7)}[self.dims])) for _ in range(self.dims)]
        width = self.pick(1, 2, 4, 4, 6)
        declared = [f"d{i}" for i in range(self.dims)] if self.dynamic else size
        x = self.net.input(self.pick(1, 1, 2), width, *declared)
        self.shapes[x] = (1, width, *size)
        self.net.widths[x] = width
        return self.grow(x, int(self.rng.integers(1, 4)))

    def grow(self, x: str, depth: int) -> str:
        for _ in range(int(self.rng.integers(1, 4))):
            compound = depth > 0 and self.chance(0.45)
            x = self.pick(self.total, self.total, self.concat, self.split_up)(x, depth - 1) if compound else self.step(x)
        return x

    def step(self, x: str) -> str:
        steps: list[Callable[[str], str]] = [
            *[self.conv] * 4, *[self.conv_transpose] * 2, self.norm, self.scale, self.shift, self.pad, self.pad,
            self.pool, self.pool, self.channels, self.shuffle, self.neutral, self.resize,
            *[self.depth_to_space] * 2, self.space_to_depth,
        ]  # fmt: skip
        if self.chance(0.04):
            return self.pick(self.barrier, self.odd_pad, self.crop)(x)
        return self.pick(*steps)(x)

    def conv(self, x: str, width: int = 0, same: bool = False, stride: int = 0, plain: bool = False) -> str:
        """``same``: the output has the input's size, or that over ``stride``."""
        c = self.width(x)
        out = width or self.pick(*WIDTHS)
        group = self.pick(1, 1, 1, *(g for g in (2, 3, c) if c % g == 0 and out % g == 0))
        kernel, strides, dilations, begin, end = ([] for _ in range(5))
        for h in self.sizes(x):
            k = 1 if plain else self.pick(1, 1, 2, 3, 3, 3, 5, 7)
            k = min(k, 3) if self.dims == 3 else k
            k = k if k % 2 or not same else 3
            d = self.pick(1, 1, 2, 3) if k > 1 else 1
            if (k - 1) * d >= h and self.chance(0.85):
                k, d = (3, 1) if h > 2 else (1, 1)
            reach = (k - 1) * d
            p, q = (reach // 2, reach - reach // 2) if same else (self.pick(0, 0, 1, 2, 3), self.pick(0, 0, 1, 2, 3))
            if same and self.chance(0.2):
                p, q = reach, 0
            if h + p + q <= reach or h + p + q - reach > LARGEST[self.dims]:
                k, d, p, q = 1, 1, 0, 0
            for values, value in ((kernel, k), (dilations, d), (begin, p), (end, q), (strides, stride or self.pick(1, 1, 1, 2, 3))):
                values.append(value)
        if same and not stride:
            strides = [1] * self.dims
        sizes = [
            (h + p + q - (k - 1) * d - 1) // s + 1
            for h, p, q, k, d, s in zip(self.sizes(x), begin, end, kernel, dilations, strides, strict=True)
        ]
        bias = [self.weight(out)] if self.chance(0.5) else []
        return self.op(
            "Conv", x, self.weight(out, c // group, *kernel), *bias, shape=(1, out, *sizes), kernel_shape=kernel, strides=strides,
            dilations=dilations, pads=[*begin, *end], group=group,
        )  # fmt: skip

    def conv_transpose(self, x: str, width: int = 0, rate: int = 0) -> str:
        """``rate``: the output has so many times the input's size."""
        c, out = self.width(x), width or self.pick(2, 4, 6)
        group = self.pick(1, 1, *(g for g in (2, c) if c % g == 0 and out % g == 0))
        s = rate or self.pick(1, 2, 2, 3)
        k = self.pick(s, s, s + 2, 2 * s) if rate else self.pick(1, 2, 3, 4)
        extra = self.pick(0, 0, 1) if s > 1 and not rate else 0
        p = q = 0
        if rate:
            p, q = (k - s) // 2, k - s - (k - s) // 2
        elif self.chance(0.4):
            p, q = self.pick(0, 1), self.pick(0, 1)
        sizes = [(h - 1) * s + k + extra - p - q for h in self.sizes(x)]
        if min(sizes) < 1 or max(sizes) > LARGEST[self.dims]:
            return x
        n = self.dims
        bias = [self.weight(out)] if self.chance(0.5) else []
        return self.op(
            "ConvTranspose", x, self.weight(c, out // group, *[k] * n), *bias, shape=(1, out, *sizes), kernel_shape=[k] * n,
            strides=[s] * n, pads=[p] * n + [q] * n, group=group, output_padding=[extra] * n,
        )  # fmt: skip

    def norm(self, x: str) -> str:
        y = self.net.bn_of(x, self.width(x))
        self.shapes[y] = self.shapes[x]
        self.seen.append(y)
        return y

    def per_channel(self, x: str) -> str:
        c, n = self.width(x), self.dims
        shape = self.pick((c, *[1] * n), (1, c, *[1] * n), ()) if n else self.pick((c,), (1, c), ())
        return self.weight(*shape)

    def scale(self, x: str) -> str:
        if self.chance(0.2):
            return self.op("Neg", x)
        if self.chance(0.2):
            return self.op("Div", x, self.per_channel(x))
        pair = (x, self.per_channel(x))
        return self.op("Mul", *pair) if self.chance(0.6) else self.op("Mul", *pair[::-1], shape=self.shapes[x])

    def shift(self, x: str) -> str:
        kind = self.pick("Add", "Sub", "Sum")
        pair = (x, self.per_channel(x))
        return self.op(kind, *pair) if self.chance(0.6) else self.op(kind, *pair[::-1], shape=self.shapes[x])

    def pad(self, x: str, **attrs: Any) -> str:
        begin, end = ([self.pick(0, 1, 1, 2) for _ in range(self.dims)] for _ in range(2))
        return self._padded(x, begin, end, **attrs)

    def _padded(self, x: str, begin: list[int], end: list[int], *more: str, **attrs: Any) -> str:
        sizes = [h + p + q for h, p, q in zip(self.sizes(x), begin, end, strict=True)]
        if min(sizes) < 1 or max(sizes) > LARGEST[self.dims]:
            return x
        return self.op("Pad", x, self.ints(0, 0, *begin, 0, 0, *end), *more, shape=(1, self.width(x), *sizes), **attrs)

    def pool(self, x: str) -> str:
        k, s, p = self.pick(1, 2, 2, 3), self.pick(1, 1, 2), self.pick(0, 0, 1)
        p = p if k > p else 0
        sizes = [(h + 2 * p - k) // s + 1 for h in self.sizes(x)]
        if min(sizes) < 1:
            return x
        n = self.dims
        return self.op(
            "AveragePool", x, shape=(1, self.width(x), *sizes), kernel_shape=[k] * n, strides=[s] * n, pads=[p] * (2 * n),
            count_include_pad=self.pick(0, 1, 1),
        )  # fmt: skip

    def channels(self, x: str) -> str:
        """Some of the channels, in some order."""
        c, axis = self.width(x), 1 if self.dims else len(self.shapes[x]) - 1
        if self.chance(0.5):
            order = self.rng.permutation(c)[: self.pick(c, c, max(c // 2, 1))]
            return self.op("Gather", x, self.ints(*order), shape=self._as_wide(x, len(order)), axis=axis)
        a = int(self.rng.integers(0, c))
        b = int(self.rng.integers(a, c)) + 1
        return self.op("Slice", x, self.ints(a), self.ints(b), self.ints(axis), shape=self._as_wide(x, b - a))

    def _as_wide(self, x: str, width: int) -> tuple[int, ...]:
        shape = self.shapes[x]
        return (shape[0], width, *shape[2:]) if self.dims else (*shape[:-1], width)

    def shuffle(self, x: str) -> str:
        c, n = self.width(x), self.dims
        groups = [g for g in (2, 3) if c % g == 0 and c > g]
        if not groups or self.dynamic or not n:
            return x
        g = self.pick(*groups)
        shape = self.shapes[x]
        y = self.op("Reshape", x, self.ints(0, g, c // g, *shape[2:]), shape=(1, g, c // g, *shape[2:]))
        y = self.op("Transpose", y, shape=(1, c // g, g, *shape[2:]), perm=[0, 2, 1, *range(3, n + 3)])
        return self.op("Reshape", y, self.ints(0, c, *shape[2:]), shape=shape)

    def neutral(self, x: str) -> str:
        return self.op(self.pick("Identity", "Dropout"), x)

    def resize(self, x: str, rate: int = 0) -> str:
        r = rate or self.pick(2, 2, 3)
        sizes = [h * r for h in self.sizes(x)]
        if max(sizes) > LARGEST[self.dims]:
            return x
        scales = self.net.const(np.asarray([1, 1, *[r] * self.dims], np.float32))
        self.net.initializers[-1].CopyFrom(onnx.numpy_helper.from_array(np.asarray([1, 1, *[r] * self.dims], np.float32), scales))
        mode, nearest = self.pick(
            ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("asymmetric", "round_prefer_floor")
        )
        shape = (1, self.width(x), *sizes)
        return self.op(
            "Resize", x, "", scales, shape=shape, mode="nearest", coordinate_transformation_mode=mode, nearest_mode=nearest
        )  # fmt: skip

    def depth_to_space(self, x: str, rate: int = 2, width: int = 0) -> str:
        c = self.width(x)
        if self.dims != 2 or max(self.sizes(x)) * rate > LARGEST[2] + 3:
            return x
        if c % rate**2 or (width and c != width * rate**2):
            c = (width or self.pick(1, 2)) * rate**2
            x = self.conv(x, c, same=True, stride=1)
        shape = (1, c // rate**2, *(h * rate for h in self.sizes(x)))
        return self.op("DepthToSpace", x, shape=shape, blocksize=rate, mode=self.pick("DCR", "CRD"))

    def space_to_depth(self, x: str) -> str:
        if self.dims != 2 or any(h % 2 for h in self.sizes(x)) or self.width(x) > 4 or self.dynamic:
            return x
        return self.op("SpaceToDepth", x, shape=(1, self.width(x) * 4, *(h // 2 for h in self.sizes(x))), blocksize=2)

    # -- what ends a region ------------------------------------------------------------------------------------------------

    def barrier(self, x: str) -> str:
        return self.op("Relu", x)

    def odd_pad(self, x: str) -> str:
        if self.chance(0.5):
            return self.pad(x, mode=self.pick("edge", "reflect") if min(self.sizes(x)) > 2 else "edge")
        return self._padded(x, [1] * self.dims, [0] * self.dims, self.net.const(np.asarray(0.5)))

    def crop(self, x: str) -> str:
        if min(self.sizes(x)) < 4:
            return x
        if self.chance(0.5):
            return self._padded(x, [-1] * self.dims, [self.pick(-1, 0, 1)] * self.dims)
        shape = (1, self.width(x), *(h - 2 for h in self.sizes(x)))
        axes = range(2, 2 + self.dims)
        return self.op("Slice", x, self.ints(*[1] * self.dims), self.ints(*[-1] * self.dims), self.ints(*axes), shape=shape)

    # -- branches ----------------------------------------------------------------------------------------------------------

    def branch(self, x: str, width: int, stride: int, rate: int, depth: int) -> str:
        """One way from ``x`` to ``width`` channels at ``rate / stride`` times the size."""
        if rate > 1:
            y = self.pick(
                lambda: self.depth_to_space(x, rate, width),
                lambda: (
                    self.resize(x, rate) if self.width(x) == width else self.resize(self.conv(x, width, plain=True, stride=1), rate)
                ),
                lambda: self.conv_transpose(x, width, rate),
                lambda: self.conv(self.resize(x, rate), width, same=True, stride=1),
            )()
        elif stride == 1 and self.width(x) == width and self.chance(0.2):
            y = self.pick(self.norm, self.scale, self.shift, self.neutral)(x)
        else:
            y = self.conv(x, width, same=True, stride=stride, plain=self.chance(0.25))
        if depth > 0 and self.chance(0.5):
            y = self.total(y, depth - 1, keep=True) if self.chance(0.3) else self.conv(y, width, same=True, stride=1)
        return self.pick(self.norm, self.scale, self.shift)(y) if self.chance(0.35) else y

    def branches(self, x: str, depth: int, keep: bool = False) -> list[str]:
        width = self.width(x) if keep or self.chance(0.6) else self.pick(*WIDTHS)
        stride = 1 if keep else self.pick(1, 1, 1, 1, 2, 3)
        rate = self.pick(1, 1, 1, 2) if stride == 1 and not keep and self.dims == 2 and max(self.sizes(x)) <= 6 else 1
        parts = [self.branch(x, width, stride, rate, depth) for _ in range(int(self.rng.integers(2, 5)))]
        if stride == 1 and rate == 1 and self.width(x) == width and self.chance(0.4):
            parts.insert(int(self.rng.integers(len(parts) + 1)), x)
        return parts

    def total(self, x: str, depth: int, keep: bool = False) -> str:
        """A sum of branches; one of them may have a single channel."""
        parts = self.branches(x, depth, keep) if self.dims else self.rows(x)
        lead = self.shapes[parts[0]]
        parts = [p for p in parts if self.shapes[p] == lead]
        if self.dims and len(parts) > 1 and self.chance(0.08):
            parts.append(self.conv(parts[-1], 1, same=True, stride=1))
        if len(parts) > 2 and self.chance(0.3):
            return self.op("Sum", *parts)
        y = parts[0]
        for part in parts[1:]:
            y = self.op(self.pick("Add", "Add", "Add", "Sub"), y, part)
        return y

    def concat(self, x: str, depth: int) -> str:
        parts = self.branches(x, depth) if self.dims else self.rows(x)
        parts = [p for p in parts if self._as_wide(p, 1) == self._as_wide(parts[0], 1)]
        width = sum(self.width(p) for p in parts)
        axis = 1 if self.dims else len(self.shapes[x]) - 1
        y = self.op("Concat", *parts, shape=self._as_wide(parts[0], width), axis=axis)
        if width > 8 or self.chance(0.7):
            y = self.conv(y, self.pick(2, 4), plain=self.chance(0.7)) if self.dims else self.matrix(y)
        return y

    def split_up(self, x: str, depth: int) -> str:
        """Split the channels, do something to some of the parts, and concatenate them in some order."""
        c, axis = self.width(x), 1 if self.dims else len(self.shapes[x]) - 1
        if c < 2:
            return self.step(x) if self.dims else x
        a = int(self.rng.integers(1, c))
        name = self.op("Split", x, self.ints(a, c - a), outputs=2, shape=self._as_wide(x, a), axis=axis)
        second = f"{name}_1"
        self.shapes[second] = self._as_wide(x, c - a)
        self.net.widths[second] = c - a
        parts = [name, second]
        for i in range(2):
            if self.chance(0.6):
                parts[i] = self.conv(parts[i], 0, same=True, stride=1) if self.dims else self.matrix(parts[i])
        parts = parts if self.chance(0.5) else parts[::-1]
        if self.width(parts[0]) == self.width(parts[1]) and self.chance(0.3):
            return self.op("Add", *parts)
        return self.op("Concat", *parts, shape=self._as_wide(x, sum(map(self.width, parts))), axis=axis)

    # -- matrices ----------------------------------------------------------------------------------------------------------

    def _matrix(self) -> str:
        lead = self.pick((3,), (3,), (2, 3))
        width = self.pick(2, 4, 6)
        x = self.net.input(*lead, width)
        self.shapes[x] = (*lead, width)
        self.net.widths[x] = width
        for _ in range(int(self.rng.integers(2, 6))):
            step = self.pick(
                self.matrix, self.matrix, self.matrix, self.scale, self.shift, self.neutral, self.channels, self.regroup,
                lambda y: self.total(y, 0), lambda y: self.concat(y, 0), lambda y: self.split_up(y, 0),
            )  # fmt: skip
            x = step(x)
        return self.barrier(x) if self.chance(0.05) else x

    def rows(self, x: str) -> list[str]:
        """Branches of a matrix, alike in width."""
        width = self.width(x) if self.chance(0.5) else self.pick(2, 4, 8)
        parts = [self.matrix(x, width) for _ in range(int(self.rng.integers(2, 4)))]
        return [*parts, x] if self.width(x) == width and self.chance(0.5) else parts

    def matrix(self, x: str, width: int = 0) -> str:
        shape, c = self.shapes[x], self.width(x)
        out = width or self.pick(2, 4, 8)
        if len(shape) != 2 or self.chance(0.4):
            return self.op("MatMul", x, self.weight(c, out), shape=(*shape[:-1], out))
        turned = self.pick(0, 1)
        bias = [self.weight(*self.pick((out,), (1, out), (1,), ()))] if self.chance(0.6) else []
        more = {"alpha": self.pick(1.0, 0.5, -2.0), "beta": self.pick(1.0, 0.5, 3.0)} if self.chance(0.4) else {}
        weight = self.weight(*((out, c) if turned else (c, out)))
        return self.op("Gemm", x, weight, *bias, shape=(shape[0], out), transB=turned, **more)

    def regroup(self, x: str) -> str:
        """The rows in another order of axes: the last one stays as it is."""
        shape = self.shapes[x]
        flat = (math.prod(shape[:-1]), shape[-1])
        return self.op("Reshape", x, self.ints(*flat), shape=flat)
