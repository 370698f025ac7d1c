"""Shapes and types of every tensor: ONNX shape inference, with data propagation, on a skeleton without weights.

Declared value_info is not trusted (exporters leave stale ones behind) except for the outputs of operators outside the standard
domains, which inference cannot know. The skeleton keeps small constants, since shapes are computed from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx.shape_inference import InferenceError

from graphopt.analysis.manager import Analyses, Analysis
from graphopt.model import Model
from graphopt.model.domains import STANDARD
from graphopt.ops.facts import Shape
from graphopt.ops.inference import ELEMENT_TYPES, infer

InputShapes = tuple[tuple[str, tuple[int, ...]], ...]

_INFERRED = STANDARD | {"ai.onnx.ml", "ai.onnx.preview.training"}
_KEEP_BYTES = 4096


class ShapeTable:
    """Shapes, element types and constant values of one model: the ``Facts`` that operator rules ask for."""

    def __init__(self, model: Model, inferred: dict[str, onnx.TypeProto]) -> None:
        self._model = model
        self._types = inferred
        self._shapes: dict[str, Shape | None] = {}
        self.opset = model.opset
        """Version of the default operator set."""

    def shape(self, tensor: gs.Tensor) -> Shape | None:
        """Dimensions of ``tensor``; see ``Facts.shape``."""
        if isinstance(tensor, gs.Constant):
            return tuple(tensor._values.shape)
        if tensor.name not in self._shapes:
            self._shapes[tensor.name] = _shape(self._types.get(tensor.name))
        return self._shapes[tensor.name]

    def dtype(self, tensor: gs.Tensor) -> int:
        """ONNX element type of ``tensor``, 0 if unknown."""
        if isinstance(tensor, gs.Constant):
            return int(onnx.helper.np_dtype_to_tensor_dtype(tensor._values.dtype))
        kind = self._types.get(tensor.name)
        return kind.tensor_type.elem_type if kind is not None and kind.tensor_type.elem_type in ELEMENT_TYPES else 0

    def value(self, tensor: gs.Tensor) -> NDArray[Any] | None:
        """The value of a constant tensor."""
        return self._model.value(tensor)


def _shape(kind: onnx.TypeProto | None) -> Shape | None:
    if kind is None or kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.HasField("shape"):
        return None
    return tuple(_dimension(d) for d in kind.tensor_type.shape.dim)


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None  # some exporters write -1 for a size that is open
    return dim.dim_param or None if dim.HasField("dim_param") else None


@dataclass(frozen=True, slots=True)
class Shapes(Analysis[ShapeTable]):
    """Shape inference. ``inputs`` fixes the shapes of dynamic graph inputs: pairs (name, shape)."""

    inputs: InputShapes = ()

    def compute(self, analyses: Analyses) -> ShapeTable:
        """Infer; where inference fails altogether (a damaged or exotic model), fall back to what is declared."""
        proto = analyses.model.skeleton(_KEEP_BYTES)
        declared = {v.name: v.type for v in [*proto.graph.value_info, *proto.graph.output, *proto.graph.input]}
        _forget_declared(proto, dict(self.inputs))
        try:
            graph = infer(proto).graph
        except (InferenceError, ValueError, RuntimeError, MemoryError):
            return ShapeTable(analyses.model, declared)
        found = {v.name: v.type for v in [*graph.value_info, *graph.output, *graph.input]}
        missing = {n: t for n, t in declared.items() if n not in found} if not self.inputs else {}
        return ShapeTable(analyses.model, {**missing, **found})


def _forget_declared(proto: onnx.ModelProto, fixed: dict[str, tuple[int, ...]]) -> None:
    """Drop what inference should find by itself and what a caller may override; write the given shapes into the inputs."""
    if proto.ir_version >= 4:
        listed = {v.name for v in proto.graph.input}
        certain = [i for i in proto.graph.initializer if i.name not in listed]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(certain)
    foreign = {name for node in proto.graph.node if node.domain not in _INFERRED for name in node.output}
    kept = [v for v in proto.graph.value_info if v.name in foreign]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    for output in proto.graph.output:
        if output.name not in foreign and output.type.WhichOneof("value") == "tensor_type":
            output.type.tensor_type.ClearField("shape")
    for value in proto.graph.input:
        if value.name in fixed:
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            for size in fixed[value.name]:
                shape.dim.add().dim_value = size
