"""Channels that training left dead: zero wherever they are read, or read with zero weights. Removing them changes nothing.

Which channels of each tensor are zero is followed through the graph: a mixer's row of zeros without bias makes one, so does a
batch normalisation with scale and shift zero, and a multiplication by a constant mask; functions with f(0) = 0 and moves of
data keep it, sums keep what is zero in all terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import ChannelGraph, columns_of, rows_of
from graphopt.model import node_key
from graphopt.ops import Facts, lookup
from graphopt.ops.channels import Labels, Mixer
from graphopt.ops.channels.layout import Layout

Zeros = frozenset[int]

_ODD = frozenset(
    ("Abs", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Elu", "Erf", "Floor", "Gelu", "HardSwish", "Mish", "PRelu",
     "Round", "Selu", "Shrink", "Sign", "Sin", "Sinh", "Softsign", "Sqrt", "Swish", "Tan", "Tanh")
)  # fmt: skip
"""Functions that are zero at zero."""


def dead_units(graph: ChannelGraph) -> Labels:
    """The units, of any prunable group, whose removal changes nothing."""
    zeros = _Zeros(graph)
    zeros.run()
    alive: set[int] = set()
    seen: set[int] = set()
    for mixer in graph.flow.mixers:
        if mixer.blockwise:
            continue
        node = graph.nodes[mixer.node]
        columns = columns_of(graph.flow, node, mixer)
        dead = (zeros.of(node.inputs[mixer.data]) if mixer.data is not None else frozenset[int]()) | zeros.of(
            node.inputs[mixer.weight]
        )
        seen.update(columns.tolist())
        alive.update(c for c in set(columns.tolist()) if c not in dead)
    for product in graph.flow.products:
        node = graph.nodes[product.node]
        classes = graph.flow.table.find(product.labels)
        dead = zeros.of(node.inputs[0]) | zeros.of(node.inputs[1])
        seen.update(classes.tolist())
        alive.update(c for c in classes.tolist() if c not in dead)
    units = [int(u) for g in graph.prunable for u in g.units]
    return np.asarray(sorted(u for u in units if u in seen and u not in alive), np.int64)


class _Zeros:
    """The classes that are zero in each tensor."""

    def __init__(self, graph: ChannelGraph) -> None:
        self._graph = graph
        self._facts: Facts = Analyses(graph.model).get(Shapes())
        self._found: dict[str, Zeros] = {}
        self._mixers = {m.node: m for m in graph.flow.mixers}

    def run(self) -> None:
        for node in self._graph.model.graph.nodes:
            if len(node.outputs) and node.outputs[0].name:
                zeros = self._step(node)
                for index, output in enumerate(node.outputs):
                    # A mask of Dropout or the indices of MaxPool are not zero where the values are.
                    self._found[output.name] = zeros if index == 0 or node.op == "Split" else frozenset()

    def of(self, tensor: gs.Tensor) -> Zeros:
        """The classes of which every element in ``tensor`` is zero."""
        if tensor.name not in self._found:
            value, layout = self._graph.model.value(tensor), self._graph.flow.layout(tensor)
            if value is None or layout is None or value.dtype.kind not in "fiu":
                self._found[tensor.name] = frozenset()
            else:
                self._found[tensor.name] = self._constant(value, layout)
        return self._found[tensor.name]

    def _constant(self, value: NDArray[Any], layout: Layout) -> Zeros:
        zero: set[int] = set()
        for found in layout.fields:
            axis = layout.axis_of(found.at[0])
            if len(found.at) != 1 or len(layout.axes[axis]) != 1:
                continue
            silent = ~np.any(np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1) != 0, axis=1)
            classes = self._graph.flow.table.find(found.labels)
            zero |= set(classes[silent].tolist()) - set(classes[~silent].tolist())
        return frozenset(zero)

    def _classes(self, tensor: gs.Tensor) -> set[int]:
        layout = self._graph.flow.layout(tensor)
        found = [f.labels.reshape(-1) for f in layout.fields] if layout is not None else []
        return set(self._graph.flow.table.find(np.concatenate(found)).tolist()) if found else set()

    def _step(self, node: gs.Node) -> Zeros:
        mixer = self._mixers.get(node_key(node))
        if mixer is not None and mixer.linear:
            return self._mixed(node, mixer)
        row = lookup(node, self._facts)
        if row is None or row.channels is None:
            return frozenset()
        data = [t for t in node.inputs if t.name]
        if node.op == "Mul":
            return _union([self.of(t) for t in data])
        if node.op in ("Add", "Sub", "Sum", "Concat", "Max", "Min"):
            return self._joined(data, everywhere=node.op != "Concat")
        if node.op == "BatchNormalization":
            return self.of(node.inputs[1]) & self.of(node.inputs[2])
        if node.op == "Clip" and self._clip_keeps_zero(node):
            return self.of(node.inputs[0])
        return self.of(node.inputs[0]) if row.channels.zero or node.op in _ODD else frozenset()

    def _joined(self, data: Sequence[gs.Tensor], *, everywhere: bool) -> Zeros:
        zero = _union([self.of(t) for t in data])
        for tensor in data:
            value = self._graph.model.value(tensor)
            if value is not None and value.dtype.kind in "fiu" and not value.any():
                continue
            mine = self._classes(tensor)
            zero = frozenset(c for c in zero if c in self.of(tensor) or (c not in mine and not everywhere))
        return zero

    def _clip_keeps_zero(self, node: gs.Node) -> bool:
        bounds = [self._graph.model.value(t) if t.name else None for t in node.inputs[1:3]]
        if any(b is None and t.name for b, t in zip(bounds, node.inputs[1:3], strict=True)):
            return False
        low = bounds[0] if bounds else node.attrs.get("min")
        high = bounds[1] if len(bounds) > 1 else node.attrs.get("max")
        return (low is None or float(np.max(low)) <= 0) and (high is None or float(np.min(high)) >= 0)

    def _mixed(self, node: gs.Node, mixer: Mixer) -> Zeros:
        made = set(rows_of(self._graph.flow, node, mixer).tolist())
        if mixer.blockwise and not mixer.rows_in_data_order:
            return frozenset()
        silent = self.of(node.inputs[mixer.weight]) & made
        if mixer.blockwise:
            silent |= self.of(node.inputs[mixer.data or 0]) & made
        bias = node.inputs[mixer.bias] if mixer.bias is not None and mixer.bias < len(node.inputs) else None
        if bias is None or not bias.name:
            return frozenset(silent)
        value = self._graph.model.value(bias)
        return frozenset(silent) if value is not None and not value.any() else frozenset(silent & self.of(bias))


def _union(sets: Sequence[Zeros]) -> Zeros:
    found: set[int] = set()
    for one in sets:
        found |= one
    return frozenset(found)
