"""Operators that move, select and join elements, as affine maps (ONNX operator specification)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.ops import attrs
from graphopt.ops.affine import views
from graphopt.ops.affine.axis import PLAIN, Axis
from graphopt.ops.affine.form import Form, Refused
from graphopt.ops.affine.frames import bordered
from graphopt.ops.affine.layout import layout
from graphopt.ops.affine.maps import Leaf, identity_of, select
from graphopt.ops.affine.terms import NOT_CONSTANT, Linear, Move, Outputs, Part, Sum, Term, float_node, is_float
from graphopt.ops.facts import Facts, Shape, constant_input, has_input, integer_input, static

_END = 2**31 - 1
"""From here on an end of a slice means the end of the axis."""

_WIDE = 32
"""Concats of more inputs are not looked at: each takes note of all channels."""


# -- selections --------------------------------------------------------------------------------------------------------------


def slice_(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Slice: channels are selected; along a spatial axis a part is left out, or a stride taken."""
    shape = facts.shape(node.inputs[0])
    axis = layout(node, shape)
    cuts = _cuts(node, facts)
    if shape is None or axis is None or not float_node(node, facts):
        return None
    if cuts is None:
        return NOT_CONSTANT
    channels = shape[axis]
    if not isinstance(channels, int):
        return None
    steps: list[Leaf] = []
    for a, start, stop, step in cuts:
        if a == axis:
            chosen = range(channels)[slice(start, stop if stop > -_END else None, step)]
            steps.append(select(len(shape), axis, channels, chosen))
            channels = len(chosen)
            if not channels:
                return None
        elif axis != 1 or a < 2:
            return None
        else:
            along = _cut(shape[a], start, stop, step)
            if along is None:
                return None
            axes = tuple(along if i == a - 2 else PLAIN for i in range(len(shape) - 2))
            unit = identity_of(len(shape), 1, channels)
            steps.append(Leaf(Form(1, channels, channels, channels, axes), unit.build, label="slice"))
    return Linear(0, tuple(steps)) if steps else None


def _cuts(node: gs.Node, facts: Facts) -> list[tuple[int, int, int, int]] | None:
    """Axis, start, stop and step of each cut."""
    rank = len(facts.shape(node.inputs[0]) or ())
    if facts.opset < 10:
        starts, stops = attrs.ints(node, "starts", ()), attrs.ints(node, "ends", ())
        axes, steps = attrs.ints(node, "axes", tuple(range(len(starts)))), (1,) * len(starts)
    else:
        given = [integer_input(node, i, facts) for i in range(1, 5)]
        if given[0] is None or given[1] is None or any(has_input(node, i) and given[i - 1] is None for i in (3, 4)):
            return None
        listed = [tuple(int(v) for v in g.reshape(-1)) if g is not None else () for g in given]
        starts, stops = listed[0], listed[1]
        axes, steps = listed[2] or tuple(range(len(starts))), listed[3] or (1,) * len(starts)
    if not len(starts) == len(stops) == len(axes) == len(steps) or any(s == 0 for s in steps) or not rank:
        return None
    return list(zip((a % rank for a in axes), starts, stops, steps, strict=True))


def _cut(size: Any, start: int, stop: int, step: int) -> Axis | None:
    """A slice along a spatial axis as negative pads and a stride."""
    if step < 1:
        return None
    if isinstance(size, int):
        first, last, _ = slice(start, min(stop, _END), step).indices(size)
        return Axis(stride=step, begin=-first, end=-(size - last)) if last > first else None
    if start < 0 or 0 <= stop < _END:
        return None
    return Axis(stride=step, begin=-start, end=0 if stop >= _END else stop)


def split(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Split along the channels: a selection for each output."""
    shape = facts.shape(node.inputs[0])
    if shape is None or len(shape) < 2 or not float_node(node, facts):
        return None
    axis = attrs.int_(node, "axis", 0) % len(shape)
    channels = shape[axis]
    if axis != layout(node, shape) or not isinstance(channels, int):
        return None
    sizes = _split_sizes(node, facts, channels)
    if sizes is None or sum(sizes) != channels or min(sizes) < 1 or len(sizes) != len(node.outputs):
        return None
    starts = np.cumsum([0, *sizes])
    chosen = [range(int(a), int(b)) for a, b in itertools.pairwise(starts)]
    return Outputs(tuple(Linear(0, (select(len(shape), axis, channels, one),)) for one in chosen))


def _split_sizes(node: gs.Node, facts: Facts, channels: int) -> list[int] | None:
    if facts.opset >= 13 and has_input(node, 1):
        given = integer_input(node, 1, facts)
        return None if given is None else [int(v) for v in given.reshape(-1)]
    listed = attrs.ints(node, "split", ())
    if listed and facts.opset < 13:
        return list(listed)
    count = len(node.outputs)
    size = -(-channels // count)
    return [size] * (count - 1) + [channels - size * (count - 1)]


def gather(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Gather along the channels with a list of constants."""
    shape, index = facts.shape(node.inputs[0]), integer_input(node, 1, facts)
    if shape is None or len(shape) < 2 or index is None or index.ndim != 1 or not float_node(node, facts):
        return None
    axis = attrs.int_(node, "axis", 0) % len(shape)
    channels = shape[axis]
    if axis != layout(node, shape) or not isinstance(channels, int) or not index.size or np.any(index >= channels):
        return None
    chosen = [int(i) % channels for i in index]
    return Linear(0, (select(len(shape), axis, channels, chosen),))


def concat(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Concat along the channels: a sum of inputs, each embedded at its place. Along a spatial axis with constants, one for
    each channel: a border.
    """
    shapes = [facts.shape(t) for t in node.inputs]
    lead = shapes[0] if shapes else None
    if lead is None or len(lead) < 2 or any(s is None or len(s) != len(lead) for s in shapes) or not float_node(node, facts):
        return None
    axis = attrs.int_(node, "axis", 1) % len(lead)
    if len(node.inputs) > _WIDE:
        return None
    moving = [i for i, t in enumerate(node.inputs) if facts.value(t) is None]
    if axis != layout(node, lead):
        return _framed(node, facts, axis, moving)
    widths = [s[axis] for s in shapes if s is not None]
    known = [w for w in widths if isinstance(w, int)]
    if len(known) != len(widths) or len(moving) != len(known) or min(known) < 1:
        return None
    starts = [sum(known[:i]) for i in range(len(known))]
    total = sum(known)
    parts: list[Part] = []
    for i, (start, width) in enumerate(zip(starts, known, strict=True)):
        parts.append(Part(i, 1.0, _embedding(len(lead), axis, start, width, total)))
    return Sum(tuple(parts))


def _embedding(rank: int, axis: int, start: int, width: int, total: int) -> Callable[[], Leaf]:
    """``width`` channels at ``start`` among ``total``."""
    return lambda: select(rank, axis, width, [o - start if start <= o < start + width else -1 for o in range(total)])


def _framed(node: gs.Node, facts: Facts, axis: int, moving: list[int]) -> Term | None:
    """One moving input between constants along a spatial axis, channels first."""
    shape = facts.shape(node.inputs[moving[0]]) if len(moving) == 1 else None
    if shape is None or axis < 2 or not isinstance(shape[1], int):
        return None
    steps: list[Leaf] = []
    for i, tensor in enumerate(node.inputs):
        value = facts.value(tensor)
        if value is None:
            continue
        vector = _by_channel(np.asarray(value), 1)
        if vector is None or vector.size != shape[1]:
            return None
        pads = [value.shape[axis] if a == axis else 0 for a in range(2, len(shape))]
        none = [0] * len(pads)
        before = i < moving[0]
        steps += bordered(shape[1], pads if before else none, none if before else pads, vector, (tensor.name,))
    return Linear(moving[0], tuple(steps))


def _by_channel(value: NDArray[Any], axis: int) -> NDArray[Any] | None:
    """The values along ``axis`` of an array that varies along no other."""
    if not is_float(value) or not value.size:
        return None
    moved = np.moveaxis(np.asarray(value, np.float64), axis, 0).reshape(value.shape[axis], -1)
    return moved[:, 0] if np.array_equal(moved, np.broadcast_to(moved[:, :1], moved.shape)) else None


# -- space and depth ---------------------------------------------------------------------------------------------------------


def depth_to_space(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """DepthToSpace, in both modes."""
    shape, size = facts.shape(node.inputs[0]), attrs.int_(node, "blocksize", 0)
    if shape is None or len(shape) != 4 or not isinstance(shape[1], int) or size < 1 or shape[1] % (size * size):
        return None
    block, channels = size * size, shape[1] // (size * size)
    steps = [views.depth_to_space(channels, (size, size))]
    if attrs.str_(node, "mode", "DCR") == "DCR":
        order = np.arange(shape[1]).reshape(block, channels).T.reshape(-1)
        steps.insert(0, select(4, 1, shape[1], [int(i) for i in order]))
    return Linear(0, tuple(steps))


def space_to_depth(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """SpaceToDepth: a strided selection, phases before channels."""
    shape, size = facts.shape(node.inputs[0]), attrs.int_(node, "blocksize", 0)
    if shape is None or len(shape) != 4 or not isinstance(shape[1], int) or size < 1:
        return None
    wide, block = shape[1] * size * size, size * size
    order = np.arange(wide).reshape(shape[1], block).T.reshape(-1)
    return Linear(0, (views.space_to_depth(shape[1], (size, size)), select(4, 1, wide, [int(i) for i in order])))


# -- axes --------------------------------------------------------------------------------------------------------------------


def transpose(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Transpose."""
    shape = facts.shape(node.inputs[0])
    if shape is None or not float_node(node, facts):
        return None
    order = attrs.ints(node, "perm", tuple(reversed(range(len(shape)))))
    return Move(0, lambda view: views.transposed(view, order))


def reshape(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Reshape, Flatten, Squeeze and Unsqueeze."""
    shape = facts.shape(node.outputs[0])
    if shape is None or not float_node(node, facts):
        return None
    given = integer_input(node, 1, facts) if node.op == "Reshape" and not attrs.int_(node, "allowzero", 0) else None
    copied = frozenset(i for i, v in enumerate(given.reshape(-1)) if v == 0) if given is not None else frozenset[int]()
    return Move(0, lambda view: views.reshaped(view, shape, copied))


def expand(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Expand."""
    before, after = facts.shape(node.inputs[0]), facts.shape(node.outputs[0])
    if before is None or after is None or not float_node(node, facts):
        return None
    return Move(0, lambda view: views.expanded(view, after))


def tile(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Tile."""
    times = integer_input(node, 1, facts)
    if times is None or not float_node(node, facts) or times.ndim != 1:
        return None
    return Move(0, lambda view: views.repeated(view, [int(v) for v in times]))


# -- written borders ---------------------------------------------------------------------------------------------------------


def scatter(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """ScatterND that writes constants over the whole border on one side: what was there is left out, and the border put
    around the rest. Training code that pads with a batch norm's bias is exported so.
    """
    shape = static(facts.shape(node.inputs[0]))
    index, updates = integer_input(node, 1, facts), constant_input(node, 2, facts)
    open_shape = facts.shape(node.inputs[0])
    if open_shape is None or index is None or updates is None or attrs.str_(node, "reduction", "none") != "none":
        return None
    band = _band(open_shape, shape, index, updates)
    if band is None:
        return None
    axis, first, count, values = band
    return Move(0, lambda view: _overwritten(view, axis, first, count, values, node.inputs[2].name))


def _band(
    open_shape: Shape, shape: tuple[int, ...] | None, index: NDArray[Any], updates: NDArray[Any]
) -> tuple[int, int, int, NDArray[Any]] | None:
    """Axis, first position and number of the positions that are written, and the values [rank axes, 1 where they are equal]."""
    depth = index.shape[-1] if index.ndim else 0
    if not index.size or not updates.size:
        return None
    if depth == 1:  # whole slices of the first axis
        places: NDArray[Any] = index.reshape(-1)
        size = open_shape[0]
        if not isinstance(size, int) or updates.shape[: index.ndim - 1] != index.shape[:-1]:
            return None
        rows = np.asarray(updates).reshape(places.size, *updates.shape[index.ndim - 1 :])
        if rows.ndim != len(open_shape):
            return None
        places = np.where(places < 0, places + size, places)
        order = np.argsort(places, kind="stable")
        return _side(0, places[order], size, _squeezed(rows[order]))
    if shape is None or depth != len(shape):
        return None
    points = index.reshape(-1, depth)
    points = np.where(points < 0, points + np.asarray(shape), points)
    if (points < 0).any() or (points >= np.asarray(shape)).any():
        return None
    low, high = points.min(0), points.max(0) + 1
    short = [a for a in range(depth) if (low[a], high[a]) != (0, shape[a])]
    if len(short) != 1 or len(points) != math.prod(int(v) for v in high - low):
        return None
    box: NDArray[Any] = np.full(tuple(int(v) for v in high - low), np.nan)
    box[tuple((points - low).T)] = updates.reshape(-1)
    axis = short[0]
    if np.isnan(box).any():
        return None
    return _side(axis, np.arange(int(low[axis]), int(high[axis])), shape[axis], _squeezed(box))


def _side(axis: int, places: NDArray[Any], size: int, values: NDArray[Any]) -> tuple[int, int, int, NDArray[Any]] | None:
    count = places.size
    whole = np.array_equal(places, np.arange(int(places[0]), int(places[0]) + count))
    if not whole or count >= size or (places[0] != 0 and places[-1] != size - 1):
        return None
    return axis, int(places[0]), count, values


def _squeezed(values: NDArray[Any]) -> NDArray[Any]:
    """Axes along which nothing changes, reduced to one element."""
    found: NDArray[Any] = np.asarray(values, np.float64)
    for a in range(found.ndim):
        first: NDArray[Any] = np.take(found, [0], axis=a)
        if np.array_equal(found, np.broadcast_to(first, found.shape)):
            found = first
    return found


def _overwritten(view: views.View, axis: int, first: int, count: int, values: NDArray[Any], source: str) -> views.View | None:
    channels = view.shape[view.axis]
    at = [next((p for p, d in enumerate(view.dims) if [f.axis for f in d] == [a]), -1) for a in range(len(view.shape))]
    free = [p for p in range(len(view.dims)) if p not in at]
    for a, place in enumerate(at):
        if place < 0 and view.shape[a] == 1 and free:
            at[a] = free.pop(0)
    if view.axis != 1 or not isinstance(channels, int) or min(at) < 0 or axis not in at[2:]:
        return None
    wide = [a for a in range(values.ndim) if values.shape[a] > 1]
    if any(a != at[1] for a in wide):
        return None
    vector = np.broadcast_to(values.reshape(-1), (channels,)) if values.size in (1, channels) else None
    if vector is None:
        return None
    side = 2 * (at.index(axis) - 2) + (0 if first == 0 else 1)
    return view.overwritten(side, count, tuple(float(v) for v in vector), source)
