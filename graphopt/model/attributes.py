"""Node attributes: AttributeProto <-> Python values.

Scalars and lists become Python values, tensors become ``gs.Constant``, graphs become ``gs.Graph``. What has no natural value
(references to a function's attributes, sparse tensors, types, lists of tensors or graphs) stays an AttributeProto. On the way
out an attribute whose value still equals its origin is the origin's proto, with its documentation and its exact bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import AttributeProto, numpy_helper

from graphopt.errors import ModelError
from graphopt.model.weights import Weights, array_of


def decode(proto: AttributeProto, folder: Path | None, label: str, read_graph: Callable[[onnx.GraphProto], gs.Graph]) -> Any:
    """The Python value of an attribute; the proto itself where there is no natural one."""
    if proto.ref_attr_name:
        return proto
    match proto.type:
        case AttributeProto.FLOAT:
            return proto.f
        case AttributeProto.INT:
            return proto.i
        case AttributeProto.STRING:
            return _text(proto.s)
        case AttributeProto.FLOATS:
            return list(proto.floats)
        case AttributeProto.INTS:
            return list(proto.ints)
        case AttributeProto.STRINGS:
            return [_text(s) for s in proto.strings]
        case AttributeProto.TENSOR:
            return gs.Constant(proto.t.name, Weights(proto.t, folder, label))
        case AttributeProto.GRAPH:
            return read_graph(proto.g)
        case _:
            return proto


def encode(
    name: str, value: Any, origin: AttributeProto | None, write_graph: Callable[[gs.Graph], onnx.GraphProto], where: str
) -> AttributeProto:
    """The attribute of ``value``: its origin where nothing changed. Raises ModelError GO013 for a value ONNX cannot hold."""
    if isinstance(value, AttributeProto):
        return value
    if isinstance(value, gs.Graph):
        fresh = AttributeProto(name=name, type=AttributeProto.GRAPH)
        if origin is not None and origin.HasField("doc_string"):
            fresh.doc_string = origin.doc_string
        fresh.g.CopyFrom(write_graph(value))
        return fresh
    if origin is not None and _unchanged(value, origin):
        return origin
    return _make(name, value, origin, where)


def _make(name: str, value: Any, origin: AttributeProto | None, where: str) -> AttributeProto:
    if isinstance(value, gs.Constant):
        return onnx.helper.make_attribute(name, tensor_of(value, value.name))
    if isinstance(value, np.ndarray):
        return onnx.helper.make_attribute(name, numpy_helper.from_array(cast("NDArray[Any]", value), name))
    if isinstance(value, np.generic):
        return _make(name, cast("Any", value.item()), origin, where)
    kind = origin.type if origin is not None else None
    try:
        if isinstance(value, (list, tuple)) and not value:
            return onnx.helper.make_attribute(name, [], attr_type=kind or AttributeProto.INTS)
        return onnx.helper.make_attribute(name, value)
    except (TypeError, ValueError) as error:
        raise ModelError("GO013", where, f"attribute '{name}' cannot be written: {error}") from None


def tensor_of(constant: gs.Constant, name: str) -> onnx.TensorProto:
    """A TensorProto of a constant's values: the one it came with, if nobody changed it."""
    values = constant._values
    if isinstance(values, Weights) and isinstance(values.proto, onnx.TensorProto):
        if values.proto.name == name and not values.external:
            return values.proto
        proto = onnx.TensorProto()
        proto.CopyFrom(values.proto)
        proto.name = name
        if values.external:
            del proto.external_data[:]
            proto.data_location = onnx.TensorProto.DEFAULT
            path, offset, length = values.external_bytes()
            with path.open("rb") as file:
                file.seek(offset)
                proto.raw_data = file.read(length)
        return proto
    array = array_of(values)
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name)


def _unchanged(value: Any, origin: AttributeProto) -> bool:
    match origin.type:
        case AttributeProto.FLOAT:
            return isinstance(value, float) and value == origin.f
        case AttributeProto.INT:
            return isinstance(value, int) and value == origin.i
        case AttributeProto.STRING:
            return bool(value == _text(origin.s))
        case AttributeProto.FLOATS:
            return bool(value == list(origin.floats))
        case AttributeProto.INTS:
            return bool(value == list(origin.ints))
        case AttributeProto.STRINGS:
            return bool(value == [_text(s) for s in origin.strings])
        case AttributeProto.TENSOR:
            values = value._values if isinstance(value, gs.Constant) else None
            return isinstance(values, Weights) and values.proto is origin.t and not values.external
        case _:
            return False


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
