"""Operators on sizes, and resampling. A size that is read by Shape is new by itself in a pruned graph; what becomes of it is
followed by the analysis: it may flow into sizes (Reshape's target), and freezes the channels that it counts where it is
computed with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.model import node_label
from graphopt.ops import attrs
from graphopt.ops.channels.layout import Layout, blank, select
from graphopt.ops.channels.movement import give_up
from graphopt.ops.channels.rule import Resizing, View
from graphopt.ops.channels.ties import seal
from graphopt.ops.facts import has_input


def source(view: View) -> Sequence[Layout | None]:
    """Shape, Constant, ConstantOfShape, Range: an output without channels, whatever the inputs."""
    found: list[Layout | None] = []
    for index in range(len(view.node.outputs)):
        shape = view.shape(index)
        found.append(None if shape is None else blank(shape, f"made by {node_label(view.node)}"))
    return found


def resample(view: View) -> Sequence[Layout | None]:
    """Resize, Upsample: axes that are not scaled pass, the others keep their sizes."""
    data, why = view.layout(0), node_label(view.node)
    if data is None:
        return give_up(view, "an input of unknown rank")
    scaled = _scaled_axes(view, data)
    shape = view.shape(0)
    known = shape if shape is not None and len(shape) == data.rank else (None,) * data.rank
    data = seal(view, data, scaled, f"{why} scales the axis")
    return [select(data, [(known[a],) if a in scaled else a for a in range(data.rank)])]


def _scaled_axes(view: View, data: Layout) -> list[int]:
    """The axes that may be scaled: all but those whose scale is one, or whose size is named and the same."""
    node = view.node
    axes = list(attrs.ints(node, "axes", ()))
    axes = [a + data.rank if a < 0 else a for a in axes] or list(range(data.rank))
    cropped = attrs.str_(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    cropped = cropped or attrs.str_(node, "keep_aspect_ratio_policy", "stretch") != "stretch"
    slots = {"Upsample": (1, None)}.get(node.op, (1, None) if view.facts.opset < 11 else (2, 3))
    scales = view.value(slots[0]) if has_input(node, slots[0]) else None
    sizes = view.value(slots[1]) if slots[1] is not None and has_input(node, slots[1]) else None
    if scales is None and node.op == "Upsample":
        named = node.attrs.get("scales")
        scales = np.asarray(named, np.float32) if isinstance(named, (list, tuple)) else None
    if cropped:
        return axes
    kept: list[int] = []
    for k, axis in enumerate(axes):
        if scales is not None and scales.size == len(axes):
            same = float(scales.reshape(-1)[k]) == 1.0
        elif sizes is not None and sizes.size == len(axes):
            same = int(sizes.reshape(-1)[k]) == data.size(axis)
        else:
            same = _same_size(view, data, axis)
        if same:
            kept.append(axis)
    return [a for a in axes if a not in kept]


def _same_size(view: View, data: Layout, axis: int) -> bool:
    """With computed sizes or scales: whether shape inference found that the axis keeps its size."""
    shape = view.shape(0)
    return shape is not None and len(shape) == data.rank and isinstance(shape[axis], int) and shape[axis] == data.size(axis)


def resize_sizes(change: Resizing) -> None:
    """Resize's ``sizes`` where it names a channel axis."""
    named, after = change.value(3), change.out_after(0)
    if named is None or after is None or not named.size:
        return
    axes = list(attrs.ints(change.node, "axes", ())) or list(range(after.rank))
    for k, axis in enumerate(axes):
        size = after.size(axis)
        if after.fields_on(axis) and size is not None and int(named.reshape(-1)[k]) != size:
            change.set_entry(3, k, size)
