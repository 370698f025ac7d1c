"""What a graph costs: multiply-accumulates, parameters and bytes, node by node and in all.

Parameters are the elements of the initializers that nodes read, counted once however many read them; indices and shapes (64-bit
integers, booleans, strings) do not count. Bytes are what a node moves: its inputs, weights and outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphopt.analysis.manager import Analyses, Analysis
from graphopt.analysis.shapes import InputShapes, Shapes, ShapeTable
from graphopt.model import node_key, node_label
from graphopt.ops import lookup
from graphopt.ops.facts import elements


@dataclass(frozen=True, slots=True)
class NodeCost:
    """Multiply-accumulates (None if not known), parameters, and bytes moved (None if not known) of one node."""

    macs: int | None
    params: int
    bytes: int | None


@dataclass(slots=True)
class CostTable:
    """Costs by node, and totals. ``macs`` sums what is known; ``unknown`` labels the nodes that it leaves out."""

    macs: int = 0
    params: int = 0
    weight_bytes: int = 0
    nodes: int = 0
    unknown: list[str] = field(default_factory=list[str])
    by_node: dict[str, NodeCost] = field(default_factory=dict[str, NodeCost])

    def of(self, node: gs.Node) -> NodeCost | None:
        """The cost of one node of the graph."""
        return self.by_node.get(node_key(node))


@dataclass(frozen=True, slots=True)
class Cost(Analysis[CostTable]):
    """Count; ``inputs`` fixes dynamic input shapes, without which a dynamic graph's MACs are unknown."""

    inputs: InputShapes = ()

    def compute(self, analyses: Analyses) -> CostTable:
        """Sum over the nodes of the main graph; those in bodies are counted, but what they cost depends on the run."""
        shapes = analyses.get(Shapes(self.inputs))
        table = CostTable(nodes=analyses.model.count())
        counted: set[str] = set()
        for node in analyses.model.graph.nodes:
            cost = _node_cost(node, shapes)
            table.by_node[node_key(node)] = cost
            if cost.macs is None:
                table.unknown.append(node_label(node))
            table.macs += cost.macs or 0
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant) and tensor.name not in counted:
                    counted.add(tensor.name)
                    table.params += _parameters(tensor)
                    table.weight_bytes += int(tensor._values.nbytes)
        return table


def _node_cost(node: gs.Node, shapes: ShapeTable) -> NodeCost:
    row = lookup(node, shapes)
    macs = row.cost(node, shapes) if row is not None and row.cost is not None else None
    params = sum(_parameters(t) for t in node.inputs if isinstance(t, gs.Constant))
    moved = [_bytes(t, shapes) for t in [*node.inputs, *node.outputs] if t.name]
    known = [m for m in moved if m is not None]
    return NodeCost(macs, params, sum(known) if len(known) == len(moved) else None)


def _parameters(constant: gs.Constant) -> int:
    dtype: np.dtype[Any] = np.dtype(constant._values.dtype)
    if dtype.kind in "bOSU" or (dtype.kind in "iu" and dtype.itemsize == 8):
        return 0
    size = 1
    for dim in constant._values.shape:
        size *= dim
    return size


def _bytes(tensor: gs.Tensor, shapes: ShapeTable) -> int | None:
    size, kind = elements(shapes.shape(tensor)), shapes.dtype(tensor)
    if size is None or not kind or kind == onnx.TensorProto.STRING:
        return None
    return size * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize
