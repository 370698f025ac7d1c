"""Constants -> TensorProto: where a tensor's bytes go when a model is written.

``Fill`` decides it: into the message (``Fill`` itself), behind a mark that ``wire.splice`` replaces (``Marked``), or into a data
file (``Outside``). What is small stays in the message in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from graphopt.model import wire
from graphopt.model.protos import copy_except
from graphopt.model.storage import Span
from graphopt.model.tensors import raw_bytes
from graphopt.model.weights import Block, Weights, array_of

ALIGNMENT = 4096
"""Of external data, as the ONNX external-data format recommends: a page, so that it can be mapped."""

_FLOATS: dict[int, tuple[np.dtype[Any], str]] = {4: (np.dtype("<f4"), "float_data"), 10: (np.dtype("<f8"), "double_data")}


class Fill:
    """Bytes go into the message."""

    least: int | None = None
    """Tensors in memory of fewer bytes stay as they are; None: all of them do."""
    raw_only = False
    """Whether typed storage is given up."""

    def put(self, tensor: TensorProto, payload: wire.Payload, field: int) -> None:
        """Give ``tensor``, which is empty, its values, which belong into the field of this number."""
        self.store(tensor, b"".join(payload.chunks()), field)

    def store(self, tensor: TensorProto, raw: bytes, field: int) -> None:
        if field == wire.RAW_DATA:
            tensor.raw_data = raw
        else:
            dtype, name = _FLOATS[field]
            getattr(tensor, name).extend(np.frombuffer(raw, dtype).tolist())


class Marked(Fill):
    """Bytes stay where they are until the message is written; a mark stands for them."""

    def __init__(self, marks: wire.Marks[wire.Payload]) -> None:
        self.marks = marks
        self.least = wire.LARGE

    def put(self, tensor: TensorProto, payload: wire.Payload, field: int) -> None:
        if payload.length < wire.LARGE:
            super().put(tensor, payload, field)
        else:
            self.store(tensor, self.marks.add(payload), field)


class Outside(Fill):
    """Bytes go to a data file: one after the other, aligned.

    Args:
        location: the name of that file.
        smallest: tensors of fewer bytes stay in the message.
        known: where payloads lie already: (location, offset) by span.
    """

    raw_only = True

    def __init__(self, location: str, smallest: int, known: dict[Span, tuple[str, int]] | None = None) -> None:
        self.location = location
        self.least = smallest
        self.payloads: list[tuple[int, wire.Payload]] = []
        self.size = 0
        self._smallest = smallest
        self._known = known

    def put(self, tensor: TensorProto, payload: wire.Payload, field: int) -> None:
        if payload.length < self._smallest:
            super().put(tensor, payload, field)
            return
        location, offset = self._place(payload)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(payload.length))):
            tensor.external_data.add(key=key, value=value)

    def _place(self, payload: wire.Payload) -> tuple[str, int]:
        if self._known is not None and isinstance(payload, Span) and payload in self._known:
            return self._known[payload]
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        self.payloads.append((offset, payload))
        self.size = offset + payload.length
        if self._known is not None and isinstance(payload, Span):
            self._known[payload] = (self.location, offset)
        return self.location, offset

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The data file."""
        at = 0
        for offset, payload in self.payloads:
            yield b"\0" * (offset - at)
            yield from payload.chunks()
            at = offset + payload.length


INLINE = Fill()


def tensor_of(constant: gs.Constant, name: str, fill: Fill = INLINE) -> TensorProto:
    """A TensorProto of a constant's values: the one it came with, if nobody changed it and its bytes may stay in it."""
    values: Any = constant._values
    if isinstance(values, Weights) and isinstance(values.proto, TensorProto):
        return _of_weights(values, values.proto, name, fill)
    array = array_of(values)
    if fill.least is None or array.nbytes < fill.least or array.dtype == np.dtype(object):
        return numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name)
    elem_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = TensorProto(name=name, data_type=elem_type, dims=array.shape)
    length = raw_bytes(elem_type, array.dtype.itemsize, array.shape)
    fill.put(tensor, Block(length, lambda: _raw(array)), wire.RAW_DATA)
    return tensor


def _of_weights(values: Weights, proto: TensorProto, name: str, fill: Fill) -> TensorProto:
    payload: wire.Payload | None = values.stored() if values.span is not None or values.external else None
    if payload is None and fill.least is not None and values.elem_type != TensorProto.STRING:
        length = raw_bytes(values.elem_type, values.dtype.itemsize, values.shape)
        if length >= fill.least and proto.HasField("raw_data"):
            payload = Block(length, lambda: proto.raw_data)
        elif length >= fill.least and fill.raw_only:
            payload = Block(length, lambda: _raw(values.array()))
    if payload is None:
        if proto.name == name:
            return proto
        renamed = TensorProto()
        renamed.CopyFrom(proto)
        renamed.name = name
        return renamed
    tensor = TensorProto()
    moved = {"external_data", "data_location"} if values.external or fill.raw_only else set[str]()
    copy_except(tensor, proto, {*_VALUES, *moved})
    tensor.name = name
    fill.put(tensor, payload, payload.field if isinstance(payload, Span) and not fill.raw_only else wire.RAW_DATA)
    return tensor


_VALUES = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data")


def _raw(array: NDArray[Any]) -> bytes | memoryview:
    """An array as raw_data holds it."""
    if array.dtype.isbuiltin == 1 and array.dtype.byteorder in "=|<":
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return numpy_helper.from_array(np.ascontiguousarray(array)).raw_data
