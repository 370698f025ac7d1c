"""What a model takes: names, types and shapes of the inputs that must be fed, and which of their axes is the batch.

An input that has an initializer of the same name need not be fed and is left out. Shapes are as declared: a number, the
name of a symbolic dimension, or None for an unknown one; a shape of None means that not even the rank is known.

**The batch axis** is the first one, unless it is a symbolic dimension with the name of something else (a sequence,
time, height, width). If it is the number n, the model takes n samples at once; if it is dynamic, any number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.errors import ModelError
from graphopt.model import Model

Dim = int | str | None

_NOT_BATCH = re.compile(
    r"^([thwdls]|seq.*|.*_?seq(uence)?|(.*_)?len(gth)?|time(_?steps?)?|steps?|frames?|tokens?|height|width|depth)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input.

    Attributes:
        name: its name.
        elem_type: ONNX element type; of the elements, for a sequence.
        shape: declared shape, or None where the rank is unknown.
        kind: "tensor", "sequence" or "optional" (and then what it holds is a tensor).
    """

    name: str
    elem_type: int
    shape: tuple[Dim, ...] | None
    kind: str = "tensor"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type; ``object`` for strings."""
        return np.dtype(tensor_dtype_to_np_dtype(self.elem_type))

    @property
    def batch(self) -> int | None:
        """Samples that one run takes along the first axis: n, 0 for any number, None if it is no batch (or has length 0)."""
        if not self.shape or self.kind != "tensor":
            return None
        first = self.shape[0]
        if isinstance(first, int):
            return first or None
        return None if first is not None and _NOT_BATCH.match(first) else 0

    def describe(self) -> str:
        """``float32 [N, 3, 224, 224]``"""
        dtype = "string" if self.elem_type == onnx.TensorProto.STRING else str(self.dtype)
        if self.shape is None:
            return f"{dtype} of any shape"
        return f"{dtype} [{', '.join('?' if d is None else str(d) for d in self.shape)}]"


def input_specs(model: Model) -> list[InputSpec]:
    """The inputs that must be fed, in the graph's order."""
    free = {tensor.name for tensor in model.graph.inputs} - model.overridable
    return [_spec(value, model.label) for value in model.interface().input if value.name in free]


def _spec(value: onnx.ValueInfoProto, label: str) -> InputSpec:
    kind, tensor = "tensor", value.type
    while tensor.WhichOneof("value") in ("sequence_type", "optional_type"):
        if tensor.WhichOneof("value") == "sequence_type":
            kind, tensor = "sequence", tensor.sequence_type.elem_type
        else:
            kind, tensor = "optional" if kind == "tensor" else kind, tensor.optional_type.elem_type
    if tensor.WhichOneof("value") != "tensor_type" or not tensor.tensor_type.elem_type:
        raise ModelError("GO031", f"{label}: input '{value.name}'", "is not of a tensor type", "give the input a type")
    described = tensor.tensor_type
    shape = tuple(_dim(d) for d in described.shape.dim) if described.HasField("shape") else None
    return InputSpec(value.name, int(described.elem_type), shape, kind)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return dim.dim_param or None
