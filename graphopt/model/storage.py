"""Where payloads lie: open files, and the rule which files a model may name.

A file stays open from loading on, so that one replaced meanwhile (renamed over) still gives the old bytes. One that was changed in
place or cut short gives an error: ModelError GO015. Files are read with ``pread``, never mapped, since a mapped file that shrinks
kills the process.

External data is opened from beside the model and from nowhere else. Each part of the location is opened without following links,
relative to the folder before it, and the checks are made on what was opened: nothing can be exchanged between check and use. A hard
link is refused too, as it may be somebody else's file.
"""

from __future__ import annotations

import os
import re
import stat
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from graphopt.errors import ModelError
from graphopt.model.wire import RAW_DATA

CHUNK = 1 << 22
_MOST_OPEN = 64
"""Data files that one model keeps open; of further ones the identity is remembered, and they are opened again."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_FOREIGN = re.compile(r"[\\\0]|^[A-Za-z]:")


class DataFile:
    """One file to read from.

    Attributes:
        identity: device and inode.
        size: in bytes, when it was first opened.
    """

    def __init__(self, reopen: Callable[[], int], where: str, name: str, *, keep: bool = True) -> None:
        self.where = where
        self.name = name
        self._reopen = reopen
        handle = reopen()
        found = os.fstat(handle)
        self.identity = (found.st_dev, found.st_ino)
        self.size = found.st_size
        self._version = (*self.identity, found.st_size, found.st_mtime_ns)
        self._handle: int | None = handle if keep else None
        if keep:
            weakref.finalize(self, os.close, handle)
        else:
            os.close(handle)

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``. Raises ModelError GO015 if the file is not as it was."""
        out = bytearray(length)
        self.read_into(memoryview(out), offset)
        return bytes(out)

    def read_into(self, out: memoryview, offset: int) -> None:
        """Fill ``out`` from ``offset``."""
        handle = self._reopen() if self._handle is None else self._handle
        try:
            self._check(handle)
            done = 0
            while done < len(out):
                count = os.preadv(handle, [out[done : done + CHUNK]], offset + done)
                if count <= 0:
                    raise self._changed()
                done += count
            self._check(handle)
        except OSError as error:
            raise ModelError("GO001", self.where, f"{self.name} cannot be read: {error.strerror}") from None
        finally:
            if handle != self._handle:
                os.close(handle)

    def _check(self, handle: int) -> None:
        found = os.fstat(handle)
        if (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) != self._version:
            raise self._changed()

    def _changed(self) -> ModelError:
        return ModelError("GO015", self.where, f"{self.name} was changed while it was in use", "load the model again")


class Memory:
    """Bytes of the caller, to be read like a file."""

    def __init__(self, raw: bytes) -> None:
        self._view = memoryview(raw)
        self.identity = None
        self.size = len(raw)

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``."""
        return bytes(self._view[offset : offset + length])

    def read_into(self, out: memoryview, offset: int) -> None:
        """Fill ``out`` from ``offset``."""
        out[:] = self._view[offset : offset + len(out)]


@dataclass(frozen=True, slots=True)
class Span:
    """A payload: a part of a file. ``field``: the number of its field in TensorProto. ``external``: not in the model itself."""

    file: DataFile | Memory
    offset: int
    length: int
    field: int = RAW_DATA
    external: bool = False

    def chunks(self) -> Iterator[bytes]:
        """The bytes, a few MiB at a time."""
        for start in range(0, self.length, CHUNK):
            yield self.file.read(self.offset + start, min(CHUNK, self.length - start))


def open_model(path: Path) -> DataFile:
    """The model's own file; links to it are followed. Raises ModelError GO001."""
    label = str(path)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ModelError("GO001", label, "is a folder, not a model", "name the .onnx file in it")
        if not stat.S_ISREG(found.st_mode):
            raise ModelError("GO001", label, "is a device or a pipe, not a file", "write the model into a file first")
        return DataFile(lambda: _regular(os.open(path, _FLAGS & ~os.O_NOFOLLOW), label), label, path.name)
    except FileNotFoundError:
        raise ModelError("GO001", label, "no such file", "check the path of the model") from None
    except OSError as error:
        raise ModelError("GO001", label, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise ModelError("GO001", label, "is not a path") from None


def _regular(handle: int, where: str) -> int:
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise ModelError("GO001", where, "is a device or a pipe, not a file")


@dataclass(slots=True)
class Folder:
    """The folder of a model: where its external data may lie. ``path`` is None for a model that did not come from a file."""

    path: Path | None
    files: dict[str, DataFile] = field(default_factory=dict[str, DataFile])

    def open(self, location: str, where: str) -> DataFile:
        """The file that external data names. Raises ModelError GO010 if it is not a file inside of the folder."""
        known = self.files.get(location)
        if known is None:
            parts = self._parts(location, where)
            base = self.path or Path()
            keep = len(self.files) < _MOST_OPEN
            known = DataFile(lambda: _open_beside(base, parts, location, where), where, f"'{location}'", keep=keep)
            self.files[location] = known
        return known

    def _parts(self, location: str, where: str) -> tuple[str, ...]:
        if self.path is None:
            raise ModelError("GO010", where, "external data in a model that was not read from a file", "load it by its path")
        parts = Path(location).parts
        if not parts or Path(location).is_absolute() or ".." in parts:
            raise ModelError("GO010", where, f"external data outside of the model's folder: '{location}'")
        if _FOREIGN.search(location):
            raise ModelError("GO010", where, f"external data in '{location}', which is no portable relative path")
        return parts


def _open_beside(base: Path, parts: tuple[str, ...], location: str, where: str) -> int:
    """Open part by part, following no link below ``base``, and check what was opened."""
    try:
        folder = os.open(base, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = inner
            # Looked at before it is opened, too: to open a device can already do something.
            _refuse_irregular(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False), location, where)
            handle = os.open(parts[-1], _FLAGS, dir_fd=folder)
        finally:
            os.close(folder)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if isinstance(error, NotADirectoryError) and _has_link(base, parts):
            raise ModelError("GO010", where, f"external data behind a link: '{location}'") from None
        raise ModelError("GO010", where, f"external data '{location}' is missing", "put the file beside the model") from None
    except OSError as error:
        if _has_link(base, parts):
            raise ModelError("GO010", where, f"external data behind a link: '{location}'") from None
        raise ModelError("GO010", where, f"external data '{location}' cannot be read: {error.strerror}") from None
    try:
        _refuse_irregular(os.fstat(handle), location, where)
    except ModelError:
        os.close(handle)
        raise
    return handle


def _has_link(base: Path, parts: tuple[str, ...]) -> bool:
    try:
        return any(base.joinpath(*parts[: n + 1]).is_symlink() for n in range(len(parts)))
    except OSError:
        return False


def _refuse_irregular(found: os.stat_result, location: str, where: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise ModelError("GO010", where, f"external data behind a link: '{location}'")
    if not stat.S_ISREG(found.st_mode):
        raise ModelError("GO010", where, f"external data '{location}' is not a file")
    if found.st_nlink > 1:
        raise ModelError("GO010", where, f"external data '{location}' is a hard link", "copy the file instead")
