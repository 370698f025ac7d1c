"""Constant tensors as they lie in the file: shape and type at once, values only when somebody asks.

``Weights`` wraps a TensorProto (or SparseTensorProto). Reading its values does not replace the proto, so a tensor that no pass
changed is written back exactly as it came: same field, same bytes. External data is read from beside the model and from
nowhere else: a location that leaves the model's folder (absolute, ``..``, symbolic or hard link) is refused.
"""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import external_data_helper, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphopt.errors import ModelError

Array = NDArray[Any]


def numpy_dtype(elem_type: int, where: str) -> np.dtype[Any]:
    """The numpy type of an ONNX element type. Raises ModelError GO012 for one that ONNX does not define."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, ValueError, TypeError):
        raise ModelError("GO012", where, f"element type {elem_type} is not an ONNX data type") from None


class Weights(LazyValues):
    """The values of one constant, still in the proto that brought them.

    Attributes:
        proto: the tensor as read; never edited.
        shape, dtype, nbytes: as numpy would report them.
        folder: where external data may lie; None for a model that did not come from a file.
    """

    def __init__(self, proto: onnx.TensorProto | onnx.SparseTensorProto, folder: Path | None, label: str) -> None:
        # Not the base class's constructor: it knows fewer types than ONNX has.
        self.proto = proto
        self.folder = folder
        self.label = label
        values = proto.values if isinstance(proto, onnx.SparseTensorProto) else proto
        where = f"{label}: tensor '{values.name}'"
        self.where = where
        if any(d < 0 for d in proto.dims):
            raise ModelError("GO011", where, f"has a negative dimension: {list(proto.dims)}")
        self.shape = tuple(int(d) for d in proto.dims)
        self.dtype = numpy_dtype(values.data_type, where)
        self.elem_type = int(values.data_type)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self._seen: weakref.ref[Array] | None = None

    @property
    def external(self) -> bool:
        """Whether the bytes lie in another file than the model."""
        return isinstance(self.proto, onnx.TensorProto) and external_data_helper.uses_external_data(self.proto)

    def array(self) -> Array:
        """The values, read-only. Raises ModelError GO010 (external data) or GO011 (bytes and shape disagree)."""
        seen = self._seen() if self._seen is not None else None
        if seen is None:
            seen = self._read()
            seen.flags.writeable = False
            self._seen = weakref.ref(seen)
        return seen

    def load(self) -> Array:
        """As ``array``, but a copy that may be edited: what graphsurgeon calls when a user reads ``Constant.values``."""
        return np.array(self.array())

    def external_bytes(self) -> tuple[Path, int, int]:
        """File, offset and length of the external data."""
        if not isinstance(self.proto, onnx.TensorProto):
            raise ModelError("GO010", self.where, "sparse tensors cannot lie in external data")
        info = {entry.key: entry.value for entry in self.proto.external_data}
        path = safe_path(self.folder, info.get("location", ""), self.where)
        size = path.stat().st_size
        try:
            offset, length = int(info.get("offset", 0)), int(info.get("length", -1))
        except ValueError:
            raise ModelError("GO010", self.where, "external data with an offset or length that is no number") from None
        length = size - offset if length < 0 else length
        if offset < 0 or offset + length > size:
            raise ModelError("GO010", self.where, f"external data ends after the end of {path.name}")
        return path, offset, length

    def _read(self) -> Array:
        try:
            if isinstance(self.proto, onnx.SparseTensorProto):
                return _dense(self.proto)
            if self.external:
                return self._read_external(self.proto)
            return np.asarray(numpy_helper.to_array(self.proto))
        except ModelError:
            raise
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise ModelError("GO011", self.where, f"its bytes do not fit its shape {list(self.shape)}: {error}") from None

    def _read_external(self, proto: onnx.TensorProto) -> Array:
        path, offset, length = self.external_bytes()
        whole = onnx.TensorProto()
        whole.CopyFrom(proto)
        del whole.external_data[:]
        whole.data_location = onnx.TensorProto.DEFAULT
        with path.open("rb") as file:
            file.seek(offset)
            whole.raw_data = file.read(length)
        return np.asarray(numpy_helper.to_array(whole))


def array_of(values: Array | LazyValues) -> Array:
    """The values of a constant, whichever way it holds them."""
    if isinstance(values, Weights):
        return values.array()
    return values.load() if isinstance(values, LazyValues) else values


def safe_path(folder: Path | None, location: str, where: str) -> Path:
    """The file that external data names, if it lies inside the model's folder; ModelError GO010 otherwise."""
    if folder is None:
        raise ModelError("GO010", where, "external data in a model that was not read from a file", "load it by its path")
    base = folder.resolve()
    path = folder / location
    parts = Path(location).parts
    if not location or Path(location).is_absolute() or ".." in parts or "\0" in location:
        raise ModelError("GO010", where, f"external data outside of the model's folder: '{location}'")
    if not path.resolve().is_relative_to(base) or any(p.is_symlink() for p in [path, *path.parents] if p != folder):
        raise ModelError("GO010", where, f"external data behind a link: '{location}'")
    if not path.is_file():
        raise ModelError("GO010", where, f"external data '{location}' is missing", "put the file beside the model")
    if path.stat().st_nlink > 1:
        raise ModelError("GO010", where, f"external data '{location}' is a hard link", "copy the file instead")
    return path


def _dense(sparse: onnx.SparseTensorProto) -> Array:
    """A sparse tensor's values in the full shape (ONNX IR, SparseTensorProto: linear or coordinate indices)."""
    values = numpy_helper.to_array(sparse.values)
    indices = numpy_helper.to_array(sparse.indices)
    full = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        full.reshape(-1)[indices] = values
    else:
        full[tuple(indices.T)] = values
    return full
