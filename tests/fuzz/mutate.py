"""Mutations that know what a model is.

Bytes alone rarely pass the parser with anything new. So most mutations edit the message: a field is dropped, doubled, moved or
given another value, at any depth; a name becomes another name of the model; or one of ``tests.damage``'s kinds is applied.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tests.damage import kinds as _kinds  # registers the kinds
from tests.damage.draft import KINDS, Draft, Skip

del _kinds

_INTEGERS = (0, 1, -1, 2, 3, 7, 16, 127, 128, 255, 2**31 - 1, -(2**31), 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e-45, 3e38)
_SLOW_ROOMS = {"bombs", "depth", "external", "file"}
"""Their models are large on purpose, or no messages."""

_KINDS = [
    kind for kind in KINDS.values() if kind.room not in _SLOW_ROOMS and "million" not in kind.name and "mega" not in kind.name
]

Slot = tuple[Message, FieldDescriptor]


def mutate(raw: bytes, size: int, rng: random.Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    """Another input made of ``raw``, of at most ``size`` bytes; ``plain`` mutates bytes."""
    if rng.random() < 0.25:
        return plain(raw, size)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(raw)
    except (DecodeError, ValueError, RecursionError):
        return plain(raw, size)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if rng.random() < 0.2:
            proto = _damaged(proto, rng)
        else:
            _edit(proto, rng)
    try:
        made = proto.SerializeToString()
    except ValueError:  # text that is no UTF-8
        return plain(raw, size)
    return made if 0 < len(made) <= size else plain(raw, size)


def _damaged(proto: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    draft = Draft(proto, rng)
    # A kind may take for granted what the bases have.
    with suppress(Skip, IndexError, StopIteration, ValueError, TypeError, KeyError):
        rng.choice(_KINDS).apply(draft)
    return draft.proto


def _edit(proto: onnx.ModelProto, rng: random.Random) -> None:
    slots = list(_slots(proto))
    if not slots:
        return
    message, field = rng.choice(slots)
    value = getattr(message, field.name)
    if hasattr(value, "append") or hasattr(value, "add"):
        _edit_list(value, field, rng, slots)
    elif field.type == FieldDescriptor.TYPE_MESSAGE or rng.random() < 0.2:
        message.ClearField(field.name)
    else:
        _assign(message, field, _value(field, value, rng, slots))


def _slots(message: Message, depth: int = 0) -> Iterator[Slot]:
    """Every field that is set, at every depth."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == FieldDescriptor.TYPE_MESSAGE and depth < 12:
            for part in [value] if isinstance(value, Message) else value:
                yield from _slots(part, depth + 1)


def _edit_list(values: Any, field: FieldDescriptor, rng: random.Random, slots: list[Slot]) -> None:
    if not len(values):
        return
    index = rng.randrange(len(values))
    what = rng.choice(("drop", "double", "swap", "change"))
    if what == "drop":
        del values[index]
    elif what == "double":
        values.append(values[index])
    elif what == "swap":
        other = rng.randrange(len(values))
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            first = type(values[index])()
            first.CopyFrom(values[index])
            values[index].CopyFrom(values[other])
            values[other].CopyFrom(first)
        else:
            values[index], values[other] = values[other], values[index]
    elif field.type != FieldDescriptor.TYPE_MESSAGE:
        try:
            values[index] = _value(field, values[index], rng, slots)
        except ValueError:
            del values[index]


def _assign(message: Message, field: FieldDescriptor, value: object) -> None:
    try:
        setattr(message, field.name, value)
    except ValueError:  # out of the field's range
        message.ClearField(field.name)


def _value(field: FieldDescriptor, old: Any, rng: random.Random, slots: list[Slot]) -> Any:
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice(_FLOATS)
    if field.type == FieldDescriptor.TYPE_STRING and isinstance(old, str):
        texts = [v for m, f in slots if f.type == FieldDescriptor.TYPE_STRING and isinstance(v := getattr(m, f.name), str)]
        return rng.choice([*texts, "", "x", "Relu", "Conv", old + "_"])
    if isinstance(old, bytes):  # also text that is no UTF-8
        return rng.choice([b"", old[:-1], old + b"\0", old + old, bytes(len(old)), b"\xff" * len(old)])
    return rng.choice([*_INTEGERS, old + 1, old - 1, rng.randrange(32)])
