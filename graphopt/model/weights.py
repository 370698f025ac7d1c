"""Constant tensors as they lie in the file: shape and type at once, values only when somebody asks.

``Weights`` wraps a TensorProto (or SparseTensorProto) and, where its values are large, the place in a file where they lie. Reading
the values replaces neither, so a tensor that no pass changed is written back exactly as it came: same field, same bytes.
"""

from __future__ import annotations

import math
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphopt.errors import ModelError
from graphopt.model import wire
from graphopt.model.storage import Folder, Span
from graphopt.model.tensors import check_dense, check_sparse, dense, raw_bytes, shape_of

Array = NDArray[Any]

_NUMBER = re.compile(r"[0-9]{1,19}")
_SMALL = 1 << 16
"""Bytes of tensors that are read whole where a sample is asked for."""


def numpy_dtype(elem_type: int, where: str) -> np.dtype[Any]:
    """The numpy type of an ONNX element type. Raises ModelError GO012 for one that ONNX does not define."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, ValueError, TypeError):
        raise ModelError("GO012", where, f"element type {elem_type} is not an ONNX data type") from None


@dataclass(slots=True)
class Origin:
    """Where the tensors of one model come from.

    Attributes:
        label: the model, for messages.
        folder: where external data may lie.
        marks: what was cut out of the model's file, if anything was.
    """

    label: str
    folder: Folder
    marks: wire.Marks[Span]


class Weights(LazyValues):
    """The values of one constant, still as the file brought them.

    Attributes:
        proto: the tensor as read, without the bytes that lie elsewhere; not to be edited.
        span: where the bytes lie, None if they are in ``proto``.
        shape, dtype, nbytes: as numpy would report them.

    Raises:
        ModelError: GO010 (external data), GO011 (bytes and shape disagree), GO012 (element type), GO018 (a sparse one too large).
    """

    def __init__(self, proto: TensorProto | onnx.SparseTensorProto, origin: Origin) -> None:
        # Not the base class's constructor: it knows fewer types than ONNX has.
        values = proto.values if isinstance(proto, onnx.SparseTensorProto) else proto
        self.where = f"{origin.label}: tensor '{values.name}'"
        name = cast("str | bytes", values.name)
        if isinstance(name, bytes):  # so protobuf hands out what is no UTF-8
            raise ModelError("GO008", origin.label, f"holds a name that is not UTF-8: {name[:60]!r}", "export the model again")
        self.dtype = numpy_dtype(values.data_type, self.where)
        self.elem_type = int(values.data_type)
        self.shape = shape_of(proto.dims, self.dtype.itemsize, self.where)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self.proto = proto
        self.span: Span | None = None
        self._homeless: bool = False
        self._seen: weakref.ref[Array] | None = None
        if isinstance(proto, onnx.SparseTensorProto):
            check_sparse(proto, self.dtype.itemsize, self.where)
        else:
            raw = self._locate(proto, origin)
            check_dense(proto, self.dtype.itemsize, self.where, raw, stored=self._elsewhere())

    @property
    def external(self) -> bool:
        """Whether the bytes lie in another file than the model."""
        return self._homeless or (self.span is not None and self.span.external)

    def array(self) -> Array:
        """The values, read-only. Raises ModelError GO010, GO011 or GO015 (the file was changed)."""
        seen = self._seen() if self._seen is not None else None
        if seen is None:
            seen = self._read()
            seen.flags.writeable = False
            self._seen = weakref.ref(seen)
        return seen

    def load(self) -> Array:
        """As ``array``, but a copy that may be edited: what graphsurgeon calls when a user reads ``Constant.values``."""
        return np.array(self.array())

    def sample(self, count: int) -> bytes:
        """The bytes of ``count`` elements or a few more, evenly spaced. Of a big tensor in a file no others are read."""
        size, span = math.prod(self.shape), self.span
        step = max(1, size // count)
        if span is None or span.length != self.nbytes or self.nbytes <= _SMALL or sys.byteorder != "little":
            return sample_of(self.array(), count)
        item = self.dtype.itemsize
        return b"".join(span.file.read(span.offset + at * item, item) for at in range(0, size, step))

    def stored(self) -> Span:
        """Where the bytes lie that are not in ``proto``. Raises ModelError GO010 if nobody said where."""
        if self.span is None:
            raise ModelError("GO010", self.where, "external data in a model that was not read from a file", "load it by its path")
        return self.span

    def _elsewhere(self) -> bool:
        return self._homeless or self.span is not None

    def _locate(self, proto: TensorProto, origin: Origin) -> int:
        """Find out where the values lie; the bytes of raw_data are returned."""
        if proto.external_data or proto.data_location == TensorProto.EXTERNAL:
            # A proto from memory may name external data without a folder: its shape is of use all the same.
            self._homeless = origin.folder.path is None
            if not self._homeless:
                self.span = self._external(proto, origin.folder)
            return len(proto.raw_data)
        raw = proto.raw_data
        self.span = origin.marks.take(raw)
        if self.span is None:
            return len(raw)
        proto.ClearField("raw_data")  # the proto is the reader's own; the caller's hold no marks
        self._check_length(self.span)
        return 0

    def _external(self, proto: TensorProto, folder: Folder) -> Span:
        info: dict[str, str] = {}
        for entry in proto.external_data:
            if entry.key in info:
                raise ModelError("GO010", self.where, f"external data names its {entry.key} twice")
            info[entry.key] = entry.value
        if self.elem_type == TensorProto.STRING:
            raise ModelError("GO010", self.where, "strings cannot lie in external data")
        file = folder.open(info.get("location", ""), self.where)
        numbers = {key: info[key] for key in ("offset", "length") if key in info}
        if not all(_NUMBER.fullmatch(text) for text in numbers.values()):
            raise ModelError("GO010", self.where, "external data with an offset or length that is no number from 0 on")
        offset = int(numbers.get("offset", 0))
        length = int(numbers.get("length", raw_bytes(self.elem_type, self.dtype.itemsize, self.shape)))
        if offset + length > file.size:
            raise ModelError("GO010", self.where, f"external data ends after the end of {file.name}")
        span = Span(file, offset, length, external=True)
        self._check_length(span)
        return span

    def _check_length(self, span: Span) -> None:
        need = raw_bytes(self.elem_type, self.dtype.itemsize, self.shape)
        if self.elem_type == TensorProto.STRING or span.length != need:
            why = f"its shape {list(self.shape)} needs {need} bytes, and it has {span.length}"
            raise ModelError("GO011", self.where, why)

    def _read(self) -> Array:
        try:
            if isinstance(self.proto, onnx.SparseTensorProto):
                return np.asarray(dense(self.proto))
            if self._elsewhere():
                return self._read_span(self.proto, self.stored())
            return np.asarray(numpy_helper.to_array(self.proto))
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise ModelError("GO011", self.where, f"its bytes do not fit its shape {list(self.shape)}: {error}") from None

    def _read_span(self, proto: TensorProto, span: Span) -> Array:
        if span.length != self.nbytes or sys.byteorder != "little":  # several elements in a byte, or bytes to be swapped
            whole = TensorProto()
            whole.CopyFrom(proto)
            whole.ClearField("external_data")
            whole.ClearField("data_location")
            whole.raw_data = b"".join(span.chunks())
            return np.asarray(numpy_helper.to_array(whole))
        flat = np.empty(span.length, np.uint8)
        if span.length:
            span.file.read_into(flat.data, span.offset)
        values: Array = flat.view(self.dtype).reshape(self.shape)
        return values


@dataclass(frozen=True, slots=True)
class Block:
    """A payload in memory, made when it is written."""

    length: int
    make: Callable[[], bytes | memoryview]

    def chunks(self) -> Iterator[bytes | memoryview]:
        """All of it at once."""
        yield self.make()


def sample_of(values: Array | LazyValues, count: int) -> bytes:
    """The bytes of ``count`` elements or a few more of a constant, evenly spaced: equal constants give equal ones."""
    if isinstance(values, Weights):
        return values.sample(count)
    flat = array_of(values).reshape(-1)
    return np.ascontiguousarray(flat[:: max(1, flat.size // count)]).tobytes()


def array_of(values: Array | LazyValues) -> Array:
    """The values of a constant, whichever way it holds them."""
    if isinstance(values, Weights):
        return values.array()
    return values.load() if isinstance(values, LazyValues) else values
