"""A convolution or matrix product as a linear regression: what it reads as rows of a matrix, what it makes as another.

With x the patch (channels times taps) that an output position reads and y the outputs there, y = W x + b. For the sums

    n,   sum x,   sum y,   sum x x^T,   sum x y^T,   sum y^2

over sampled positions, every least squares problem and every squared error follows, block by block of a grouped operator, and
they add up over samples. Features of removed channels are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.ops import attrs
from graphopt.ops.channels import Mixer
from graphopt.passes.prune.reference import removed_columns

Array = NDArray[Any]
Floats = NDArray[np.float64]

MOST_COLUMNS = 4608
"""An operator with more columns a block is not regressed (a matrix of 4608 x 4608 takes 162 MiB)."""

_CHUNK = 2**25
"""Bytes of a matrix of samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One operator.

    Attributes:
        kept: the columns of a block that stay, channel by channel with all its taps.
        shape: of the weight.
    """

    mixer: Mixer
    node: gs.Node
    shape: tuple[int, ...]
    kept: NDArray[np.intp]

    @property
    def blocks(self) -> int:
        """Blocks of a grouped convolution."""
        return self.mixer.groups

    @property
    def outputs(self) -> int:
        """Outputs of a block."""
        return self.shape[self.mixer.rows] // self.blocks

    def matrix(self, weight: Array) -> Floats:
        """A weight as [blocks, outputs, kept columns]."""
        if weight.ndim == 2:
            return np.moveaxis(weight, self.mixer.columns, 1)[None].astype(np.float64)[:, :, self.kept]
        return weight.reshape(self.blocks, self.outputs, -1).astype(np.float64)[:, :, self.kept]

    def weight(self, matrix: Floats, dtype: np.dtype[Any]) -> Array:
        """The inverse of ``matrix``, zeros for what is removed."""
        if len(self.shape) == 2:
            wide = np.zeros((self.shape[self.mixer.rows], self.shape[self.mixer.columns]), dtype)
            wide[:, self.kept] = matrix[0]
            return np.ascontiguousarray(np.moveaxis(wide, 1, self.mixer.columns))
        full = np.zeros((self.blocks, self.outputs, int(np.prod(self.shape[1:]))), dtype)
        full[:, :, self.kept] = matrix
        return full.reshape(self.shape)

    def samples(self, x: Array, made: Sequence[Array], count: int, rng: np.random.Generator) -> tuple[Array, list[Array]]:
        """Positions drawn from one run: patches [blocks, positions, kept columns], of each made [blocks, positions, outputs]."""
        if len(self.shape) == 2:
            rows = np.moveaxis(x, self.mixer.data_axis, -1).reshape(-1, self.shape[self.mixer.columns])
            drawn = _drawn(len(rows), count, rng)
            return rows[drawn][:, self.kept][None], [y.reshape(-1, self.shape[self.mixer.rows])[drawn][None] for y in made]
        y = made[0]
        places = np.unravel_index(_drawn(y.size // y.shape[1], count, rng), (y.shape[0], *y.shape[2:]))
        index: tuple[Any, ...] = (places[0], slice(None), *places[1:])
        patches = self._patches(x, places)
        wide = patches.reshape(len(places[0]), self.blocks, -1)[:, :, self.kept]
        drawn_made = [y[index].reshape(len(places[0]), self.blocks, -1).transpose(1, 0, 2) for y in made]
        return wide.transpose(1, 0, 2), drawn_made

    def _patches(self, x: Array, places: Sequence[NDArray[np.intp]]) -> Array:
        """[positions, channels, taps]; what lies in the padding is zero."""
        kernel, sizes = self.shape[2:], x.shape[2:]
        n = len(kernel)
        strides, dilations = attrs.ints(self.node, "strides", (1,) * n), attrs.ints(self.node, "dilations", (1,) * n)
        begins = begin_pads(self.node, kernel, sizes)
        patches = np.zeros((len(places[0]), x.shape[1], int(np.prod(kernel))), x.dtype)
        for tap, offset in enumerate(itertools.product(*(range(k) for k in kernel))):
            at = [p * s + o * d - b for p, s, o, d, b in zip(places[1:], strides, offset, dilations, begins, strict=True)]
            inside = np.all([(a >= 0) & (a < size) for a, size in zip(at, sizes, strict=True)], axis=0)
            index: tuple[Any, ...] = (places[0][inside], slice(None), *(a[inside] for a in at))
            patches[inside, :, tap] = x[index]
        return patches


def begin_pads(node: gs.Node, kernel: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """Zeros before the first element along each spatial axis."""
    n = len(kernel)
    auto = attrs.str_(node, "auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return attrs.ints(node, "pads", (0,) * (2 * n))[:n]
    if auto == "VALID":
        return (0,) * n
    strides, dilations = attrs.ints(node, "strides", (1,) * n), attrs.ints(node, "dilations", (1,) * n)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    total = [max((-(-h // s) - 1) * s + e - h, 0) for h, s, e in zip(sizes, strides, extent, strict=True)]
    return tuple(t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total)


def _drawn(count: int, wanted: int, rng: np.random.Generator) -> NDArray[np.intp]:
    if count <= wanted:
        return np.arange(count, dtype=np.intp)
    return np.sort(rng.choice(count, wanted, replace=False, shuffle=False)).astype(np.intp)


def layer_of(graph: ChannelGraph, mixer: Mixer, removed: NDArray[np.bool_]) -> Layer | None:
    """A mixer as a regression; None if it is none (a transposed convolution, a recurrent layer) or too wide."""
    node = graph.nodes[mixer.node]
    value = graph.model.value(node.inputs[mixer.weight])
    if value is None or value.dtype.kind != "f" or mixer.weight != 1 or mixer.data != 0 or not mixer.linear:
        return None
    if not (node.op == "Conv" and value.ndim > 2) and not (node.op in ("Gemm", "MatMul") and value.ndim == 2):
        return None
    lost = removed_columns(graph, mixer, removed)
    taps = int(np.prod(value.shape[2:])) if value.ndim > 2 else 1
    width = value.shape[mixer.columns]
    lost = lost if lost.size == width and not (mixer.blockwise and width == 1) else np.zeros(width, bool)
    kept = np.flatnonzero(np.repeat(~lost, taps))
    return Layer(mixer, node, value.shape, kept) if 0 < kept.size <= MOST_COLUMNS else None


@dataclass(slots=True, eq=False)
class Sums:
    """What a regression needs of its samples; means, once ``count`` has grown."""

    count: int
    x: Floats
    y: Floats
    xx: Floats
    xy: Floats
    yy: Floats

    @staticmethod
    def of(layer: Layer) -> Sums:
        """None yet."""
        b, o, k = layer.blocks, layer.outputs, layer.kept.size
        return Sums(0, np.zeros((b, k)), np.zeros((b, o)), np.zeros((b, k, k)), np.zeros((b, k, o)), np.zeros((b, o)))

    def add(self, x: Array, y: Array) -> None:
        """Take in samples: x [blocks, positions, columns], y [blocks, positions, outputs]."""
        step = max(1, _CHUNK // (8 * x.shape[0] * max(x.shape[2], y.shape[2])))
        for start in range(0, x.shape[1], step):
            a, b = (v[:, start : start + step].astype(np.float64) for v in (x, y))
            turned = a.transpose(0, 2, 1)
            if len(a) == 1:
                self.xx[0] += a[0].T @ a[0]  # of one matrix and its transpose half is computed
            else:
                self.xx += turned @ a
            self.xy += turned @ b
            self.x += a.sum(1)
            self.y += b.sum(1)
            self.yy += np.square(b).sum(1)
        self.count += x.shape[1]

    def plus(self, other: Sums) -> Sums:
        """Over the samples of both."""
        pairs = zip((self.x, self.y, self.xx, self.xy, self.yy), (other.x, other.y, other.xx, other.xy, other.yy), strict=True)
        return Sums(self.count + other.count, *(a + b for a, b in pairs))

    @property
    def finite(self) -> bool:
        """Whether nothing was infinite or no number."""
        return self.count > 0 and bool(np.isfinite(self.xx).all() and np.isfinite(self.xy).all() and np.isfinite(self.yy).all())

    def error(self, w: Floats, b: Floats) -> Floats:
        """Mean squared error of each output [blocks, outputs] for weights [blocks, outputs, columns] and a bias."""
        n = max(self.count, 1)
        quadratic = np.einsum("gok,gok->go", w @ self.xx, w)
        cross = np.einsum("gok,gko->go", w, self.xy)
        linear = np.einsum("gok,gk->go", w, self.x)
        error: Floats = np.maximum((quadratic - 2 * cross + self.yy + 2 * b * (linear - self.y)) / n + b * b, 0.0)
        return error
