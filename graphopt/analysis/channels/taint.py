"""Where the sizes that Shape reads go.

In a pruned graph Shape gives the new size. That is right where it becomes the size of an axis of the same channels again (a
Reshape's target), and wrong where it is computed with (a mean over channels as a sum over their number), or where it becomes the
size of something else: then the channels that it counts are frozen. Followed from Shape through operators that pick and join sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.model import node_label
from graphopt.ops import Facts, attrs
from graphopt.ops.channels import Labels, Layout
from graphopt.ops.facts import has_input, integer_input

_NONE: Labels = np.zeros(0, np.int64)
_SAME = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape")


class Taint:
    """For every tensor that holds sizes: the labels that each of its elements counts."""

    def __init__(self, freeze: Callable[[Labels, str], None]) -> None:
        self._freeze = freeze
        self._sizes: dict[str, list[Labels]] = {}
        self._owed: list[tuple[gs.Node, int]] = []

    def read(self, node: gs.Node, layout: Layout | None) -> None:
        """A Shape node, and the layout of its input."""
        if layout is None:
            return
        counted = [layout.labels(axis) for axis in range(layout.rank)]
        start, end = attrs.int_(node, "start", 0), node.attrs.get("end")
        self._note(node, counted[slice(start, end if isinstance(end, int) else None)])

    def _note(self, node: gs.Node, counted: list[Labels]) -> None:
        if any(labels.size for labels in counted):
            self._sizes[node.outputs[0].name] = counted

    def spend(self, name: str, why: str) -> None:
        """The tensor ``name`` is used for something else than a size."""
        for labels in self._sizes.get(name, ()):
            if labels.size:
                self._freeze(labels, f"{why}; it computes with the number of channels")

    def step(self, node: gs.Node, facts: Facts, sizes: Sequence[int]) -> None:
        """Follow sizes through one node; ``sizes`` are its inputs that hold sizes by themselves."""
        touched = [k for k, t in enumerate(node.inputs) if t.name in self._sizes]
        if not touched:
            return
        passed = self._passed(node, facts)
        if passed is not None:
            self._note(node, passed)
            return
        for index in touched:
            if index in sizes:
                self._owed.append((node, index))
            else:
                self.spend(node.inputs[index].name, node_label(node))

    def settle(self, facts: Facts, layout: Callable[[gs.Tensor], Layout | None], find: Callable[[Labels], Labels]) -> None:
        """At the end, when all that goes together is known: a size must have become that of an axis of the channels it counts."""
        for node, index in self._owed:
            sizes = self._sizes[node.inputs[index].name]
            for position, counted in enumerate(sizes):
                if not counted.size:
                    continue
                made = _channels_of_size(node, index, position, len(sizes), facts, layout)
                if not np.array_equal(np.unique(find(counted)), np.unique(find(made))):
                    self._freeze(counted, f"{node_label(node)}; it computes with the number of channels")

    def _passed(self, node: gs.Node, facts: Facts) -> list[Labels] | None:
        """What the output's elements count, if the node only picks or joins; None otherwise."""
        first = self._sizes.get(node.inputs[0].name)
        if node.op in _SAME:
            return first if first is not None and not any(t.name in self._sizes for t in node.inputs[1:]) else None
        if node.op == "Concat":
            return self._joined(node, facts)
        if node.op == "Gather" and first is not None and has_input(node, 1):
            indices = integer_input(node, 1, facts)
            return None if indices is None else [first[int(k)] for k in indices.reshape(-1) if -len(first) <= k < len(first)]
        if node.op == "Slice" and first is not None:
            values = [integer_input(node, k, facts) for k in (1, 2, 4)]
            if values[0] is None or values[1] is None:
                return None
            step = 1 if values[2] is None else int(values[2].reshape(-1)[0])
            return first[slice(int(values[0].reshape(-1)[0]), int(values[1].reshape(-1)[0]), step)]
        return None

    def _joined(self, node: gs.Node, facts: Facts) -> list[Labels] | None:
        made: list[Labels] = []
        for tensor in node.inputs:
            shape = facts.shape(tensor)
            if tensor.name in self._sizes:
                made.extend(self._sizes[tensor.name])
            elif shape is not None and len(shape) == 1 and isinstance(shape[0], int):
                made.extend([_NONE] * shape[0])
            else:
                return None
        return made


def _channels_of_size(
    node: gs.Node, index: int, position: int, count: int, facts: Facts, layout: Callable[[gs.Tensor], Layout | None]
) -> Labels:
    """The labels along the axis that gets the size at ``position`` of the ``count`` in an input; none if it is no axis' size."""
    output, axis = 0, position
    if node.op == "Split":
        output, axis = position, attrs.int_(node, "axis", 0)
    elif node.op == "Resize":
        axis = (*attrs.ints(node, "axes", ()), *range(count))[position]
    elif node.op == "Slice":
        axes = integer_input(node, 3, facts) if has_input(node, 3) else np.arange(count)
        if index != 2 or axes is None or axes.size != count:
            return _NONE
        axis = int(axes.reshape(-1)[position])
    elif node.op not in ("Expand", "Reshape"):
        return _NONE
    made = layout(node.outputs[output]) if output < len(node.outputs) else None
    if made is None:
        return _NONE
    axis += made.rank - count if node.op == "Expand" else made.rank if axis < 0 else 0
    return made.labels(axis) if 0 <= axis < made.rank else _NONE
