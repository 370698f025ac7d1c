"""Node attributes: AttributeProto <-> Python values.

Scalars and lists become Python values, tensors become ``gs.Constant``, graphs become ``gs.Graph``. What has no natural value
(references to a function's attributes, sparse tensors, types, lists of tensors or graphs) stays an AttributeProto. On the way
out an attribute whose value still equals its origin is the origin's proto, with its documentation and its exact bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import AttributeProto, numpy_helper

from graphopt.errors import ModelError
from graphopt.model.payloads import INLINE, Fill, tensor_of
from graphopt.model.protos import copy_except
from graphopt.model.weights import Origin, Weights


def decode(proto: AttributeProto, origin: Origin, read_graph: Callable[[onnx.GraphProto], gs.Graph]) -> Any:
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
        case AttributeProto.TENSOR if proto.HasField("t"):
            return gs.Constant(proto.t.name, Weights(proto.t, origin))
        case AttributeProto.GRAPH if proto.HasField("g"):
            return read_graph(proto.g)
        case _:
            return proto


def encode(
    name: str,
    value: Any,
    origin: AttributeProto | None,
    write_graph: Callable[[gs.Graph], onnx.GraphProto],
    where: str,
    fill: Fill = INLINE,
) -> AttributeProto:
    """The attribute of ``value``: its origin where nothing changed. Raises ModelError GO013 for a value ONNX cannot hold.

    ``fill`` says where the bytes of a tensor go.
    """
    if isinstance(value, AttributeProto):
        return value
    if isinstance(value, gs.Graph):
        return _described(AttributeProto(name=name, type=AttributeProto.GRAPH, g=write_graph(value)), origin)
    if isinstance(value, gs.Constant):
        return _described(AttributeProto(name=name, type=AttributeProto.TENSOR, t=tensor_of(value, value.name, fill)), origin)
    if origin is not None and _unchanged(value, origin):
        return origin
    return _described(_make(name, value, origin, where), origin)


_VALUES = ("name", "type", "f", "i", "s", "t", "g", "sparse_tensor", "tp", "floats", "ints", "strings", "tensors", "graphs",
           "sparse_tensors", "type_protos")  # fmt: skip


_OWN = {AttributeProto.TENSOR: "t", AttributeProto.GRAPH: "g"}


def _described(fresh: AttributeProto, origin: AttributeProto | None) -> AttributeProto:
    """With what the origin says besides its value."""
    if origin is not None:
        # What an attribute holds besides the value of its declared type means nothing, and is kept if the value's place is.
        own = _OWN.get(fresh.type) if fresh.type == origin.type else None
        copy_except(fresh, origin, ("name", "type", own) if own else _VALUES)
    return fresh


def _make(name: str, value: Any, origin: AttributeProto | None, where: str) -> AttributeProto:
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
        case _:
            return False


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
