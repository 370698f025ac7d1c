"""Shape arithmetic, element by element: what is known of a vector of which only a part is constant.

Exporters write the shape of a Reshape as a little program: take ``Shape(x)``, pick an entry, put it beside constants. With a
dynamic batch that program is not constant as a whole, but most of what it computes is. Here each short integer vector is an
array of elements, and an element is a number, ``Dim(tensor, axis)`` (that dimension of that tensor, whatever it will be), or None.
Operators that move elements run on these arrays as they are; arithmetic runs on numbers.

Two things follow: a vector of numbers alone is a constant, and a Reshape whose shape is known but for the dimensions that it copies
from its own input (entry 0) or one that the number of elements settles (entry -1) needs no program any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import node_label
from graphopt.ops import attrs
from graphopt.passes.simplify.editor import Editor
from graphopt.passes.simplify.neutral import axes_of
from graphopt.pipeline import Rewrite

MOST = 64
"""Longer vectors are data, not shapes."""

_INT64 = np.iinfo(np.int64)
_NUMPY = {int(onnx.TensorProto.INT32): np.int32, int(onnx.TensorProto.INT64): np.int64}


@dataclass(frozen=True)
class Dim:
    """A dimension that is not known: that of the tensor with this name along this axis."""

    tensor: str
    axis: int


Element = int | Dim | None
Elements = NDArray[Any]
"""Of type object, with an element in each place; of rank 0 or 1."""

Mover = Callable[[gs.Node, list[Elements], Editor], "Elements | None"]


class Tracker:
    """The elements of the vectors of one graph, as far as they are known."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._known: dict[int, Elements] = {}

    def of(self, tensor: gs.Tensor | None) -> Elements | None:
        """Elements of a constant or of a vector that was followed; None if the tensor is neither, or not a vector of integers."""
        if tensor is None:
            return None
        if id(tensor) in self._known:
            return self._known[id(tensor)]
        if isinstance(tensor, gs.Constant) and (len(tensor.shape) > 1 or any(d > MOST for d in tensor.shape)):
            return None
        value = self._editor.constant(tensor)
        if value is None or value.ndim > 1 or value.size > MOST or value.dtype.kind != "i":
            return None
        return value.astype(object)

    def follow(self, node: gs.Node) -> Elements | None:
        """What is known of the node's first output, remembered for its readers."""
        found: Elements | None = None
        if node.op in ("Shape", "Size"):
            found = self._shape(node)
        elif node.op in MOVERS:
            given = [self.of(t if t.name else None) for t in node.inputs]
            held = [g for g in given if g is not None]
            if len(held) == len(given) and held:
                found = MOVERS[node.op](node, held, self._editor)
        if found is None or found.ndim > 1 or found.size > MOST:
            return None
        self._known[id(node.outputs[0])] = found
        return found

    def _shape(self, node: gs.Node) -> Elements | None:
        source = self._editor.input(node, 0)
        dims = None if source is None else self._editor.dims(source)
        if source is None or dims is None or len(dims) > MOST:
            return None
        known: list[Element] = [d if isinstance(d, int) else Dim(source.name, axis) for axis, d in enumerate(dims)]
        if node.op == "Size":
            return _vector([_product(known)]).reshape(())
        return _vector(known[attrs.int_(node, "start", 0) : attrs.int_(node, "end", len(known))])


def fold_shapes(editor: Editor) -> list[Rewrite]:
    """Make constants of the vectors that are known, and of the shapes that Reshape can copy or infer the rest of."""
    tracker = Tracker(editor)
    rewrites: list[Rewrite] = []
    nodes = [n for n in editor.model.graph.nodes if n.outputs and n.outputs[0].name and editor.standard(n)]
    known: list[tuple[gs.Node, Elements]] = []
    for node in nodes:
        found = tracker.follow(node)
        if found is not None and all(isinstance(e, int) for e in found.flat):
            known.append((node, found))
    numbers = {id(node) for node, _ in known}
    for node, found in known:
        out = node.outputs[0]
        inner = all(id(reader) in numbers for reader in out.outputs)
        if inner and not editor.is_output(out) and not editor.yielded(out):
            continue  # only what is known itself reads it
        kind = _NUMPY.get(editor.facts.dtype(out))
        if kind is not None and editor.settle(out, found.astype(kind)) is not None:
            rewrites.append(Rewrite(node_label(node), "known from shapes: a constant", code="constant"))
    for node in nodes:
        target = _reshape_target(node, tracker, editor) if node.op == "Reshape" else None
        if target is not None:
            shape = editor.model.constant(f"{node.outputs[0].name}_shape", np.array(target, np.int64))
            editor.set_input(node, 1, shape)
            rewrites.append(Rewrite(node_label(node), f"its shape is {target}: computing it is not needed", code="computed-shape"))
    return rewrites


def _reshape_target(node: gs.Node, tracker: Tracker, editor: Editor) -> list[int] | None:
    """The constant that may stand for a computed shape; None if there is none, or it is constant already.

    An element that is the input's own dimension at the same place becomes 0. One unknown element may become -1 if all others are
    numbers above 0: with a 0 among them an empty tensor would leave -1 undefined, where the computed shape is not.
    """
    source, shape = editor.input(node, 0), editor.input(node, 1)
    found = tracker.of(shape)
    if source is None or shape is None or found is None or found.ndim != 1 or editor.constant(shape) is not None:
        return None
    if attrs.int_(node, "allowzero", 0):
        return None
    target = [0 if e == Dim(source.name, axis) else e for axis, e in enumerate(found)]
    numbers = [e for e in target if isinstance(e, int)]
    if len(numbers) == len(target):
        return numbers
    if len(numbers) == len(target) - 1 and all(e > 0 for e in numbers):
        return [e if isinstance(e, int) else -1 for e in target]
    return None


# -- operators -----------------------------------------------------------------------------------------------------------


def _vector(elements: Sequence[Element]) -> Elements:
    array = np.empty(len(elements), object)
    array[:] = list(elements)
    return array


def _product(elements: Sequence[Element]) -> int | None:
    total = 1
    for element in elements:
        if not isinstance(element, int):
            return None
        total *= element
    return total if total <= _INT64.max else None


def _identity(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
    del node, editor
    return given[0]


def _cast(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
    del editor
    to = attrs.int_(node, "to", 0)
    limit = np.iinfo(np.int32) if to == onnx.TensorProto.INT32 else _INT64
    fits = all(not isinstance(e, int) or limit.min <= e <= limit.max for e in given[0].flat)
    return given[0] if to in _NUMPY and fits else None


def _gather(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
    del editor
    if len(given) != 2:
        return None
    data, indices = given
    size = data.size
    if data.ndim != 1 or attrs.int_(node, "axis", 0) not in (0, -1):
        return None
    if not all(isinstance(i, int) and -size <= i < size for i in indices.flat):
        return None
    return np.asarray(data[indices.astype(np.int64)], object)


def _slice(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
    """One range along the only axis."""
    if editor.opset < 10:
        bounds = [list[Element](attrs.ints(node, name, default)) for name, default in _SLICE_ATTRIBUTES]
    else:
        bounds = [cast("list[Element]", g.reshape(-1).tolist()) for g in given[1:]]
    numbers = [n for bound in [*bounds, *_SLICE_DEFAULTS[len(bounds) :]] for n in bound if isinstance(n, int)]
    if given[0].ndim != 1 or len(numbers) != 4 or any(len(bound) != 1 for bound in bounds):
        return None
    start, end, axis, step = numbers
    if axis not in (0, -1) or step == 0:
        return None
    return np.asarray(given[0][_indices(start, end, step, given[0].size)], object)


def _indices(start: int, end: int, step: int, size: int) -> list[int]:
    """The positions that a Slice takes, clamped as ONNX says: unlike in Python, a start before the front counts as the front."""
    if size == 0:
        return []
    start, end = start + size * (start < 0), end + size * (end < 0)
    if step > 0:
        return list(range(min(max(start, 0), size), min(max(end, 0), size), step))
    return list(range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step))


_SLICE_ATTRIBUTES: tuple[tuple[str, tuple[int, ...]], ...] = (("starts", ()), ("ends", ()), ("axes", (0,)))
_SLICE_DEFAULTS: tuple[list[Element], ...] = ([], [], [0], [1])


def _concat(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
    del node, editor
    return np.concatenate(given) if all(g.ndim == 1 for g in given) else None


def _unsqueeze(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
    return given[0].reshape(1) if given[0].ndim == 0 and axes_of(node, editor, 1) in ((0,), (-1,)) else None


def _squeeze(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
    del node, editor
    return given[0].reshape(()) if given[0].shape == (1,) else None


def _reshape(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
    del node, editor
    if len(given) != 2:
        return None
    target = cast("list[Element]", given[1].reshape(-1).tolist())
    if not target:
        return given[0].reshape(()) if given[0].size == 1 else None
    return given[0].reshape(-1) if target == [-1] or (given[0].size and target == [given[0].size]) else None


def _arithmetic(compute: Callable[[int, int], int | None]) -> Mover:
    def mover(node: gs.Node, given: list[Elements], editor: Editor) -> Elements | None:
        # Before opset 7 operands broadcast only where an attribute says so.
        if len(given) != 2 or editor.opset < 7 or editor.facts.dtype(node.outputs[0]) != onnx.TensorProto.INT64:
            return None
        if given[0].size != given[1].size and 1 not in (given[0].size, given[1].size):
            return None
        pairs = np.broadcast(*given)
        elements = [_number(compute(a, b)) if isinstance(a, int) and isinstance(b, int) else None for a, b in pairs]
        return _vector(elements).reshape(pairs.shape)

    return mover


def _number(value: int | None) -> int | None:
    """What fits: integers wrap around in ONNX, which no shape means to do."""
    return value if value is not None and _INT64.min <= value <= _INT64.max else None


MOVERS: dict[str, Mover] = {
    "Identity": _identity,
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Add": _arithmetic(lambda a, b: a + b),
    "Sub": _arithmetic(lambda a, b: a - b),
    "Mul": _arithmetic(lambda a, b: a * b),
    # Quotients of other signs round differently from one language to the next.
    "Div": _arithmetic(lambda a, b: a // b if a >= 0 and b > 0 else None),
}
"""Operators that are followed, and how. Those with inputs left out are not."""
