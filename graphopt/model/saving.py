"""Writing a model to disk: streamed, and all of it or nothing.

The message is built with marks in the place of large weights; their bytes then flow from where they lie (the input's file, an
array) into the output, chunk by chunk. The bytes are those that protobuf would write for the whole message, in the order of the
fields.

Weights go to a data file if they came from one, or if the message would exceed protobuf's 2 GiB. Its name holds a hash of its
content: ``NAME.<12 hex digits>.data``. It is written and flushed first, then the model that names it is renamed into its place,
then the data file of the replaced model is removed, if it bears such a name. At every moment the output is the old model whole or
the new one whole.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from graphopt.errors import GraphoptError, ModelError, UsageError
from graphopt.model import files, wire
from graphopt.model.ledger import Ledger
from graphopt.model.payloads import Fill, Marked, Outside
from graphopt.model.source import open_source
from graphopt.model.storage import Span
from graphopt.model.writer import Writer

SMALLEST_OUTSIDE = 1025
"""Tensors of fewer bytes stay in the model even if the others do not: shape inference needs them at hand."""

_SMALLEST_FOR_RUNTIME = 1 << 16
_HASH_DIGITS = 12

Pieces = list[bytes | wire.Payload]


def message(graph: gs.Graph, ledger: Ledger, label: str, initializers: Fill | None = None) -> tuple[Pieces, int]:
    """The serialised model as pieces, and its size. ``initializers`` says where their bytes go, if not into it."""
    marks: wire.Marks[wire.Payload] = wire.Marks()
    marked = Marked(marks)
    writer = Writer(graph, ledger, label, initializers=initializers or marked, attributes=marked)
    try:
        raw = writer.model().SerializeToString(deterministic=True)
    except (ValueError, MemoryError) as error:  # protobuf's EncodeError is a ValueError in some releases, none in others
        raise ModelError("GO014", label, f"does not fit into one message of protobuf: {error}") from None
    return wire.splice(raw, marks)


def save(graph: gs.Graph, ledger: Ledger, label: str, target: Path, *, external: bool, force: bool) -> None:
    """Write a model; see ``Model.save``. ``external``: weights go to a data file whatever their size."""
    inputs = ledger.files.identities()
    pieces, size = ([], wire.MESSAGE_LIMIT + 1) if external else message(graph, ledger, label)
    name = None
    if size > wire.MESSAGE_LIMIT:
        name, pieces = _save_weights(graph, ledger, label, target, inputs, force)
    before = _data_files(target) if force else set[str]()
    files.put(files.write_temporary(target.parent, target.name, _chunks(pieces)), target)
    _remove_data(target, before - {name}, inputs)


def _save_weights(
    graph: gs.Graph, ledger: Ledger, label: str, target: Path, inputs: set[tuple[int, int]], force: bool
) -> tuple[str | None, Pieces]:
    """Write the data file: its name, None if there is nothing for it, and the message that refers to it."""
    if not target.name.isprintable():
        raise UsageError("GO908", str(target), "its name cannot stand in a model, and the data file bears it", "name it otherwise")
    # The place of the hash, until it is known. Random, so that it cannot be in the model already.
    blank = os.urandom(_HASH_DIGITS // 2).hex()
    outside = Outside(_data_name(target, blank), SMALLEST_OUTSIDE)
    pieces, size = message(graph, ledger, label, outside)
    if size > wire.MESSAGE_LIMIT:
        raise ModelError("GO014", label, "exceeds protobuf's 2 GiB even without its initializers")
    if not outside.payloads:
        return None, pieces
    name, digest = _put_data(outside, target, inputs, force)
    old, new = outside.location.encode(), _data_name(target, digest).encode()
    return name, [p.replace(old, new) if isinstance(p, bytes) else p for p in pieces]


def save_for_runtime(
    graph: gs.Graph, ledger: Ledger, label: str, folder: Path, name: str, known: dict[Span, tuple[str, int]] | None
) -> Path:
    """Write a model with all large initializers outside of it; see ``Model.save_for_runtime``."""
    path = folder / name
    outside = Outside(f"{name}.data", _SMALLEST_FOR_RUNTIME, known)
    pieces, size = message(graph, ledger, label, outside)
    if size > wire.MESSAGE_LIMIT:
        raise ModelError("GO014", label, "exceeds protobuf's 2 GiB even without its initializers")
    for part, chunks in ((path.with_name(outside.location), outside.chunks()), (path, _chunks(pieces))):
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
    return path


def _chunks(pieces: Pieces) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece.chunks()


def _data_name(target: Path, digest: str) -> str:
    return f"{target.name}.{digest}.data"


def _put_data(outside: Outside, target: Path, inputs: set[tuple[int, int]], force: bool) -> tuple[str, str]:
    """Write the data file under the name that its content gives it: the name, and the hash in it."""
    hashed = hashlib.sha256()

    def chunks() -> Iterator[bytes | memoryview]:
        for chunk in outside.chunks():
            hashed.update(chunk)
            yield chunk

    temporary = files.write_temporary(target.parent, target.name, chunks())
    digest = hashed.hexdigest()[:_HASH_DIGITS]
    path = target.with_name(_data_name(target, digest))
    try:
        if files.identity_of(path) in inputs:
            # The input reads a file of this name. If it holds the same bytes, it can stay as it is.
            if path.is_symlink() or _digest(path) != hashed.hexdigest():
                files.refuse_inputs(path, inputs)
            temporary.unlink()
            return path.name, digest
        if path.is_dir():
            raise UsageError("GO908", str(path), "is a folder, and the weights have to go there", "choose another output path")
        # Left over by a save that was interrupted, it holds the same; anything else is not ours.
        if os.path.lexists(path) and not force and (path.is_symlink() or not path.is_file() or _digest(path) != hashed.hexdigest()):
            raise UsageError(
                "GO907", str(path), "the output's data file exists", "choose another path, or overwrite it with --force"
            )
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    files.put(temporary, path)
    return path.name, digest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _data_files(target: Path) -> set[str]:
    """The data files of our naming that the model at ``target`` reads, if it is one."""
    ours = re.compile(re.escape(target.name) + rf"\.[0-9a-f]{{{_HASH_DIGITS}}}\.data")
    if not target.is_file():
        return set()
    try:
        proto = open_source(target).proto
    except GraphoptError:
        return set()
    tensors = _tensors(proto.graph)
    named = (entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location")
    return {name for name in named if ours.fullmatch(name)}


def _tensors(graph: onnx.GraphProto) -> Iterable[onnx.TensorProto]:
    stack = [graph]
    while stack:
        found = stack.pop()
        yield from found.initializer
        stack.extend(a.g for node in found.node for a in node.attribute if a.HasField("g"))


def _remove_data(target: Path, names: set[str], inputs: set[tuple[int, int]]) -> None:
    for name in names:
        path = target.with_name(name)
        if path.is_symlink() or not path.is_file() or files.identity_of(path) in inputs:
            continue
        path.unlink(missing_ok=True)
        files.flush_folder(target.parent)
