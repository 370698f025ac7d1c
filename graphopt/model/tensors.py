"""Is a TensorProto what it says? Exactly one storage, of the declared type, with as many values as the shape has.

Checked when a model is read, without making an array: a tensor that lies about itself is refused before any pass runs (GO011), and
so is a sparse one that would be huge when written out (GO018). Source: onnx.proto, "TensorProto: tensor element data".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from graphopt.errors import ModelError

DENSE_LIMIT = 2**28
"""Bytes that a sparse tensor may take when it is written out: its file says nothing about how many that are."""

_BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.INT2, TensorProto.UINT2), 2),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1), 4),
}
"""Types with several elements in one byte."""

_STORAGE: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}
"""Typed storage by element type; all others use int32_data."""

_TYPED = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")

_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-(2**7), 2**7 - 1),
    TensorProto.UINT8: (0, 2**8 - 1),
    TensorProto.INT16: (-(2**15), 2**15 - 1),
    TensorProto.UINT16: (0, 2**16 - 1),
    TensorProto.FLOAT16: (0, 2**16 - 1),
    TensorProto.BFLOAT16: (0, 2**16 - 1),
    TensorProto.INT32: (-(2**31), 2**31 - 1),
    TensorProto.BOOL: (0, 1),
}
"""What int32_data may hold; one byte for all smaller types."""

_BYTE = (-(2**7), 2**8 - 1)
_LARGEST = 2**63 - 1


def raw_bytes(elem_type: int, itemsize: int, dims: Sequence[int]) -> int:
    """Bytes that raw_data of this type and shape has."""
    count = math.prod(dims)
    bits = _BITS.get(elem_type)
    return count * itemsize if bits is None else -(-count * bits // 8)


def shape_of(dims: Sequence[int], itemsize: int, where: str) -> tuple[int, ...]:
    """The shape, if it is one. Raises ModelError GO011."""
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise ModelError("GO011", where, f"has a negative dimension: {list(shape)}")
    if math.prod(d for d in shape if d) * max(itemsize, 1) > _LARGEST:
        raise ModelError("GO011", where, f"has more elements than can be addressed: {list(shape)}")
    return shape


def check_dense(proto: TensorProto, itemsize: int, where: str, raw: int, *, stored: bool = False) -> None:
    """Raise ModelError GO011 unless storage, type and shape of ``proto`` agree.

    ``raw``: bytes of its raw_data (to ask for them makes a copy). ``stored``: its values lie elsewhere, and their number is right.
    """
    if proto.HasField("segment"):
        raise ModelError("GO011", where, "is one segment of a larger tensor, which no runtime reads")
    used = [name for name in _TYPED if len(getattr(proto, name))] + (["raw_data"] if raw else [])
    if len(used) + stored > 1:
        raise ModelError("GO011", where, f"has its values twice: {' and '.join([*used, *(['external data'] if stored else [])])}")
    if stored:
        return
    if used and not raw:
        _check_typed(proto, used[0], where)
        return
    need = raw_bytes(proto.data_type, itemsize, proto.dims)
    if proto.data_type == TensorProto.STRING and (raw or need):
        raise ModelError("GO011", where, "is a string tensor without string_data")
    if raw != need:
        found = f"{raw} bytes" if raw else "no values"
        raise ModelError("GO011", where, f"its shape {list(proto.dims)} needs {need} bytes, and it has {found}")


def _check_typed(proto: TensorProto, field: str, where: str) -> None:
    expected = _STORAGE.get(proto.data_type, "int32_data")
    if field != expected:
        kind = TensorProto.DataType.Name(proto.data_type)
        raise ModelError("GO011", where, f"is of type {kind} and has its values in {field} instead of {expected}")
    need = math.prod(proto.dims)
    if proto.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        need *= 2
    elif proto.data_type in _BITS:
        need = raw_bytes(proto.data_type, 1, proto.dims)
    values = getattr(proto, field)
    if len(values) != need:
        raise ModelError("GO011", where, f"its shape {list(proto.dims)} needs {need} values, and it has {len(values)}")
    if field == "int32_data" or proto.data_type == TensorProto.UINT32:
        low, high = (0, 2**32 - 1) if field == "uint64_data" else _RANGES.get(proto.data_type, _BYTE)
        if min(values) < low or max(values) > high:
            raise ModelError("GO011", where, f"has values that its type does not hold: {min(values)} to {max(values)}")


def check_sparse(proto: onnx.SparseTensorProto, itemsize: int, where: str) -> None:
    """Raise ModelError GO011 or GO018 unless values, indices and dense shape of ``proto`` agree."""
    shape = shape_of(proto.dims, itemsize, where)
    dense = math.prod(shape) * itemsize
    if dense > DENSE_LIMIT:
        why = f"would take {dense} bytes when written out; at most {DENSE_LIMIT} are allowed"
        raise ModelError("GO018", where, why, "store it as a dense tensor")
    for part, name in ((proto.values, "values"), (proto.indices, "indices")):
        if part.external_data or part.data_location == TensorProto.EXTERNAL:
            raise ModelError("GO010", where, f"the {name} of a sparse tensor cannot lie in external data")
    if proto.indices.data_type not in (TensorProto.INT64, TensorProto.UNDEFINED):
        raise ModelError("GO011", where, "has indices that are not of type INT64")
    check_dense(proto.values, itemsize, where, len(proto.values.raw_data))
    count = math.prod(proto.values.dims)
    if len(proto.values.dims) != 1:
        raise ModelError("GO011", where, f"its values have the shape {list(proto.values.dims)} instead of one dimension")
    if count == 0:
        return
    if proto.indices.data_type == TensorProto.UNDEFINED:
        raise ModelError("GO011", where, "has values and no indices")
    check_dense(proto.indices, 8, where, len(proto.indices.raw_data))
    if list(proto.indices.dims) not in ([count], [count, len(shape)]):
        raise ModelError("GO011", where, f"its indices have the shape {list(proto.indices.dims)}, for {count} values")
    _check_indices(numpy_helper.to_array(proto.indices), shape, where)


def _check_indices(indices: NDArray[np.int64], shape: tuple[int, ...], where: str) -> None:
    high = np.asarray([math.prod(shape)] if indices.ndim == 1 else shape, np.int64)
    if np.any(indices < 0) or np.any(indices >= high):
        raise ModelError("GO011", where, f"has indices outside of its shape {list(shape)}")
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
    if np.any(np.diff(flat) <= 0):
        raise ModelError("GO011", where, "has indices that are not sorted, or one twice")


def dense(proto: onnx.SparseTensorProto) -> NDArray[np.generic]:
    """A checked sparse tensor's values in the full shape."""
    values = numpy_helper.to_array(proto.values)
    full = np.zeros(tuple(proto.dims), values.dtype)
    if values.size:
        indices = numpy_helper.to_array(proto.indices)
        place = indices if indices.ndim == 1 else tuple(indices.T)
        (full.reshape(-1) if indices.ndim == 1 else full)[place] = values
    return full
