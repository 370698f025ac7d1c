"""How long convolutions and matrix products take on a device, by their widths: a table of measured times.

A shape is an operator with its kernel, strides, dilations, grouping and the size of what it reads; only its widths are open. For
each shape the time is known on a grid of widths,

    t(inputs, outputs),     inputs and outputs rounded up to the device's step (but for widths below
                            one that the grid has), linear between grid points in both,

times a factor where a width is no multiple of ``align`` (kernels then work in another layout). Rounding up is the staircase: 33
channels take the time of 48 where the step is 16. What is no convolution takes ``rest`` nanoseconds for each element that it makes,
and the sum of all is multiplied by ``scale``, the ratio of a whole model's time to the sum of its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class ShapeKey:
    """What decides the time of an operator besides its widths.

    Attributes:
        grouping: ``dense``, ``depthwise`` (a group for each channel), or ``grouped``, with ``groups`` blocks.
        size: spatial size of the data, () for a matrix product of one row; the number of rows otherwise.
    """

    op: str
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    grouping: str = "dense"
    groups: int = 1
    size: tuple[int, ...] = ()

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return int(np.prod(self.kernel, dtype=np.int64)) if self.kernel else 1

    @property
    def pixels(self) -> float:
        """Output positions, about."""
        return float(np.prod([max(1, s // t) for s, t in zip(self.size, self.strides or (1,) * len(self.size), strict=False)]))

    def macs(self, inputs: float, outputs: float) -> float:
        """Multiply-accumulates."""
        if self.grouping == "depthwise":
            return self.pixels * self.taps * outputs
        return self.pixels * self.taps * inputs * outputs / self.groups


@dataclass(frozen=True, slots=True)
class Staircase:
    """The times of one shape.

    Attributes:
        inputs, outputs: widths of the grid, ascending; of a depthwise shape ``inputs`` is empty.
        us: microseconds, a row for each of ``inputs`` (one row if that is empty).
        odd: the factor where a width is not aligned.
    """

    key: ShapeKey
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    us: tuple[tuple[float, ...], ...]
    odd: float = 1.0

    def time(self, inputs: float, outputs: float, step: int, align: int) -> float:
        """Microseconds."""
        factor = self.odd if (inputs % align and inputs > step) or outputs % align else 1.0
        rows = [_on_steps(self.outputs, row, outputs, step) for row in self.us]
        return factor * (_on_steps(self.inputs, rows, inputs, step) if self.inputs else rows[0])


def _on_steps(grid: Sequence[int], times: Sequence[float], width: float, step: int) -> float:
    """The time of a width on the staircase; widths below a step that the grid has stand for themselves."""
    below = {w for w in grid if w < step}
    known = {w if w in below else _up(w, step): t for w, t in zip(grid, times, strict=True)}
    return _along([*known], [*known.values()], width if width in below else _up(width, step))


def _up(width: float, step: int) -> float:
    return -(-width // step) * step


def _along(widths: Sequence[float], times: Sequence[float], width: float) -> float:
    """Linear between points, and on from the last two; never less than nothing, nor than a share of the first."""
    if len(widths) == 1:
        return times[0] * width / widths[0]
    at = int(np.clip(np.searchsorted(widths, width), 1, len(widths) - 1))
    low, high = widths[at - 1], widths[at]
    part = (width - low) / (high - low)
    return max(times[at - 1] + part * (times[at] - times[at - 1]), times[0] * min(1.0, width / widths[0]) / 2)


def _no_shapes() -> dict[ShapeKey, Staircase]:
    return {}


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """All shapes of a device.

    Attributes:
        step: channels that the device's kernels work in; align: those that a width must be a multiple of to be in their layout.
        scale, rest: see the module's docstring.
    """

    step: int = 1
    align: int = 1
    scale: float = 1.0
    rest: float = 0.0
    shapes: Mapping[ShapeKey, Staircase] = field(default_factory=_no_shapes)

    def time(self, key: ShapeKey, inputs: float, outputs: float) -> tuple[float, bool]:
        """Microseconds, and whether the table has the shape; else it is the rate of the nearest one."""
        found = self.shapes.get(key)
        if found is not None:
            return found.time(inputs, outputs, self.step, self.align), True
        alike = [s for k, s in self.shapes.items() if k.op == key.op and k.grouping == key.grouping] or list(self.shapes.values())
        if not alike:
            return 0.0, False
        near = min(alike, key=lambda s: (s.key.taps != key.taps, abs(np.log(max(s.key.pixels, 1) / max(key.pixels, 1)))))
        width = inputs if near.inputs else outputs
        rate = near.time(width, outputs, self.step, self.align) / max(near.key.macs(width, outputs), 1)
        return rate * key.macs(inputs, outputs), False


def to_toml(table: LatencyTable, source: str) -> str:
    """The table as the text of a target's file."""
    lines = [
        "[latency]",
        f"step = {table.step}",
        f"align = {table.align}",
        f"scale = {table.scale:.4f}",
        f"rest = {table.rest:.5f}",
    ]
    lines += ['evidence = "measured"', f"source = {_text(source)}", ""]
    for key, stair in table.shapes.items():
        lines += [
            "[[latency.shape]]", f"op = {_text(key.op)}", f"kernel = {list(key.kernel)}", f"strides = {list(key.strides)}",
            f"dilations = {list(key.dilations)}", f"grouping = {_text(key.grouping)}", f"groups = {key.groups}",
            f"size = {list(key.size)}", f"inputs = {list(stair.inputs)}", f"outputs = {list(stair.outputs)}",
            f"us = [{', '.join(str([round(t, 2) for t in row]) for row in stair.us)}]", f"odd = {stair.odd:.3f}", "",
        ]  # fmt: skip
    return "\n".join(lines)


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
