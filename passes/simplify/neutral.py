"""Operators that give back their input: one row each, with the condition under which they do.

A rule gets the node and returns the tensor that the node's first output equals, or None. Equality is of values, element type and
shape, for every input that the node accepts. Where shapes decide they must be static, or the attributes alone must settle it.

What "equal" means for floats:

- NaN stays NaN in all rules here; ``x*1``, ``x/1``, ``x-0`` and ``x**1`` are exact for every x, infinities and subnormals included.
- ``x+0`` and a sum over one element turn -0 into +0. Those two compare equal, and onnxruntime drops such an Add itself; but 1/x
  tells them apart. They are removed unless ``signed_zeros`` is set; ``x+(-0)`` is exact and removed always.
- a float Clip without bounds is not neutral: onnxruntime clips infinities to the largest finite number.
- MaxPool and the like with windows of one element are left alone: runtimes disagree on NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.ops import attrs
from graphopt.passes.simplify.editor import Editor

Rule = Callable[[gs.Node, Editor], gs.Tensor | None]

_INT32_MAX = 2**31 - 1
_INTEGERS = frozenset(
    getattr(onnx.TensorProto, name) for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
)


def axes_of(node: gs.Node, editor: Editor, index: int, since: int = 13) -> tuple[int, ...] | None:
    """The axes of Squeeze, Unsqueeze or a reduction: input ``index`` from opset ``since``, an attribute before.

    None if they are not given or not constant.
    """
    if editor.opset < since:
        return attrs.ints(node, "axes", ()) if "axes" in node.attrs else None
    value = editor.constant(editor.input(node, index))
    return None if value is None or value.dtype.kind != "i" else tuple(int(v) for v in value.reshape(-1))


# -- one input, handed on ------------------------------------------------------------------------------------------------


def _always(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    return editor.input(node, 0)


def _single(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """Concat, Sum, Max, Min or Mean of one tensor."""
    return editor.input(node, 0) if len(node.inputs) == 1 else None


def _split(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    return editor.input(node, 0) if len(node.outputs) == 1 else None


def _dropout(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """At inference. The mask must have no reader; before opset 7 the attribute is_test decides, from 12 on an input."""
    if len(node.outputs) > 1 and editor.is_read(node.outputs[1]):
        return None
    if editor.opset < 7 and not attrs.int_(node, "is_test", 0):
        return None
    training = editor.input(node, 2)
    if training is not None:
        value = editor.constant(training)
        if value is None or bool(np.any(value)):
            return None
    return editor.input(node, 0)


def _cast(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    source = editor.input(node, 0)
    to = attrs.int_(node, "to", 0)
    return source if source is not None and to and editor.facts.dtype(source) == to else None


def _cast_like(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    source, like = editor.input(node, 0), editor.input(node, 1)
    if source is None or like is None:
        return None
    kind = editor.facts.dtype(source)
    return source if kind and kind == editor.facts.dtype(like) else None


def _integer_clip(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    source = editor.input(node, 0)
    bounded = any(editor.input(node, i) is not None for i in (1, 2)) or "min" in node.attrs or "max" in node.attrs
    return source if source is not None and not bounded and editor.facts.dtype(source) in _INTEGERS else None


# -- movement ------------------------------------------------------------------------------------------------------------


def same_shape(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """Operators that keep the order of elements: nothing happens where the shape stays."""
    source = editor.input(node, 0)
    if source is None:
        return None
    shape = editor.shape(source)
    return source if shape is not None and shape == editor.shape(node.outputs[0]) else None


def _reshape(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """Also with dynamic dimensions: all entries but one copy theirs, and the number of elements settles the last."""
    source = editor.input(node, 0)
    if source is None:
        return None
    dims, target = editor.dims(source), _target(node, editor)
    if dims is None or target is None or len(dims) != len(target):
        return same_shape(node, editor)
    copies = not attrs.int_(node, "allowzero", 0)
    kept = [(t == 0 and copies) or (t > 0 and t == d) for t, d in zip(target, dims, strict=True)]
    if [t for t, keep in zip(target, kept, strict=True) if not keep] in ([], [-1]):
        return source
    return same_shape(node, editor)


def _target(node: gs.Node, editor: Editor) -> tuple[int, ...] | None:
    if editor.opset < 5:
        return attrs.ints(node, "shape", ()) if "shape" in node.attrs else None
    value = editor.constant(editor.input(node, 1))
    return None if value is None or value.ndim != 1 else tuple(int(v) for v in value)


def _flatten(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    source = editor.input(node, 0)
    dims = None if source is None else editor.dims(source)
    if dims is not None and len(dims) == 2 and attrs.int_(node, "axis", 1) in (1, -1):
        return source
    return same_shape(node, editor)


def _expand(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    source, target = editor.input(node, 0), editor.constant(editor.input(node, 1))
    dims = None if source is None else editor.dims(source)
    if dims is not None and target is not None and target.size <= len(dims) and bool(np.all(target == 1)):
        return source
    return same_shape(node, editor)


def _tile(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    repeats = editor.constant(editor.input(node, 1))
    once = editor.opset >= 6 and repeats is not None and bool(np.all(repeats == 1))
    return editor.input(node, 0) if once else None


def _transpose(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """The identity, and a permutation that only moves dimensions of 1 about without changing the shape."""
    source = editor.input(node, 0)
    dims = None if source is None else editor.dims(source)
    if dims is None:
        perm = attrs.ints(node, "perm", ())
        return source if perm and perm == tuple(range(len(perm))) else None
    perm = attrs.ints(node, "perm", tuple(reversed(range(len(dims)))))
    if sorted(perm) != list(range(len(dims))):
        return None
    moved = [axis for axis in perm if dims[axis] != 1]
    if moved != sorted(moved):
        return None
    return source if all(a == p or (dims[a] == 1 == dims[p]) for a, p in enumerate(perm)) else None


def _slice(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    source = editor.input(node, 0)
    dims = None if source is None else editor.dims(source)
    if dims is None:
        return None
    ranges = list(_ranges(node, editor))
    if not ranges:
        return None
    for start, end, axis, step in ranges:
        if not -len(dims) <= axis < len(dims):
            return None
        size = dims[axis]
        whole = end >= _INT32_MAX or (isinstance(size, int) and end >= size)
        first = start == 0 or (isinstance(size, int) and start <= -size)
        if step != 1 or not whole or not first:
            return None
    return source


def _ranges(node: gs.Node, editor: Editor) -> Iterator[tuple[int, int, int, int]]:
    """(start, end, axis, step) of a Slice; nothing if any of it is not constant."""
    if editor.opset < 10:
        starts, ends = attrs.ints(node, "starts", ()), attrs.ints(node, "ends", ())
        axes = attrs.ints(node, "axes", tuple(range(len(starts))))
        steps: tuple[int, ...] = (1,) * len(starts)
    else:
        given = [_integers(node, editor, index) for index in (1, 2, 3, 4)]
        if any(g is None and editor.input(node, i) is not None for i, g in enumerate(given, 1)):
            return
        starts, ends = given[0] or (), given[1] or ()
        axes = given[2] or tuple(range(len(starts)))
        steps = given[3] or (1,) * len(starts)
    if len(starts) == len(ends) == len(axes) == len(steps):
        yield from zip(starts, ends, axes, steps, strict=True)


def _integers(node: gs.Node, editor: Editor, index: int) -> tuple[int, ...] | None:
    value = editor.constant(editor.input(node, index))
    return None if value is None or value.dtype.kind != "i" else tuple(int(v) for v in value.reshape(-1))


def _pad(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    if editor.opset < 11:
        pads: tuple[int, ...] | None = attrs.ints(node, "pads", ()) or None
    else:
        pads = _integers(node, editor, 1)
    return editor.input(node, 0) if pads is not None and not any(pads) else None


def _gather(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """Every index of the axis, in order."""
    source, indices = editor.input(node, 0), editor.constant(editor.input(node, 1))
    dims = None if source is None else editor.dims(source)
    axis = attrs.int_(node, "axis", 0)
    if dims is None or indices is None or indices.ndim != 1 or not -len(dims) <= axis < len(dims):
        return None
    return source if dims[axis] == indices.size and np.array_equal(indices, np.arange(indices.size)) else None


def _blocks(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    source = editor.input(node, 0)
    dims = None if source is None else editor.dims(source)
    return source if dims is not None and len(dims) == 4 and attrs.int_(node, "blocksize", 0) == 1 else None


def _resize(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """Scale 1: each output falls on its input, with weight 1. Not so for a region of interest, nor for antialiasing."""
    mode = attrs.str_(node, "mode", "nearest")
    transform = attrs.str_(node, "coordinate_transformation_mode", "half_pixel")
    if mode not in ("nearest", "linear", "bilinear") or transform == "tf_crop_and_resize" or attrs.int_(node, "antialias", 0):
        return None
    if "axes" in node.attrs:
        return None
    source = same_shape(node, editor)
    scales = editor.constant(editor.input(node, 2 if node.op == "Resize" and editor.opset >= 11 else 1))
    sizes = editor.constant(editor.input(node, 3)) if node.op == "Resize" else None
    ones = scales is not None and scales.size > 0 and bool(np.all(scales == 1))
    return source if source is not None and (ones or (sizes is not None and sizes.size > 0)) else None


# -- arithmetic ----------------------------------------------------------------------------------------------------------


def _reduce(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """A sum, mean, product or extreme over dimensions of 1, or over none."""
    if node.op in ("ReduceSum", "ReduceMean") and not _drops_signs(node, editor):
        return None
    return same_shape(node, editor) if attrs.int_(node, "keepdims", 1) else None


def _drops_signs(node: gs.Node, editor: Editor) -> bool:
    """Whether -0 may become +0 here: the user does not mind, or the type has no -0."""
    return not editor.signed_zeros or editor.facts.dtype(node.outputs[0]) in _INTEGERS


@dataclass(frozen=True)
class Operand:
    """A constant operand that changes nothing: ``value`` at input ``index``.

    ``sign``: which zero changes no sign at all, the negative one (-1, for Add) or the positive one (1, for Sub); 0 for operators
    that never change the sign of zero.
    """

    value: float | bool
    index: int
    sign: int = 0

    def __call__(self, node: gs.Node, editor: Editor) -> gs.Tensor | None:
        if editor.opset < 7 or len(node.inputs) != 2:
            return None
        constant, other = editor.constant(editor.input(node, self.index)), editor.input(node, 1 - self.index)
        if constant is None or other is None or not _filled(constant, self.value):
            return None
        if self.sign and constant.dtype.kind == "f" and not _drops_signs(node, editor):
            negative = np.signbit(constant)
            if not bool(np.all(negative if self.sign < 0 else ~negative)):
                return None
        return other if _broadcasts_into(constant.shape, other, editor) else None


def _filled(array: NDArray[Any], value: float | bool) -> bool:
    """All elements are ``value``; the first is asked first, since most constants are settled by it."""
    if array.size == 0 or array.dtype.kind not in "iufb" or (array.dtype.kind == "b") != isinstance(value, bool):
        return False
    return bool(array.flat[0] == value) and bool(np.all(array == value))


def _broadcasts_into(shape: tuple[int, ...], other: gs.Tensor, editor: Editor) -> bool:
    """Whether an operand of this shape leaves the shape of ``other`` as it is (multidirectional broadcasting)."""
    if not shape:
        return True
    dims = editor.dims(other)
    if dims is None or len(dims) < len(shape):
        return False
    return all(s in (1, d) for s, d in zip(reversed(shape), reversed(dims), strict=False))


def _where(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    condition = editor.constant(editor.input(node, 0))
    if condition is None or condition.size == 0 or len(node.inputs) != 3:
        return None
    if bool(condition.all()) == bool(condition.any()):
        chosen = node.inputs[1 if condition.flat[0] else 2]
        shape = editor.shape(chosen)
        return chosen if shape is not None and shape == editor.shape(node.outputs[0]) else None
    return None


# -- pairs ---------------------------------------------------------------------------------------------------------------


def _involution(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """f(f(x)) = x."""
    source = editor.input(node, 0)
    inner = None if source is None else editor.producer(source, node.op)
    return None if inner is None else editor.input(inner, 0)


def _idempotent(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """f(f(x)) = f(x)."""
    source = editor.input(node, 0)
    return source if source is not None and editor.producer(source, node.op) is not None else None


def _squeeze_pair(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    """Squeeze and Unsqueeze of the same axes, in either order."""
    source = editor.input(node, 0)
    inner = None if source is None else editor.producer(source, "Unsqueeze" if node.op == "Squeeze" else "Squeeze")
    if inner is None:
        return same_shape(node, editor)
    origin = editor.input(inner, 0)
    # Both count axes in the longer of the two shapes: the one between for Unsqueeze first, the outer one otherwise.
    longer = editor.dims(inner.outputs[0]) if node.op == "Squeeze" else None if origin is None else editor.dims(origin)
    here, there = axes_of(node, editor, 1), axes_of(inner, editor, 1)
    if not longer or here is None or there is None:
        return None
    rank = len(longer)
    return origin if {a % rank for a in here} == {a % rank for a in there} else None


NEUTRAL: dict[str, tuple[Rule, ...]] = {
    "Identity": (_always,),
    "Dropout": (_dropout,),
    "Cast": (_cast,),
    "CastLike": (_cast_like,),
    "Clip": (_integer_clip,),
    "Concat": (_single,),
    "Sum": (_single,),
    "Max": (_single,),
    "Min": (_single,),
    "Mean": (_single,),
    "Split": (_split,),
    "Reshape": (_reshape,),
    "Flatten": (_flatten,),
    "Expand": (_expand,),
    "Tile": (_tile,),
    "Transpose": (_transpose,),
    "Slice": (_slice,),
    "Pad": (_pad,),
    "Gather": (_gather,),
    "DepthToSpace": (_blocks,),
    "SpaceToDepth": (_blocks,),
    "Resize": (_resize,),
    "Upsample": (_resize,),
    "ReduceSum": (_reduce,),
    "ReduceMean": (_reduce,),
    "ReduceProd": (_reduce,),
    "ReduceMax": (_reduce,),
    "ReduceMin": (_reduce,),
    "Add": (Operand(0, 1, sign=-1), Operand(0, 0, sign=-1)),
    "Sub": (Operand(0, 1, sign=1),),
    "Mul": (Operand(1, 1), Operand(1, 0)),
    "Div": (Operand(1, 1),),
    "Pow": (Operand(1, 1),),
    "And": (Operand(True, 1), Operand(True, 0)),
    "Or": (Operand(False, 1), Operand(False, 0)),
    "Where": (_where,),
    "Not": (_involution,),
    "Neg": (_involution,),
    "Relu": (_idempotent,),
    "Abs": (_idempotent,),
    "Floor": (_idempotent,),
    "Ceil": (_idempotent,),
    "Round": (_idempotent,),
    "Squeeze": (_squeeze_pair,),
    "Unsqueeze": (_squeeze_pair,),
}
"""Operator of the default domain -> rules, tried in order."""
