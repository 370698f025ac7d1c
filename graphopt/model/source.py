"""A model file -> ModelProto, weights left out.

A file is taken apart by ``wire.cut`` first: protobuf parses what remains, some kilobytes for most models, and each large payload
becomes a ``Span`` of the open file. What that scan finds unusual is left to protobuf as a whole, so no file means anything else
here than it does to protobuf.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from graphopt.errors import ModelError
from graphopt.model import wire
from graphopt.model.storage import DataFile, Folder, Memory, Span, open_model

Source = str | os.PathLike[str] | bytes | onnx.ModelProto

DEEPEST = 32
"""Graphs within one another (If, Loop, Scan): protobuf reads at most 100 levels of messages, and each graph takes three."""

_NOT_A_MODEL = "graphopt reads ONNX models (.onnx)"


@dataclass(frozen=True, slots=True)
class Opened:
    """A model as it was found.

    Attributes:
        proto: the message, with marks in the place of large payloads.
        marks: these payloads.
        path: the file it came from, None if from memory; ``file`` the same, open.
        label: the model's name for messages.
    """

    proto: onnx.ModelProto
    label: str
    path: Path | None = None
    file: DataFile | Memory | None = None
    marks: wire.Marks[Span] = field(default_factory=wire.Marks[Span])

    @property
    def folder(self) -> Folder:
        """Where external data may lie."""
        return Folder(self.path.parent if self.path is not None else None)


def open_source(source: Source) -> Opened:
    """Read a model's message. Raises ModelError GO001 (no such file), GO002 (no model), GO014 (too large), GO016 (too deep)."""
    if isinstance(source, onnx.ModelProto):
        return Opened(source, "<memory>")
    if isinstance(source, bytes):
        return _read(Memory(source), "<memory>", None, "<memory>")
    path = Path(source)
    return _read(open_model(path), str(path), path, path.name)


def open_whole(opened: Opened) -> Opened:
    """The same model once more, nothing cut out: for one whose payloads are where nobody looks for them."""
    if opened.file is None:
        return opened
    proto = _parse(opened.file.read(0, opened.file.size), opened.label)
    return Opened(proto, opened.label, opened.path, opened.file)


def _read(file: DataFile | Memory, where: str, path: Path | None, label: str) -> Opened:
    if file.size == 0:
        raise ModelError("GO002", where, "the file is empty", _NOT_A_MODEL)
    if file.size > wire.MESSAGE_LIMIT:
        raise ModelError("GO014", where, "is larger than protobuf's 2 GiB", "store the weights as external data")
    cuts: wire.Marks[wire.Cut] = wire.Marks()
    try:
        rest = wire.cut(file, cuts) if file.size >= wire.LARGE else file.read(0, file.size)
    except wire.Malformed:
        raise ModelError("GO002", where, "not an ONNX model, or a damaged one", _NOT_A_MODEL) from None
    except wire.Unusual:
        cuts = wire.Marks()
        rest = file.read(0, file.size)
    spans = [Span(file, c.offset, c.length, c.field) for c in cuts.items]
    return Opened(_parse(rest, where), label, path, file, wire.Marks(cuts.key, spans))


def _parse(raw: bytes, where: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(raw)
    except (DecodeError, RecursionError, ValueError):
        if wire.depth(raw) > DEEPEST:
            raise too_deep(where) from None
        raise ModelError("GO002", where, "not an ONNX model, or a damaged one", _NOT_A_MODEL) from None
    return proto


def too_deep(where: str) -> ModelError:
    return ModelError("GO016", where, f"has more than {DEEPEST} graphs within one another", "flatten its If, Loop and Scan bodies")
