"""Files that appear whole or not at all, and where none may be written.

The bytes go to a temporary file in the same folder, are flushed to the disk and then renamed over the target, and the folder is
flushed too: a reader, or a crash, sees the old file or the new one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

from graphopt.errors import UsageError


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


def refuse_inputs(path: Path, inputs: Collection[tuple[int, int]]) -> None:
    """UsageError GO907 if ``path``, or what it links to, is one of the files (device and inode) that a model is read from."""
    if identity_of(path) in inputs:
        raise UsageError("GO907", str(path), "the output is a file that the input model reads", "choose another output path")


def identity_of(path: Path) -> tuple[int, int] | None:
    """Device and inode; None if there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def write_temporary(folder: Path, name: str, chunks: Iterable[bytes | memoryview]) -> Path:
    """A new file in ``folder`` with these bytes, flushed to the disk; the name tells what it is for."""
    handle, temporary = tempfile.mkstemp(prefix=f".{name[:100]}.", suffix=".part", dir=folder)
    path = Path(temporary)
    try:
        with os.fdopen(handle, "wb", buffering=1 << 20) as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        path.chmod(0o666 & ~_umask())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def put(temporary: Path, path: Path) -> None:
    """Rename ``temporary`` over ``path`` and flush the folder."""
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Let renames and removals in ``folder`` reach the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some file systems cannot; the rename itself is atomic all the same
    finally:
        os.close(handle)


def write_bytes(path: Path, raw: bytes) -> None:
    """``raw`` as the whole content of ``path``, atomically."""
    put(write_temporary(path.parent, path.name, [raw]), path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
