"""Shapes that hold for every input: ONNX shape inference on what cannot change, and nothing that a file merely declares.

The general analysis also believes a declared shape where inference has none, and the default of an input that a caller may
override. Both are good guesses, and good enough to count operations; but here a Reshape disappears because two shapes are equal, so
both are taken out first. What is left: the declared shapes of the graph's inputs, which runtimes enforce, and initializers.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import onnx
from onnx.shape_inference import InferenceError

from graphopt.analysis import Analyses, Analysis, ShapeTable
from graphopt.model import Model
from graphopt.ops.inference import infer

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
        with suppress(InferenceError, ValueError, RuntimeError, MemoryError):
            graph = infer(proto).graph
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
