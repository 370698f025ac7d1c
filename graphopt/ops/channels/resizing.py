"""Constants and attributes that count channels, after channels are gone: Reshape's target, Split's sizes, Slice's ends and the
like.

Each is rewritten to what the layouts after the removal ask for. Nothing here has to be trusted: the certificate runs the
operators of the new graph on labels again, with the constants that it then has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.ops import attrs
from graphopt.ops.channels.axes import axis_of
from graphopt.ops.channels.movement import slice_ranges, split_sizes
from graphopt.ops.channels.rule import Resizing
from graphopt.ops.facts import has_input


def reshape(change: Resizing) -> None:
    """Entries that name the size of an axis which is smaller now. 0 and -1 still mean what they meant."""
    before, after = change.out_before(0), change.out_after(0)
    if before is None or after is None:
        return
    listed = change.value(1)
    for position in range(after.rank):
        old, new = before.size(position), after.size(position)
        if new is None or old == new:
            continue
        if listed is None and change.facts.opset < 5:
            named = list(attrs.ints(change.node, "shape", ()))
            if named and named[position] > 0:
                named[position] = new
                change.set_attribute("shape", named)
        elif listed is None or int(listed.reshape(-1)[position]) > 0:
            change.set_entry(1, position, new)


def squeeze(change: Resizing) -> None:
    """The axes, where none are named: one channel that is left would be taken for one of them."""
    before, after = change.before(0), change.after(0)
    named = has_input(change.node, 1) or attrs.ints(change.node, "axes", ())
    if before is None or after is None or named or not all(isinstance(size, int) for size in before.factors):
        return
    axes = [a for a in range(before.rank) if before.axes[a] == ()]
    if sum(after.size(a) == 1 for a in range(after.rank)) == len(axes):
        return
    if change.facts.opset >= 13:
        change.set_input(1, np.asarray(axes, np.int64))
    else:
        change.set_attribute("axes", axes)


def expand(change: Resizing) -> None:
    """Entries of Expand's shape that name a smaller axis."""
    before, after, listed = change.out_before(0), change.out_after(0), change.value(1)
    if before is None or after is None:
        return
    offset = after.rank - (listed.size if listed is not None else after.rank)
    for position in range(after.rank):
        old, new = before.size(position), after.size(position)
        if new is None or old == new or position < offset:
            continue
        if listed is None or int(listed.reshape(-1)[position - offset]) != 1:
            change.set_entry(1, position - offset, new)


def split(change: Resizing) -> None:
    """Sizes of the parts."""
    parts = [change.out_after(k) for k in range(len(change.node.outputs))]
    data = change.before(0)
    axis = None if data is None else axis_of(attrs.int_(change.node, "axis", 0), data.rank)
    if axis is None:
        return
    found = [None if p is None else p.size(axis) for p in parts]
    sizes = [s for s in found if s is not None]
    if len(sizes) != len(found) or split_sizes(change.node, change.facts, axis) == sizes:
        return
    if change.facts.opset >= 13:
        change.set_input(1, np.asarray(sizes, np.int64))
        change.set_attribute("num_outputs", None)
    else:
        change.set_attribute("split", sizes)


def slice_(change: Resizing) -> None:
    """Starts and ends on axes that lost elements; a Gather where what is left is not a range."""
    data = change.before(0)
    ranges = None if data is None else slice_ranges(change.node, change.facts, data.rank)
    if data is None or ranges is None:
        return
    columns: list[list[int]] = [[], [], [], []]
    for axis, start, end, step in ranges:
        new = (start, end, step)
        kept, size = change.kept(0, axis), data.size(axis)
        if kept is not None and size is not None and kept.size != size:
            chosen = _positions(kept, np.arange(size)[slice(start, None if step < 0 and end < -size else end, step)])
            found = _as_range(chosen)
            if found is None:
                if len(ranges) == 1:
                    change.replace("Gather", [change.node.inputs[0], chosen], {"axis": axis})
                return
            new = found
        for column, value in zip(columns, (axis, *new), strict=True):
            column.append(value)
    _set_slice(change, columns)


def _set_slice(change: Resizing, columns: list[list[int]]) -> None:
    axes, starts, ends, steps = columns
    if change.facts.opset < 10:
        if any(s != 1 for s in steps):
            return
        for name, value in (("axes", axes), ("starts", starts), ("ends", ends)):
            change.set_attribute(name, value)
        return
    for index, value in ((1, starts), (2, ends), (3, axes), (4, steps)):
        if index < 4 or has_input(change.node, 4) or any(s != 1 for s in steps):
            change.set_input(index, np.asarray(value, np.int64))


def _positions(kept: NDArray[Any], chosen: NDArray[Any]) -> NDArray[np.int64]:
    """Where the kept ones among ``chosen`` are now, in the order of ``chosen``."""
    place = {int(old): new for new, old in enumerate(kept)}
    return np.asarray([place[int(c)] for c in chosen if int(c) in place], np.int64)


def _as_range(chosen: NDArray[np.int64]) -> tuple[int, int, int] | None:
    """(start, end, step) of an ascending range of positions."""
    if not chosen.size:
        return None
    steps = np.diff(chosen)
    step = int(steps[0]) if steps.size else 1
    if step < 1 or (steps.size and (steps != step).any()):
        return None
    return int(chosen[0]), int(chosen[-1]) + 1, step


def gather(change: Resizing) -> None:
    """Indices: those of elements that stay, at their new positions."""
    data, indices = change.before(0), change.value(1)
    axis = None if data is None else axis_of(attrs.int_(change.node, "axis", 0), data.rank)
    if data is None or axis is None or indices is None or indices.ndim != 1:
        return
    kept, size = change.kept(0, axis), data.size(axis)
    if kept is None or size is None or kept.size == size:
        return
    wrapped = np.where(indices < 0, indices + size, indices)
    change.set_input(1, _positions(kept, wrapped).astype(indices.dtype))
