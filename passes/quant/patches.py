"""What a kernel multiplies with its weights, as a matrix: one row a position, one column a weight of an output channel.

For Conv with g groups the row of a position is [g, C / g * taps] (im2col), in the order of the weight's own axes; for Gemm and
MatMul it is the row of the matrix. Positions are drawn without replacement, the same ones for tensors of one shape and one seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution moves: all of its spatial axes' kernel, strides, dilations, pads (begins, then ends), and groups."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int
    auto: str

    @staticmethod
    def of(node: gs.Node, kernel: tuple[int, ...]) -> Window:
        """From a Conv's attributes."""
        rank = len(kernel)
        ones = [1] * rank
        return Window(
            kernel,
            tuple(node.attrs.get("strides", ones)),
            tuple(node.attrs.get("dilations", ones)),
            tuple(node.attrs.get("pads", [0] * (2 * rank))),
            int(node.attrs.get("group", 1)),
            str(node.attrs.get("auto_pad", "NOTSET")),
        )

    def padding(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Begin and end of every axis for an input of ``sizes``."""
        rank = len(self.kernel)
        if self.auto in ("NOTSET", ""):
            return list(zip(self.pads[:rank], self.pads[rank:], strict=True))
        if self.auto == "VALID":
            return [(0, 0)] * rank
        found: list[tuple[int, int]] = []
        for size, kernel, stride, dilation in zip(sizes, self.kernel, self.strides, self.dilations, strict=True):
            total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            less, more = total // 2, total - total // 2
            found.append((less, more) if self.auto == "SAME_UPPER" else (more, less))
        return found


def rows(array: Array, window: Window | None, count: int, random: np.random.Generator) -> Array:
    """At most ``count`` positions: [positions, groups, columns]."""
    if window is None:
        flat = array.reshape(-1, array.shape[-1])
        return flat[_chosen(flat.shape[0], count, random)][:, None, :]
    rank = len(window.kernel)
    pads = window.padding(array.shape[2:])
    padded = np.pad(array, [(0, 0), (0, 0), *pads]) if any(map(any, pads)) else array
    extents = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    view = sliding_window_view(padded, extents, axis=tuple(range(2, 2 + rank)))
    strides = tuple(slice(None, None, s) for s in window.strides)
    taps = tuple(slice(None, None, d) for d in window.dilations)
    view = view[(slice(None), slice(None), *strides, *taps)]
    places = (view.shape[0], *view.shape[2 : 2 + rank])
    at = np.unravel_index(_chosen(math.prod(places), count, random), places)
    index: tuple[Any, ...] = (at[0], slice(None), *at[1:])
    picked = view[index]
    return np.ascontiguousarray(picked, np.float32).reshape(len(at[0]), window.groups, -1)


def _chosen(total: int, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    if total <= count:
        return np.arange(total)
    return np.sort(random.choice(total, count, replace=False, shuffle=False))
