"""Channels that training left dead.

What: Channels that are zero wherever they are read, or read with zero weights, so that their removal changes no output.

Why: They are computed, stored and read for nothing.

Example: Filters that weight decay drove to zero; batch norm scales of zero.

Remedy: `graphopt run MODEL --passes prune:ratio=0 -o OUT` removes them, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.ops.kernels import KERNELS


def check(subject: Subject) -> Iterator[Finding]:
    """Ask prune what it would remove at no loss, if there is a zero that it could begin with."""
    if not any(_has_zeros(node, subject) for node in subject.model.graph.nodes):
        return
    for rewrite in subject.pruned:
        key = subject.makers.get(rewrite.where.strip("'"), "")
        yield RULE.found(rewrite.where, f"prune would remove dead channels: {rewrite.what}", key=key)


def _has_zeros(node: gs.Node, subject: Subject) -> bool:
    """Whether a constant of the node is zero where a channel could be: all of a slice, or an element of what has one a channel.

    Prune follows zeros from constants on and from nowhere else; asking it is by far dearer than this look.
    """
    values = [subject.model.value(tensor) for tensor in node.inputs[1:] if tensor.name]
    values += [subject.model.value(node.inputs[0])] if node.inputs and node.op not in KERNELS else []
    return any(value is not None and value.dtype.kind in "fiu" and _zero_slice(value) for value in values)


def _zero_slice(value: NDArray[Any]) -> bool:
    if value.ndim < 2:
        return value.size > 1 and not value.all()
    axes = range(value.ndim)
    return any(not np.abs(value).max(axis=tuple(a for a in axes if a != axis)).all() for axis in axes if value.shape[axis] > 1)


RULE = Rule("GO305", "dead-channels", Level.ERROR, check, fix="prune:ratio=0")
