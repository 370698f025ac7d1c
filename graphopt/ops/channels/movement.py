"""Operators that move data: what they do to elements they do to labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.model import node_label
from graphopt.ops import attrs
from graphopt.ops.channels.axes import axes_of, axis_of
from graphopt.ops.channels.layout import Labels, Layout, select, with_axis
from graphopt.ops.channels.regroup import Copy, One, Target, lost_factors, reshaped
from graphopt.ops.channels.rule import View
from graphopt.ops.channels.ties import (
    broadcast,
    index_axis,
    isolate,
    pick,
    seal,
    seal_all,
    seal_factor,
    seal_factors,
    seal_inputs,
    vector,
    vector_or_fixed,
)
from graphopt.ops.facts import Facts, has_input, integer_input

Entry = int | tuple[int | str | None, ...]


def give_up(view: View, reason: str) -> Sequence[Layout | None]:
    """Freeze all inputs; nothing is known of the outputs."""
    seal_inputs(view, f"{node_label(view.node)}: {reason}")
    return [None] * len(view.node.outputs)


def transpose(view: View) -> Sequence[Layout | None]:
    """Transpose by ``perm``, or reversed."""
    data = view.layout(0)
    if data is None:
        return give_up(view, "an input of unknown rank")
    order = attrs.ints(view.node, "perm", tuple(reversed(range(data.rank))))
    if sorted(order) != list(range(data.rank)):
        return give_up(view, "a wrong permutation")
    return [select(data, order)]


def regroup(view: View, data: Layout, target: Sequence[Target]) -> Layout:
    """``data`` in the shape ``target``; labels that cannot follow are frozen."""
    lost = lost_factors(data, target)
    for factor in lost:
        # Not by `seal_factors`: its normal form would renumber the factors.
        data = seal_factor(view, data, factor, f"{node_label(view.node)} cuts across its channels")
    return reshaped(data, target)


def reshape_target(node: gs.Node, facts: Facts) -> list[Target] | None:
    """The dimensions of Reshape's output, from its target and from what shape inference found; None if the rank is not known."""
    shape = facts.shape(node.outputs[0])
    value = integer_input(node, 1, facts)
    listed = None if value is None else [int(v) for v in value.reshape(-1)]
    if listed is None and facts.opset < 5:
        listed = list(attrs.ints(node, "shape", ()))
    if listed is None:
        return None if shape is None else list(shape)
    if shape is None or len(shape) != len(listed):
        shape = (None,) * len(listed)
    target: list[Target] = []
    for position, (entry, found) in enumerate(zip(listed, shape, strict=True)):
        if entry == 0 and not attrs.int_(node, "allowzero", 0):
            target.append(Copy(position))
        else:
            target.append(entry if entry > 0 else found)
    return target


def reshape(view: View) -> Sequence[Layout | None]:
    """Reshape: factors regrouped."""
    data, target = view.layout(0), reshape_target(view.node, view.facts)
    if data is None or target is None or any(isinstance(t, Copy) and t.axis >= data.rank for t in target):
        return give_up(view, "its shape is not known")
    if any(size == 0 for size in data.factors) or 0 in target:
        return give_up(view, "an empty tensor")
    if data.fields:
        # An axis of size 1 has no labels, unless it had more channels before they were removed.
        target = [One() if t == 1 and view.once(f"axis {a}", lambda: 0) else t for a, t in enumerate(target)]
    made = regroup(view, data, target)
    for axis in range(made.rank if data.fields else 0):
        view.once(f"axis {axis}", partial(_has_labels, made, axis))
    return [made]


def _has_labels(layout: Layout, axis: int) -> int:
    return int(bool(layout.fields_on(axis)))


def flatten(view: View) -> Sequence[Layout | None]:
    """Flatten: the axes before and from ``axis`` on become one each."""
    data = view.layout(0)
    if data is None:
        return give_up(view, "an input of unknown rank")
    axis = attrs.int_(view.node, "axis", 1)
    axis = axis + data.rank if axis < 0 else axis
    parts = (range(axis), range(axis, data.rank))
    return [merged(data, parts)]


def merged(data: Layout, parts: Sequence[Sequence[int]]) -> Layout:
    """``data`` with neighbouring axes joined."""
    axes = [tuple(f for a in part for f in data.axes[a]) for part in parts]
    return select(Layout(tuple(axes), data.fields, data.why), range(len(axes)))


def squeeze(view: View) -> Sequence[Layout | None]:
    """Squeeze: axes of size 1 go, those that are named or all that there are; channels of which one is left are not meant."""
    data = view.layout(0)
    axes = None if data is None else axes_of(view, data.rank)
    if data is None or axes is None:
        return give_up(view, "its axes or its rank are not known")
    shape = view.shape(0)
    if not axes:
        axes = [a for a in range(data.rank) if data.axes[a] == ()]
        if any(data.size(a) == 1 for a in range(data.rank) if a not in axes):
            return give_up(view, "names no axes, and has an axis of one channel")
        if shape is not None and len(shape) != data.rank - len(axes):
            return give_up(view, "its axes are not known")
    data = seal(view, data, axes, f"{node_label(view.node)} of the axis")
    return [select(data, [a for a in range(data.rank) if a not in axes])]


def unsqueeze(view: View) -> Sequence[Layout | None]:
    """Unsqueeze: new axes of size 1."""
    data = view.layout(0)
    count = len(_named(view)) if data is not None else 0
    axes = None if data is None or not count else axes_of(view, data.rank + count)
    if data is None or axes is None or len(set(axes)) != count:
        return give_up(view, "its axes or its rank are not known")
    rest = iter(range(data.rank))
    return [select(data, [() if a in axes else next(rest) for a in range(data.rank + count)])]


def _named(view: View) -> Sequence[int]:
    value = view.value(1)
    return [int(v) for v in value.reshape(-1)] if value is not None else attrs.ints(view.node, "axes", ())


def concat(view: View) -> Sequence[Layout | None]:
    """Concat: labels joined along the axis, equal along the others; elements without labels get frozen ones."""
    why = node_label(view.node)
    found = [view.layout(k) for k in range(len(view.node.inputs))]
    parts = [x for x in found if x is not None]
    default = 0 if view.facts.opset >= 4 else 1
    axis = axis_of(attrs.int_(view.node, "axis", default), parts[0].rank) if parts else None
    if len(parts) != len(found) or axis is None or any(p.rank != parts[0].rank for p in parts):
        return give_up(view, "an operand of unknown rank")
    labelled = any(p.fields_on(axis) for p in parts)
    joined: list[Labels] = []
    for k, part in enumerate(parts if labelled else ()):
        fresh, labels = vector_or_fixed(view, part, axis, f"input {k}", why)
        parts[k] = fresh
        if labels is None:
            labelled = False
            break
        joined.append(labels)
    if not labelled:
        parts = [seal(view, p, [axis], f"{why}: an axis of unknown size") for p in parts]
    rest = [select(p, [a if a != axis else () for a in range(p.rank)]) for p in parts]
    made = rest[0]
    for other in rest[1:]:
        made = broadcast(view, made, other, why)
    if labelled:
        return [index_axis(made, axis, np.concatenate(joined))]
    shape = view.shape(0)
    return [with_axis(made, axis, (shape[axis] if shape is not None and len(shape) == made.rank else None,))]


def split_sizes(node: gs.Node, facts: Facts, axis: int) -> list[int] | None:
    """The sizes of Split's outputs along its axis."""
    listed = integer_input(node, 1, facts)
    if listed is not None:
        return [int(v) for v in listed.reshape(-1)]
    named = attrs.ints(node, "split", ())
    if named:
        return list(named)
    if has_input(node, 1):
        return None
    whole = facts.shape(node.inputs[0])
    size, count = whole[axis] if whole is not None and axis < len(whole) else None, len(node.outputs)
    if not isinstance(size, int):
        return None
    part = -(-size // count)
    return [*[part] * (count - 1), size - part * (count - 1)]


def split(view: View) -> Sequence[Layout | None]:
    """Split: runs of the labels along the axis."""
    data, why = view.layout(0), node_label(view.node)
    axis = None if data is None else axis_of(attrs.int_(view.node, "axis", 0), data.rank)
    if data is None or axis is None:
        return give_up(view, "its axis or its rank are not known")
    sizes = split_sizes(view.node, view.facts, axis)
    if sizes is not None and sum(sizes) == data.size(axis) and len(sizes) == len(view.node.outputs):
        bounds = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        ranges = [np.arange(bounds[k], bounds[k + 1]) for k in range(len(sizes))]
        parts = [pick(data, axis, r) if r.size else with_axis(data, axis, (0,)) for r in ranges]
        if None not in parts:
            return parts
    data, labels = vector(view, data, axis, why)
    if labels is None or sizes is None or sum(sizes) != labels.size or len(sizes) != len(view.node.outputs):
        data = seal(view, data, [axis], f"{why}: sizes that are not known")
        return [with_axis(data, axis, (sizes[k] if sizes else None,)) for k in range(len(view.node.outputs))]
    ends = np.cumsum([0, *sizes])
    return [index_axis(data, axis, labels[ends[k] : ends[k + 1]]) for k in range(len(sizes))]


def slice_ranges(view_node: gs.Node, facts: Facts, rank: int) -> list[tuple[int, int, int, int]] | None:
    """(axis, start, end, step) of a Slice, None if not constant."""
    if facts.opset < 10:
        starts, ends = attrs.ints(view_node, "starts", ()), attrs.ints(view_node, "ends", ())
        axes: Sequence[int] = attrs.ints(view_node, "axes", tuple(range(len(starts))))
        steps: Sequence[int] = (1,) * len(starts)
    else:
        values = [integer_input(view_node, k, facts) for k in range(5)]
        if values[1] is None or values[2] is None or any(values[k] is None and has_input(view_node, k) for k in (3, 4)):
            return None
        starts, ends = tuple(map(int, values[1].reshape(-1))), tuple(map(int, values[2].reshape(-1)))
        axes = tuple(range(len(starts))) if values[3] is None else tuple(map(int, values[3].reshape(-1)))
        steps = (1,) * len(starts) if values[4] is None else tuple(map(int, values[4].reshape(-1)))
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        return None
    placed = [axis_of(a, rank) for a in axes]
    if any(a is None for a in placed):
        return None
    return [(a or 0, s, e, t) for a, s, e, t in zip(placed, starts, ends, steps, strict=True)]


def slice_(view: View) -> Sequence[Layout | None]:
    """Slice: numpy's slice on the labels; an axis with computed ends keeps its size."""
    data, why = view.layout(0), node_label(view.node)
    if data is None:
        return give_up(view, "an input of unknown rank")
    ranges, shape = slice_ranges(view.node, view.facts, data.rank), view.shape(0)
    if ranges is None:
        axes = _sliced_axes(view, data.rank)
        if axes is None:
            return give_up(view, "computed ends")
        return [_resized(seal(view, data, axes, f"{why}: computed ends"), axes, shape)]
    for axis, start, end, step in ranges:
        size = data.size(axis) or 0
        chosen = np.arange(size)[slice(start, _end(end, step, size), step)]
        picked = pick(data, axis, chosen) if chosen.size else None
        if picked is not None:
            data = picked
            continue
        data, labels = vector(view, data, axis, why)
        if labels is None:
            data = _resized(data, [axis], shape)
        else:
            chosen = labels[slice(start, _end(end, step, labels.size), step)]
            data = index_axis(data, axis, chosen) if chosen.size else with_axis(seal(view, data, [axis], why), axis, (0,))
    return [data]


def _end(end: int, step: int, size: int) -> int | None:
    """Python's reading of ONNX's end: below the first element for a negative step is 'no end'."""
    return None if step < 0 and end < -size else end


def _sliced_axes(view: View, rank: int) -> list[int] | None:
    value = view.value(3)
    found = None if value is None else [axis_of(int(v), rank) for v in value.reshape(-1)]
    return None if found is None or None in found else [a for a in found if a is not None]


def _resized(data: Layout, axes: Sequence[int], shape: tuple[int | str | None, ...] | None) -> Layout:
    known = shape if shape is not None and len(shape) == data.rank else (None,) * data.rank
    return select(data, [(known[a],) if a in axes else a for a in range(data.rank)])


def gather(view: View) -> Sequence[Layout | None]:
    """Gather: constant indices pick labels; computed ones look along the axis, which keeps its size."""
    data, indices, why = view.layout(0), view.value(1), node_label(view.node)
    axis = None if data is None else axis_of(attrs.int_(view.node, "axis", 0), data.rank)
    if data is None or axis is None:
        return give_up(view, "its axis or its rank are not known")
    if indices is not None and indices.size and data.size(axis) is not None:
        size = data.size(axis) or 0
        if int(indices.min()) < -size or int(indices.max()) >= size:
            return give_up(view, "indices out of range")
    if indices is None:
        where = view.layout(1)
        data = seal(view, data, [axis], f"{why}: computed indices")
        if where is None:
            seal_all(view, data, f"{why}: computed indices")
            return [None]
        where = seal_all(view, where, f"{why}: labels as indices")
        return [select(data, [*range(axis), *where.axes, *range(axis + 1, data.rank)])]
    new: list[Entry] = [(int(n),) for n in indices.shape]
    joint = any(len(f.at) > 1 for f in data.fields_on(axis))
    if indices.size and (indices.ndim == 1 or (indices.ndim == 0 and joint)):
        picked = pick(data, axis, indices.reshape(-1).astype(np.int64))
        if picked is not None and indices.ndim == 1:
            return [picked]
        if picked is not None:
            # One of them, as a tensor of fewer axes: the others along this axis stay, or the index would mean another.
            picked = seal(view, picked, [axis], f"{why} of the axis")
            return [select(picked, [a for a in range(picked.rank) if a != axis])]
    data, labels = vector(view, data, axis, why)
    if labels is not None and indices.ndim == 1 and indices.size:
        return [index_axis(data, axis, labels[indices])]
    data = seal(view, data, [axis], f"{why} of the axis")
    return [select(data, [*range(axis), *new, *range(axis + 1, data.rank)])]


def pad(view: View) -> Sequence[Layout | None]:
    """Pad: new elements get frozen labels; with a mode that copies elements the padded axis keeps its size."""
    data, why = view.layout(0), node_label(view.node)
    pads = _pads(view, data.rank) if data is not None else None
    if data is None or pads is None:
        return give_up(view, "its pads or its rank are not known")
    shape = view.shape(0)
    for axis, (before, after) in enumerate(pads):
        if before == after == 0:
            continue
        data, labels = vector(view, data, axis, why)
        if labels is None or before < 0 or after < 0 or attrs.str_(view.node, "mode", "constant") != "constant":
            data = _resized(seal(view, data, [axis], f"{why} of the axis"), [axis], shape)
            continue
        new = view.fixed(before + after, f"axis {axis}", f"{why} of the axis")
        data = index_axis(data, axis, np.concatenate([new[:before], labels, new[before:]]))
    return [data]


def _pads(view: View, rank: int) -> list[tuple[int, int]] | None:
    if view.facts.opset < 11:
        listed: Sequence[int] = attrs.ints(view.node, "pads", attrs.ints(view.node, "paddings", ()))
    else:
        value = view.value(1)
        listed = () if value is None else tuple(int(v) for v in value.reshape(-1))
    axes = list(range(rank))
    if has_input(view.node, 3):
        named = axes_of(view, rank, 3)
        if named is None:
            return None
        axes = named
    if len(listed) != 2 * len(axes):
        return None
    pads = [(0, 0)] * rank
    for k, axis in enumerate(axes):
        pads[axis] = (listed[k], listed[k + len(axes)])
    return pads


def tile(view: View) -> Sequence[Layout | None]:
    """Tile: the axis repeated."""
    data, repeats = view.layout(0), view.value(1)
    if data is None or repeats is None or repeats.size != data.rank or view.facts.opset < 6:
        return give_up(view, "its repeats or its rank are not known")
    axes: list[tuple[int | str | None, ...]] = []
    moved: list[int] = []
    count = 0
    for factors, times in zip(data.axes, repeats.reshape(-1), strict=True):
        axes.append((int(times), *factors))
        moved.extend(count + 1 + k for k in range(len(factors)))
        count += 1 + len(factors)
    fields = tuple(type(f)(tuple(moved[at] for at in f.at), f.labels) for f in data.fields)
    return [select(Layout(tuple(axes), fields, data.why), range(data.rank))]


def expand(view: View) -> Sequence[Layout | None]:
    """Expand: axes of size 1 take the size of the shape; labels pass."""
    data, why = view.layout(0), node_label(view.node)
    value, shape = view.value(1), view.shape(0)
    listed = None if value is None else [int(v) for v in value.reshape(-1)]
    if data is None or (listed is None and shape is None):
        return give_up(view, "its shape or its rank are not known")
    rank = max(data.rank, len(listed)) if listed is not None else len(shape or ())
    if rank < data.rank or (shape is not None and len(shape) != rank):
        return give_up(view, "its shape is not known")
    data = select(data, [*[()] * (rank - data.rank), *range(data.rank)])
    wanted: list[Entry] = []
    for axis in range(rank):
        new = shape[axis] if shape is not None else None
        if data.axes[axis] == ():
            wanted.append((new,))
        elif data.fields_on(axis) and data.size(axis) != new:
            data = seal(view, data, [axis], f"{why}: an axis of unknown size")
            wanted.append((new,))
        else:
            wanted.append(axis)
    return [select(data, wanted)]


def depth_to_space(view: View) -> Sequence[Layout | None]:
    """DepthToSpace (both modes) and SpaceToDepth, as Reshape, Transpose, Reshape."""
    data, why = view.layout(0), node_label(view.node)
    block = attrs.int_(view.node, "blocksize", 0)
    channels = data.size(1) if data is not None and data.rank == 4 else None
    if data is None or channels is None or block < 1 or channels % (block * block if view.node.op == "DepthToSpace" else 1):
        return give_up(view, "its channels are not known")
    if view.node.op == "SpaceToDepth":
        data = seal(view, data, (2, 3), f"{why}: a spatial axis")
        labels = vector(view, data, 1, why)[1]
        height, width = (view.shape(0) or (None,) * 4)[2:]
        made = select(data, [0, (block * block * channels,), (height,), (width,)])
        return [made if labels is None else index_axis(made, 1, np.tile(labels, block * block))]
    data = isolate(view, data, 1, why)
    crd = attrs.str_(view.node, "mode", "DCR") == "CRD"
    rest = channels // (block * block)
    target: list[Target] = [Copy(0), *((rest, block, block) if crd else (block, block, rest)), Copy(2), Copy(3)]
    wide = regroup(view, data, target)
    ties = (2, 3) if crd else (1, 2)
    span = [at for axis in ties for at in wide.span(axis)]
    wide = seal_factors(view, wide, span, f"{why}: channels that become pixels")
    height, width = (view.shape(0) or (None,) * 4)[2:]
    return [select(wide, [0, 1 if crd else 3, (height,), (width,)])]
