"""Two operators in a row that one of them can do alone: one row each.

A rule gets the second node and returns what it has to read instead, with the attributes it then needs; the first node goes when
nobody else reads it.

- Transpose after Transpose: permutation ``p`` after ``q`` is ``q[p[i]]``.
- Reshape after any operator that keeps the order of elements (Reshape, Flatten, Squeeze, Unsqueeze): only the last shape matters,
  as long as it copies no dimension (an entry 0) from the shape between. An entry -1 is settled by the number of elements, which
  is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import onnx_graphsurgeon as gs

from graphopt.ops import attrs
from graphopt.passes.simplify.editor import Editor


@dataclass(frozen=True)
class Merge:
    """Read ``source``, with ``attrs`` set."""

    source: gs.Tensor
    attrs: dict[str, Any] = field(default_factory=dict[str, Any])


Rule = Callable[[gs.Node, Editor], Merge | None]


def _transposes(node: gs.Node, editor: Editor) -> Merge | None:
    inner, origin = _before(node, editor, "Transpose")
    if inner is None or origin is None:
        return None
    dims = editor.dims(origin)
    default = tuple(reversed(range(len(dims)))) if dims is not None else ()
    first, second = attrs.ints(inner, "perm", default), attrs.ints(node, "perm", default)
    if not first or sorted(first) != sorted(second) or sorted(first) != list(range(len(first))):
        return None
    return Merge(origin, {"perm": [first[axis] for axis in second]})


def _reshapes(node: gs.Node, editor: Editor) -> Merge | None:
    _, origin = _before(node, editor, "Reshape", "Flatten", "Squeeze", "Unsqueeze")
    target = editor.constant(editor.input(node, 1)) if editor.opset >= 5 else None
    if origin is None or target is None:
        return None
    copies = bool((target == 0).any()) and not attrs.int_(node, "allowzero", 0)
    return None if copies else Merge(origin)


def _before(node: gs.Node, editor: Editor, *ops: str) -> tuple[gs.Node | None, gs.Tensor | None]:
    """The node before, if it is one of ``ops``, and what it reads."""
    source = editor.input(node, 0)
    inner = None if source is None else editor.producer(source, *ops)
    return inner, None if inner is None else editor.input(inner, 0)


MERGES: dict[str, tuple[Rule, ...]] = {
    "Transpose": (_transposes,),
    "Reshape": (_reshapes,),
}
"""Operator of the default domain -> rules, tried in order."""
