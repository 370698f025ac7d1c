"""Shapes that hold for every input: ONNX shape inference on what cannot change, and nothing that a file merely declares.

The general analysis also believes a declared shape where inference has none, and the default of an input that a caller may
override. Both are good guesses, and good enough to count operations; but here a Reshape disappears because two shapes are equal, so
both are taken out first. What is left: the declared shapes of the graph's inputs, which runtimes enforce, and initializers.

Inference can follow the values of shape vectors, and then keeps one entry for each element of whatever has one dimension: of thirty
Concats of a vector with itself, of a Mul of two vectors of 2**40 floats. So it is run without values first, and with them only if
no vector comes out too long.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx.shape_inference import InferenceError, infer_shapes

from graphopt.analysis import Analyses, Analysis, ShapeTable
from graphopt.model import Model

LONGEST = 2**12
"""Elements of a vector that Concats make of shorter ones."""

_WIDEST = 2**20
"""Elements of any tensor of one dimension: a fraction of a second for each node that reads it."""

_KEEP_BYTES = 4096
_FIRST_WITH_OVERRIDES = 4


@dataclass(frozen=True, slots=True)
class Inferred(Analysis[ShapeTable]):
    """Strict shape inference; nothing is known where it fails altogether."""

    def compute(self, analyses: Analyses) -> ShapeTable:
        """Infer on a skeleton without big weights."""
        model = analyses.model
        proto = model.skeleton(_KEEP_BYTES)
        _forget(proto, model)
        graph = proto.graph
        try:
            graph = infer_shapes(proto, check_type=False, strict_mode=False, data_prop=False).graph
            if _bounded(graph):
                graph = infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True).graph
        except (InferenceError, ValueError, RuntimeError, MemoryError):
            pass  # as far as it got
        return ShapeTable(model, {v.name: v.type for v in [*graph.value_info, *graph.output, *graph.input]})


def _forget(proto: onnx.ModelProto, model: Model) -> None:
    graph = proto.graph
    del graph.value_info[:]
    for output in graph.output:
        if output.type.WhichOneof("value") == "tensor_type":
            output.type.tensor_type.ClearField("shape")
    if model.ir_version >= _FIRST_WITH_OVERRIDES:
        listed = {value.name for value in graph.input}
        fixed = [tensor for tensor in graph.initializer if tensor.name not in listed]
        del graph.initializer[:]
        graph.initializer.extend(fixed)


def _bounded(graph: onnx.GraphProto) -> bool:
    """Whether no vector whose values inference would follow is too long. Only Concat makes vectors longer than their operands."""
    if any(_length(value.type) > _WIDEST for value in [*graph.input, *graph.value_info]):
        return False
    lengths = {t.name: t.dims[0] for t in graph.initializer if len(t.dims) == 1}
    for node in graph.node:
        given = [lengths.get(name, 1) for name in node.input]
        if node.op_type == "Constant" and len(node.attribute) == 1:
            attribute = node.attribute[0]
            given = [len(attribute.ints), *attribute.t.dims[:1]]
        length = sum(given) if node.op_type == "Concat" else max(given, default=1)
        if length > LONGEST and node.op_type == "Concat":
            return False
        lengths.update(dict.fromkeys(node.output, min(length, LONGEST)))
    return True


def _length(kind: onnx.TypeProto) -> int:
    """Elements of a tensor of one dimension; 0 for any other."""
    dims = kind.tensor_type.shape.dim
    return dims[0].dim_value if len(dims) == 1 else 0
