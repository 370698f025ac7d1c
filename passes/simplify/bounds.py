"""How large a result will be and how much work it is, before anything is computed.

A file of 200 bytes can ask for gigabytes: ConstantOfShape, Expand, Tile, Range, Pad, OneHot, Resize, an outer product, a broadcast.
So the shapes of a node's outputs are inferred first, by ONNX's own rules from the values of the operands that decide them; what
has no known shape is not evaluated. Three limits hold:

- *growth*: a result may exceed the constants that it replaces by ``max_bytes``. A constant counts as replaced once, and only if
  everybody who reads it is evaluated too: otherwise it stays in the file beside the result. (Concat(x, x) of Concat(x, x) of ...
  doubles at each step, so each constant is counted once among a node's inputs.)
- *total growth*: all results together by ``TOTAL`` times as much;
- *work*: multiply-accumulates of products and convolutions, over the whole pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper
from onnx.defs import SchemaError, get_schema
from onnx.helper import make_opsetid, make_tensor_type_proto, tensor_dtype_to_np_dtype
from onnx.shape_inference import infer_node_outputs

from graphopt.ops import attrs
from graphopt.passes.simplify.editor import Array
from graphopt.passes.simplify.foldable import NATIVE

TOTAL = 4
"""Total growth, in units of the growth of one tensor."""

WORK = 2**34
"""Multiply-accumulates for one pass: a few seconds on one core."""

_DATA_BYTES = 8192
"""Larger operands do not decide shapes."""


@dataclass(frozen=True)
class Kind:
    """Element type (ONNX's number) and static shape of a tensor."""

    elem_type: int
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * int(np.dtype(tensor_dtype_to_np_dtype(self.elem_type)).itemsize)


def infer(proto: onnx.NodeProto, opset: int, kinds: Mapping[str, Kind], values: Mapping[str, Array]) -> dict[str, Kind] | str:
    """The kinds of a node's outputs, from the kinds of its inputs and the values known; or why they cannot be told."""
    try:
        schema = get_schema(proto.op_type, opset, "")
        data = {n: numpy_helper.from_array(v, n) for n, v in values.items() if v.nbytes <= _DATA_BYTES}
        types = {n: make_tensor_type_proto(k.elem_type, k.shape) for n, k in kinds.items()}
        found = infer_node_outputs(schema, proto, types, data, opset_imports=[make_opsetid("", opset)])
    except (SchemaError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        return f"its shape cannot be told: {str(error).splitlines()[0][:120]}"
    outputs: dict[str, Kind] = {}
    for name in filter(None, proto.output):
        kind = _kind(found.get(name))
        if isinstance(kind, str):
            return kind
        outputs[name] = kind
    return outputs


def _kind(proto: onnx.TypeProto | None) -> Kind | str:
    if proto is None or proto.WhichOneof("value") != "tensor_type":
        return "its result is not a tensor of known type"
    tensor = proto.tensor_type
    if not tensor.HasField("shape") or not all(d.HasField("dim_value") and d.dim_value >= 0 for d in tensor.shape.dim):
        return "the size of its result depends on data"
    try:
        native = np.dtype(tensor_dtype_to_np_dtype(tensor.elem_type)) in NATIVE
    except (KeyError, ValueError, TypeError):
        native = False
    return Kind(tensor.elem_type, tuple(d.dim_value for d in tensor.shape.dim)) if native else "its type is not evaluated here"


def work(node: gs.Node, inputs: Sequence[Kind | None], outputs: Sequence[Kind]) -> int:
    """Multiply-accumulates, from above; elements for everything that is not a product."""
    shapes = [k.shape if k is not None else () for k in inputs]
    made = sum(k.elements for k in outputs)
    match node.op:
        case "MatMul":
            return made * max(1, shapes[0][-1] if shapes[0] else 1)
        case "Gemm":
            return made * max(1, *shapes[0])
        case "Conv":
            return made * max(1, math.prod(shapes[1][1:]))
        case "ConvTranspose":
            return math.prod(shapes[0]) * max(1, math.prod(shapes[1][1:])) + made
        case "Einsum":
            return _einsum(attrs.str_(node, "equation", ""), shapes)
        case _:
            return made + sum(map(math.prod, shapes))


def _einsum(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """All indices together: the size of the loop nest. Ellipses count as whole operands, which is too much and safe."""
    sizes: dict[str, int] = {}
    rest = 1
    for term, shape in zip(equation.split("->")[0].replace(" ", "").split(","), shapes, strict=False):
        if len(term) == len(shape) and "." not in term:
            sizes.update((letter, max(sizes.get(letter, 1), size)) for letter, size in zip(term, shape, strict=True))
        else:
            rest *= max(1, math.prod(shape))
    return math.prod(sizes.values()) * rest


class Budget:
    """What constant folding may still use."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.growth = TOTAL * max_bytes
        self.work = WORK

    def refuses(self, replaced: int, outputs: Sequence[Kind], work: int) -> str:
        """Why the result may not be computed, given the bytes of constants that it replaces; empty if it may: it is charged."""
        size = sum(k.nbytes for k in outputs)
        growth = max(0, size - replaced)
        if growth > self.max_bytes:
            return f"its result of {_mib(size)} would replace {_mib(replaced)} of constants"
        if growth > self.growth:
            return f"its result of {_mib(size)} would exceed what all results together may add"
        if work > self.work:
            return f"it takes {work:.1e} operations, more than are left for constants"
        self.growth -= growth
        self.work -= work
        return ""


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 // 10 else f"{count} bytes"
