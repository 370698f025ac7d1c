"""What the fuzzer does with one input: in by the door, look at everything, out again, in again, equal.

``examine`` raises ``Finding`` for what must not be: an exception that is no ``GraphoptError``, a second reading that is not the
first, a file that is not what ``proto`` gave. ``rewrite`` runs the passes, native parts and all, and belongs into a worker process.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from graphopt.errors import GraphoptError
from graphopt.model import Model
from tests.differential.protos import differences

MOST = 2**24
"""Bytes of a constant that are still read: the door says how large one is before it reads it."""


class Finding(Exception):
    """Something that no input may cause; ``key`` is equal for findings of one cause."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


def examine(raw: bytes, place: Path) -> str:
    """The code of the clean error that the door answered with, "" for an accepted input. Raises Finding."""
    try:
        return _examine(raw, place)
    except Finding:
        raise
    except Exception as error:
        raise Finding(_place(error), f"{type(error).__name__}: {str(error)[:300]}") from error


def _examine(raw: bytes, place: Path) -> str:
    try:
        model = Model.load(raw)
    except GraphoptError as error:
        str(error)
        return error.diagnostic.code
    code = _walk(model, model.graph)
    try:
        first = model.proto()
        second = Model.load(first).proto()
    except GraphoptError as error:
        return error.diagnostic.code
    _equal(first, second, "the second reading")
    _equal(onnx.ModelProto.FromString(raw), first, "the first reading")
    place.unlink(missing_ok=True)
    model.save(place)
    _equal(first, onnx.ModelProto.FromString(place.read_bytes()), "the file")
    return code


def _equal(a: onnx.ModelProto, b: onnx.ModelProto, what: str) -> None:
    found = differences(a, b)
    if found:
        raise Finding(f"{what}: {found[0].partition(':')[0]}", f"{what} is another model: {'; '.join(found)[:300]}")


def _walk(model: Model, graph: gs.Graph) -> str:
    """Look at every node and read every constant; the code of the last clean error."""
    code = ""
    for node in graph.nodes:
        for tensor in [*node.inputs, *node.outputs]:
            code = _read(model, tensor) or code
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                code = _walk(model, value) or code
            elif isinstance(value, gs.Constant):
                code = _read(model, value) or code
    return code


def _read(model: Model, tensor: gs.Tensor) -> str:
    try:
        if not isinstance(tensor, gs.Constant) or _bytes(tensor) <= MOST:
            model.value(tensor)
    except GraphoptError as error:
        return error.diagnostic.code
    return ""


def _bytes(constant: gs.Constant) -> int:
    values: Any = constant._values
    return int(values.nbytes)


def rewrite(raw: bytes) -> str:
    """Run ``simplify`` and ``fold``; the code of a clean error, "" if they went through. Raises Finding."""
    from graphopt.pipeline import Context
    from graphopt.pipeline.registry import find

    try:
        model = Model.load(raw)
        ctx = Context(model.copy())
        for name in ("simplify", "fold"):
            find(name)().run(model, ctx)
        model.proto()
    except GraphoptError as error:
        return error.diagnostic.code
    except MemoryError:
        return "GO990"  # what the command line makes of it
    except Exception as error:
        raise Finding(_place(error), f"{type(error).__name__}: {str(error)[:300]}") from error
    return ""


def _place(error: Exception) -> str:
    """The type of an exception and the last line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/graphopt/" in f.filename or "/passes/" in f.filename]
    last = (ours or list(frames))[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.name}"
