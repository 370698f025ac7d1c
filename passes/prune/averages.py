"""Averages over fewer channels: what ``lossy-norm`` gives up, and the reference that it is held against.

A layer normalisation of C channels is not one of C' channels: mean and variance are over those that are there. So a width that a
normalisation looks along cannot be pruned exactly. Asked to, the pass does it all the same, and says so; the result is then held
against the original in which every average along such an axis is over the channels that stay,

    mean = sum m x / k,    variance = sum m (x - mean)^2 / k,    m = 1 for the k channels that stay, 0 for the others,

which is what a normalisation of k channels computes. How far that is from the original is measured, like any pruning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import ChannelGraph
from graphopt.model import Model, node_key
from graphopt.ops import attrs
from graphopt.ops.channels import Average, Labels
from graphopt.ops.facts import Shape, static

EPSILON = 1e-5
"""ONNX's own, of LayerNormalization and RMSNormalization."""


def averaging(graph: ChannelGraph, model: Model, lost: Callable[[Labels], NDArray[np.bool_]]) -> Model:
    """``model``, which it edits, with averages over the channels that stay; ``lost`` says of labels whether they go."""
    nodes = {node_key(n): n for n in model.graph.nodes}
    facts = Analyses(graph.model).get(Shapes())
    for average in graph.flow.averages:
        if not any(lost(labels).any() for _, labels in average.axes):
            continue
        source = graph.nodes[average.node].inputs[0]
        shape = facts.shape(source)
        if shape is None:
            continue
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(facts.dtype(source) or onnx.TensorProto.FLOAT))
        mask = np.ones([1] * len(shape), bool)
        for axis, labels in average.axes:
            mask = mask & ~lost(labels).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        _rewrite(_Emitter(model, nodes[average.node], dtype, graph.model.opset), average, shape, mask)
    return model


@dataclass(slots=True)
class _Emitter:
    """Adds nodes before one node of a model."""

    model: Model
    node: gs.Node
    dtype: np.dtype[Any]
    opset: int

    def op(self, kind: str, *inputs: gs.Tensor | NDArray[Any], **named: Any) -> gs.Variable:
        """The output of a new node."""
        made = self.model.variable(f"{node_key(self.node)}_{kind.lower()}", self.dtype)
        tensors = [x if isinstance(x, gs.Tensor) else self.model.constant(f"{made.name}_value", x) for x in inputs]
        self.model.add(kind, tensors, [made], named, before=self.node)
        return made

    def total(self, data: gs.Tensor, axes: Sequence[int], keepdims: int) -> gs.Variable:
        """ReduceSum."""
        if self.opset >= 13:
            return self.op("ReduceSum", data, np.asarray(axes, np.int64), keepdims=keepdims)
        return self.op("ReduceSum", data, axes=list(axes), keepdims=keepdims)


def _rewrite(emit: _Emitter, average: Average, shape: Shape, mask: NDArray[np.bool_]) -> None:
    """Put the average of one node in other words."""
    node, dtype = emit.node, emit.dtype
    over = list(average.over)
    sizes = static(tuple(mask.shape[a] if mask.shape[a] > 1 else shape[a] for a in over))
    if sizes is None:
        return
    kept = int(mask.sum()) * math.prod(s for a, s in zip(over, sizes, strict=True) if mask.shape[a] == 1)
    share, stays = np.asarray(1.0 / max(kept, 1), dtype), mask.astype(dtype)
    data, output = node.inputs[0], node.outputs[0]

    def mean(x: gs.Tensor, keepdims: int = 1) -> gs.Variable:
        return emit.op("Mul", emit.total(emit.op("Mul", x, stays), over, keepdims), share)

    if node.op == "ReduceMean":
        made: gs.Tensor = mean(data, attrs.int_(node, "keepdims", 1))
    else:
        centred = data if node.op == "RMSNormalization" else emit.op("Sub", data, mean(data))
        energy = mean(emit.op("Mul", centred, centred))
        root = emit.op("Sqrt", emit.op("Add", energy, np.asarray(attrs.float_(node, "epsilon", EPSILON), dtype)))
        made = emit.op("Mul", emit.op("Div", centred, root), node.inputs[1])
        if len(node.inputs) > 2 and node.inputs[2].name:
            made = emit.op("Add", made, node.inputs[2])
    emit.model.add("Identity", [made], [output], {}, before=node)
    emit.model.remove(node)
