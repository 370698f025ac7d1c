"""Writing a model to disk: all of it or nothing, never onto the input.

The bytes go to a temporary file in the same folder, are flushed to the disk and then renamed over the target: a reader (or a
crash) sees the old file or the new one. Weights that would not fit into one protobuf message (2 GiB) go into ``NAME.data``
beside the model, streamed, aligned to 4 KiB as the ONNX external-data format recommends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import external_data_helper

from graphopt.errors import UsageError
from graphopt.model.weights import Weights, array_of

PROTOBUF_LIMIT = 2**31 - 2**24
_ALIGNMENT = 4096
_CHUNK = 1 << 24
_SMALL = 1024


def refuse_target(path: Path, source: Path | None, force: bool) -> None:
    """UsageError GO907/GO908 if ``path`` is the input (also through a link), exists without ``force``, or cannot be a file."""
    if path.is_dir():
        raise UsageError("GO908", str(path), "is a folder", "name the output file")
    if path.exists() and not path.is_file():  # the rename would put a file in the place of a device
        raise UsageError("GO908", str(path), "is a device or a pipe, not a file", "name a file, or nothing for the report alone")
    if not path.resolve().parent.is_dir():
        raise UsageError("GO908", str(path), "its folder does not exist", f"create {path.parent} first")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise UsageError("GO907", str(path), "the output is the input model", "choose another output path")
    if path.exists() and not force:
        raise UsageError("GO907", str(path), "the output exists", "choose another path, or overwrite it with --force")


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Call ``write`` with a temporary file and rename it to ``path`` once it lies on the disk whole."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_bytes(path: Path, raw: bytes) -> None:
    """``raw`` as the whole content of ``path``, atomically."""

    def write(file: IO[bytes]) -> None:
        file.write(raw)

    write_atomically(path, write)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_weights(proto: onnx.ModelProto, constants: dict[str, gs.Constant], path: Path) -> None:
    """Stream the constants' bytes to ``path`` and let the initializers of ``proto`` (skeletons) name their place in it."""

    def write(file: IO[bytes]) -> None:
        for name, constant in constants.items():
            offset = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
            file.write(b"\0" * (offset - file.tell()))
            length = _stream(constant, file)
            tensor = proto.graph.initializer.add()
            tensor.name = name
            values = constant._values
            tensor.dims.extend(values.shape)
            tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(values.dtype))
            tensor.raw_data = b"\0"  # set_external_data wants raw data; it is cleared again below
            external_data_helper.set_external_data(tensor, path.name, offset, length)
            tensor.ClearField("raw_data")

    write_atomically(path, write)


def _stream(constant: gs.Constant, file: IO[bytes]) -> int:
    values = constant._values
    if isinstance(values, Weights) and values.external:
        source, offset, length = values.external_bytes()
        with source.open("rb") as reader:
            reader.seek(offset)
            left = length
            while left > 0:
                chunk = reader.read(min(_CHUNK, left))
                if not chunk:
                    break
                file.write(chunk)
                left -= len(chunk)
        return length
    raw = onnx.numpy_helper.from_array(array_of(values)).raw_data
    file.write(raw)
    return len(raw)


def external_candidates(constants: dict[str, gs.Constant]) -> dict[str, gs.Constant]:
    """The constants that go to the data file: all but the small ones, which shape inference needs at hand, and strings."""
    big: dict[str, gs.Constant] = {}
    for name, constant in constants.items():
        values = constant._values
        if values.nbytes > _SMALL and np.dtype(values.dtype) != np.dtype(object):
            big[name] = constant
    return big
