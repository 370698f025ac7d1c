"""Editing the edges of a graph by identity.

Graphsurgeon's lists keep both ends of an edge in step, but find the other end with ``==``, which compares nodes field by field
and takes the first that looks alike. A constant with a thousand readers then costs a million comparisons, and two unnamed
nodes may be taken for one another. The functions here do the same by ``is``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_graphsurgeon as gs

# The plain list's own methods: graphsurgeon's synchronised lists override them.
_plain: Any = list
_append: Callable[[list[Any], Any], None] = _plain.append
_clear: Callable[[list[Any]], None] = _plain.clear
_pop: Callable[[list[Any], int], Any] = _plain.pop
_store: Callable[[list[Any], int, Any], None] = _plain.__setitem__


def read_by(tensor: gs.Tensor, node: gs.Node) -> None:
    """``tensor`` becomes the last input of ``node``."""
    _append(node.inputs, tensor)
    _append(tensor.outputs, node)


def made_by(tensor: gs.Tensor, node: gs.Node) -> None:
    """``tensor`` becomes the last output of ``node``."""
    _append(node.outputs, tensor)
    _append(tensor.inputs, node)


def unlink(ends: list[Any], item: object) -> None:
    """Take one occurrence of ``item`` out of ``ends`` (one side of an edge), found by identity."""
    for index, end in enumerate(ends):
        if end is item:
            _pop(ends, index)
            return


def set_input(node: gs.Node, index: int, tensor: gs.Tensor) -> None:
    """Let input ``index`` of ``node`` read ``tensor``."""
    unlink(node.inputs[index].outputs, node)
    _store(node.inputs, index, tensor)
    _append(tensor.outputs, node)


def set_inputs(node: gs.Node, tensors: Sequence[gs.Tensor]) -> None:
    """Let ``node`` read just ``tensors``."""
    for old in node.inputs:
        unlink(old.outputs, node)
    _clear(node.inputs)
    for tensor in tensors:
        read_by(tensor, node)


def set_outputs(node: gs.Node, tensors: Sequence[gs.Tensor]) -> None:
    """Let ``node`` produce just ``tensors``; whoever produced them before no longer does."""
    for old in node.outputs:
        unlink(old.inputs, node)
    _clear(node.outputs)
    for tensor in tensors:
        for producer in list(tensor.inputs):
            _release(producer, tensor)
        made_by(tensor, node)


def _release(producer: gs.Node, tensor: gs.Tensor) -> None:
    """The old producer keeps its arity: its output becomes an omitted one."""
    unlink(tensor.inputs, producer)
    for index, output in enumerate(producer.outputs):
        if output is tensor:
            empty = gs.Variable("")
            _store(producer.outputs, index, empty)
            _append(empty.inputs, producer)
