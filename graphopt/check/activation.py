"""The most memory that activations take at once, with the nodes run one after the other in the order of the graph.

A tensor lives from the node that makes it until the last one that reads it; graph inputs and outputs live throughout. A runtime may
do better (work in place) or worse (keep arenas); this is the figure that the graph alone decides.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphopt.analysis import ShapeTable
from graphopt.model import Model, node_label
from graphopt.model.bodies import bodies_within
from graphopt.ops.facts import static


def peak_activation(model: Model, shapes: ShapeTable) -> tuple[int, str] | None:
    """Bytes, and the node at which that many are needed; None if a tensor's size is not known."""
    last: dict[str, int] = {}
    nodes = model.graph.nodes
    for index, node in enumerate(nodes):
        for tensor in [*node.inputs, *_captured(node)]:
            last[tensor.name] = index
    always = {t.name for t in [*model.graph.inputs, *model.graph.outputs]}
    alive: dict[str, int] = {}
    for tensor in model.graph.inputs:
        size = tensor_bytes(tensor, shapes)
        if size is None:
            return None
        alive[tensor.name] = size
    peak, where = sum(alive.values()), "the inputs"
    for index, node in enumerate(nodes):
        for tensor in node.outputs:
            size = tensor_bytes(tensor, shapes) if tensor.name else 0
            if size is None:
                return None
            alive[tensor.name] = size
        total = sum(alive.values())
        if total > peak:
            peak, where = total, node_label(node)
        for name in [t.name for t in [*node.inputs, *_captured(node), *node.outputs]]:
            if name not in always and last.get(name, index) <= index:
                alive.pop(name, None)
    return peak, where


def tensor_bytes(tensor: gs.Tensor, shapes: ShapeTable) -> int | None:
    """Bytes of a tensor, None if its size or type is not known."""
    shape, kind = static(shapes.shape(tensor)), shapes.dtype(tensor)
    if shape is None or not kind or kind == onnx.TensorProto.STRING:
        return None
    return math.prod(shape) * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize


def _captured(node: gs.Node) -> list[gs.Tensor]:
    return [t for body in bodies_within(node) for inner in body.nodes for t in inner.inputs]
