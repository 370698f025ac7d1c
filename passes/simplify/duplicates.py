"""The same thing twice: equal constants, and equal nodes on equal inputs.

Which constants are merged: vectors of integers (shapes, axes, indices), single numbers, and tensors of at least ``min_bytes``. Not
merged are the short float vectors between (biases, scales, shifts): they are equal by chance, all zeros or all ones, the file
gets no smaller, and sharing one would tie the channels of layers that have nothing to do with each other.

Two nodes are the same if operator, attributes, inputs and number of outputs are; the second one's readers then read the first.
Not merged are nodes that draw numbers, carry subgraphs or are not ONNX's own, and quantizers: runtimes want one for each reader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Any, cast

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.model import node_label
from graphopt.passes.simplify.editor import Editor
from graphopt.passes.simplify.foldable import FOLDABLE
from graphopt.pipeline import Rewrite

_SAMPLE = 16
"""Elements to tell most tensors apart by, before all of their bytes are read."""


def merge_constants(editor: Editor, min_bytes: int) -> list[Rewrite]:
    """Let the readers of equal initializers read the first of them."""
    groups: dict[Hashable, list[gs.Constant]] = {}
    for constant in editor.model.constants().values():
        if _worthwhile(constant, min_bytes) and not editor.is_output(constant):
            groups.setdefault((str(constant.dtype), tuple(constant.shape)), []).append(constant)
    rewrites: list[Rewrite] = []
    for alike in groups.values():
        for same in _split(_split([alike], lambda c: editor.model.sample(c, _SAMPLE)), lambda c: _digest(editor.constant(c))):
            for twin in same[1:]:
                editor.redirect(twin, same[0])
                rewrites.append(
                    Rewrite(f"'{twin.name}'", f"merged with '{same[0].name}', which is equal", code="duplicate-constant")
                )
    return rewrites


def _worthwhile(constant: gs.Constant, min_bytes: int) -> bool:
    dtype = np.dtype(constant.dtype)
    size = int(np.prod(constant.shape, dtype=np.int64))
    if dtype.kind in "OUS" or not constant.outputs:
        return False
    return size <= 1 or (dtype.kind in "iub" and len(constant.shape) <= 1) or size * dtype.itemsize >= min_bytes


def _split(groups: list[list[gs.Constant]], key: Callable[[gs.Constant], Hashable]) -> list[list[gs.Constant]]:
    """Each group parted by ``key``; groups of one are dropped unread."""
    parted: list[list[gs.Constant]] = []
    for group in groups:
        if len(group) < 2:
            continue
        parts: dict[Hashable, list[gs.Constant]] = {}
        for constant in group:
            parts.setdefault(key(constant), []).append(constant)
        parted.extend(part for part in parts.values() if len(part) > 1)
    return parted


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data, digest_size=16).digest()


def merge_nodes(editor: Editor) -> list[Rewrite]:
    """Let the readers of equal nodes read the first of them; in topological order, so that whole equal branches merge."""
    seen: dict[Hashable, gs.Node] = {}
    rewrites: list[Rewrite] = []
    for node in editor.model.graph.nodes:
        key = _node_key(node, editor)
        if key is None:
            continue
        first = seen.setdefault(key, node)
        if first is node or any(editor.is_output(t) for t in node.outputs):
            continue
        for mine, theirs in zip(node.outputs, first.outputs, strict=True):
            editor.redirect(mine, theirs)
        rewrites.append(
            Rewrite(node_label(node), f"merged with {node_label(first)}, which computes the same", code="duplicate-node")
        )
    return rewrites


_PURE = frozenset(FOLDABLE) | frozenset(
    ("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "LRN", "TopK", "NonZero", "Compress", "Unique")
)


def _node_key(node: gs.Node, editor: Editor) -> Hashable | None:
    """Equal for nodes that compute the same; None for one that is not compared."""
    if node.op not in _PURE or not editor.standard(node) or not any(editor.is_read(t) for t in node.outputs):
        return None
    attributes: list[tuple[str, Hashable]] = []
    for name, value in sorted(node.attrs.items()):
        plain = _plain(value)
        if plain is None:
            return None
        attributes.append((name, plain))
    inputs = tuple(id(t) if t.name else 0 for t in node.inputs)
    outputs = tuple(bool(t.name) for t in node.outputs)
    return node.op, tuple(attributes), inputs, outputs


def _plain(value: object) -> Hashable | None:
    """A hashable stand-in for an attribute that tells -0.0 from 0.0 and 1 from 1.0; None for tensors, graphs and the like."""
    if isinstance(value, (int, float, str, bytes)):
        return type(value).__name__, repr(value)
    if isinstance(value, list):
        parts = [_plain(v) for v in cast("list[object]", value)]
        return None if any(p is None for p in parts) else tuple(parts)
    return None
