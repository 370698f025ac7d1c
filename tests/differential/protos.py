"""Are two protos the same message? Exactly, but for presence bits that say nothing.

ONNX is proto2: an optional scalar that was set to its default value (``doc_string: ""``) and one that was never set are different
bytes and the same message to every reader. ``normalized`` clears just those. Not cleared, because there presence means something:
members of a oneof (a dimension of 0 is not an unknown dimension) and sub-messages (an empty shape is not an unknown one).
Comparison is by deterministic bytes, since NaN is not equal to itself; fields that the format does not know are compared by value,
since a number can be encoded in more bytes than it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet


def normalized(message: Message) -> Message:
    """A copy without presence bits of default-valued scalar fields, at every depth."""
    copy = type(message)()
    copy.CopyFrom(message)
    _clear_defaults(copy)
    return copy


def same(a: Message, b: Message) -> bool:
    return normalized(a).SerializeToString(deterministic=True) == normalized(b).SerializeToString(deterministic=True)


def differences(a: Message, b: Message, limit: int = 5) -> list[str]:
    """Where two messages differ, as ``path: this != that``; empty if they are the same."""
    if same(a, b):
        return []
    found: list[str] = []
    for line in _walk(normalized(a), normalized(b), ""):
        found.append(line)
        if len(found) == limit:
            break
    return found


def _clear_defaults(message: Message) -> None:
    for field, value in message.ListFields():
        if field.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP):
            for part in [value] if isinstance(value, Message) else value:
                _clear_defaults(part)
        elif _single(value) and field.containing_oneof is None and _bits(value) == _bits(field.default_value):
            message.ClearField(field.name)


def _single(value: Any) -> bool:
    """Not repeated. By type: the descriptor says it under different names in different releases of protobuf."""
    return isinstance(value, (str, bytes, int, float, Message))


def _bits(value: Any) -> Any:
    """-0.0 is not the default 0.0."""
    return value.hex() if isinstance(value, float) else value


def _walk(a: Message, b: Message, path: str) -> Iterator[str]:
    if _unknown(UnknownFieldSet(a)) != _unknown(UnknownFieldSet(b)):
        yield f"{path or 'model'}: unknown fields differ"
    left, right = dict(_named(a)), dict(_named(b))
    for name in [*left, *(n for n in right if n not in left)]:
        where = f"{path}.{name}" if path else name
        if name not in left or name not in right:
            yield f"{where}: only {'before' if name in left else 'after'}"
        else:
            yield from _field(left[name], right[name], where)


def _unknown(fields: Any) -> list[tuple[int, int, Any]]:
    """Fields that the format does not know; a group (wire type 3) holds others."""
    return [(f.field_number, f.wire_type, _unknown(f.data) if f.wire_type == 3 else f.data) for f in fields]


def _named(message: Message) -> Iterator[tuple[str, Any]]:
    for field, value in message.ListFields():
        yield field.name, value if _single(value) else list(value)


def _field(a: Any, b: Any, where: str) -> Iterator[str]:
    if isinstance(a, list):
        if len(a) != len(b):
            yield f"{where}: {len(a)} entries != {len(b)}"
        for index, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from _field(x, y, f"{where}[{index}]")
    elif isinstance(a, Message):
        yield from _walk(a, b, where)
    elif _bits(a) != _bits(b):
        yield f"{where}: {_short(a)} != {_short(b)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
