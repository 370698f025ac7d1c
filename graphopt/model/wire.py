"""The protobuf wire format, as far as large payloads need it.

A model file is mostly weights: a few large byte strings in a message that is otherwise small. ``cut`` walks the message by its
lengths alone and takes the large strings out, so that protobuf parses only the rest and the weights stay where they are.
``splice`` is the way back: given the serialised rest, it says which bytes and which payloads follow one another, with every
enclosing length computed anew. Neither ever holds a payload.

A *mark* stands in the place of a payload: 16 random bytes that no file can know, and a number.

``cut`` descends by the schema into ModelProto.graph, nodes, attributes and tensors, and only where a field is larger than
``LARGE``; a field's meaning is left to protobuf. What must not be there (a length beyond the end) protobuf would refuse too:
``Malformed``. What protobuf merges in its own way (a single field given twice, groups) is ``Unusual``: the caller then lets
protobuf parse everything.

Source: https://protobuf.dev/programming-guides/encoding/ and onnx.proto (field numbers).
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

LARGE = 1 << 16
"""Payloads of at least so many bytes stay outside of the message."""

MESSAGE_LIMIT = 2**31 - 1
"""Protobuf reads and writes no message beyond this many bytes."""

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_LONGEST_TAG, _LONGEST_VARINT = 5, 10
_WINDOW = 1 << 18
_DEEPEST = 100  # messages within one another; protobuf follows no further
_MARGIN = _LONGEST_TAG + _LONGEST_VARINT

_CHILDREN: dict[str, dict[int, tuple[str, bool]]] = {
    "model": {7: ("graph", True)},
    "graph": {1: ("node", False), 5: ("tensor", False)},
    "node": {5: ("attribute", False)},
    "attribute": {5: ("tensor", True), 6: ("graph", True)},
    "tensor": {},
}
"""Message -> field number -> the message it holds, and whether there may be one only."""

RAW_DATA = 9
_PAYLOADS = {4: _I32, RAW_DATA: None, 10: _I64}
"""Fields of TensorProto that hold little-endian numbers as they are in memory: float_data, raw_data, double_data; and the
wire type of one element where it is not packed."""


class Malformed(Exception):
    """No protobuf message."""


class Unusual(Exception):
    """A message that protobuf may understand, but not one to take apart by lengths."""


class Bytes(Protocol):
    """Where a message lies: a file or memory."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a payload lies in the message, and the number of its field in TensorProto."""

    offset: int
    length: int
    field: int


P = TypeVar("P")


@dataclass(slots=True)
class Marks(Generic[P]):
    """Payloads and the marks that stand for them."""

    # The fourth byte makes each mark a list of ordinary floats (0.5 to 1), which no conversion changes.
    key: bytes = field(default_factory=lambda: b"".join(os.urandom(3) + b"\x3f" for _ in range(4)))
    items: list[P] = field(default_factory=list[P])
    taken: set[int] = field(default_factory=set[int])

    LENGTH = 24

    def add(self, item: P) -> bytes:
        """The mark of a new payload."""
        number = len(self.items)
        self.items.append(item)
        low, high = number & 0xFFFFFF, number >> 24
        return self.key + low.to_bytes(3, "little") + b"\x3f" + high.to_bytes(3, "little") + b"\x3f"

    def take(self, mark: bytes) -> P | None:
        """The payload that a mark stands for; None if it is no mark."""
        if len(mark) != self.LENGTH or not mark.startswith(self.key):
            return None
        number = self.number(mark)
        self.taken.add(number)
        return self.items[number]

    def number(self, mark: bytes) -> int:
        return int.from_bytes(mark[16:19], "little") | int.from_bytes(mark[20:23], "little") << 24

    def all_taken(self) -> bool:
        """Whether every payload was asked for."""
        return len(self.taken) == len(self.items)


def varint(number: int) -> bytes:
    """A number in base 128, least significant group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Window:
    """A part of the message in memory, moved along as the scan goes."""

    def __init__(self, source: Bytes) -> None:
        self.source = source
        self.base = 0
        self.buffer = b""

    def next(self, pos: int, end: int) -> tuple[int, int, int, int]:
        """The field at ``pos``: number, wire type, and where its content begins and stops."""
        at = pos - self.base
        if at < 0 or at + _MARGIN > len(self.buffer):
            self.base, at = pos, 0
            self.buffer = self.source.read(pos, min(_WINDOW, self.source.size - pos))
        tag, start = self._varint(at, _LONGEST_TAG)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise Malformed
        if kind == _LEN:
            length, start = self._varint(start, _LONGEST_VARINT)
            stop = start + length
        elif kind == _VARINT:
            _, stop = self._varint(start, _LONGEST_VARINT)
        elif kind in (_I64, _I32):
            stop = start + (8 if kind == _I64 else 4)
        else:
            raise Unusual
        if stop + self.base > end:
            raise Malformed
        return number, kind, start + self.base, stop + self.base

    def _varint(self, at: int, longest: int) -> tuple[int, int]:
        buffer, size = self.buffer, len(self.buffer)
        if at < size and buffer[at] < 0x80:
            return buffer[at], at + 1
        number = shift = 0
        for index in range(at, at + longest):
            if index >= size:
                raise Malformed
            byte = buffer[index]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number, index + 1
            shift += 7
        raise Unusual


def cut(source: Bytes, marks: Marks[Cut]) -> bytes:
    """The serialised ModelProto in ``source`` with marks in the place of its large payloads."""
    return _trim(_Window(source), 0, source.size, "model", marks, 0)


def _trim(window: _Window, start: int, end: int, kind: str, marks: Marks[Cut], level: int) -> bytes:
    if level > _DEEPEST:
        raise Unusual
    children, tensor = _CHILDREN[kind], kind == "tensor"
    parts: list[bytes] = []
    once: set[int] = set()
    pos = kept = start
    while pos < end:
        number, wire, begin, stop = window.next(pos, end)
        child = children.get(number)
        payload = tensor and number in _PAYLOADS
        if payload or (child is not None and child[1] and wire == _LEN):
            if number in once or (payload and wire == _PAYLOADS[number]):
                raise Unusual
            once.add(number)
        if wire == _LEN and stop - begin >= LARGE and (payload or child is not None):
            parts.append(window.source.read(kept, pos - kept))
            if child is not None:
                inner = _trim(window, begin, stop, child[0], marks, level + 1)
            else:
                inner = marks.add(Cut(begin, stop - begin, number))
                number = RAW_DATA
            parts += [varint(number << 3 | _LEN), varint(len(inner)), inner]
            kept = stop
        pos = stop
    if tensor and len(once) > 1:
        raise Unusual
    parts.append(window.source.read(kept, end - kept))
    return b"".join(parts)


class Payload(Protocol):
    """What goes into the place of a mark."""

    @property
    def length(self) -> int: ...

    def chunks(self) -> Iterator[bytes | memoryview]: ...


def splice(raw: bytes, marks: Marks[Payload]) -> tuple[list[bytes | Payload], int]:
    """``raw`` as pieces, with payloads in the place of their marks; and the bytes of all of them together."""
    places: list[int] = []
    place = raw.find(marks.key)
    while place >= 0:
        places.append(place)
        place = raw.find(marks.key, place + marks.LENGTH)
    pieces: list[bytes | Payload] = []
    total = _Splice(raw, marks, places).message(0, len(raw), pieces)
    return pieces, total


class _Memory:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.size = len(raw)

    def read(self, offset: int, length: int) -> bytes:
        return self.raw[offset : offset + length]


class _Splice:
    """Only fields that hold a mark are looked into: each such field is a message, or the payload itself."""

    def __init__(self, raw: bytes, marks: Marks[Payload], places: list[int]) -> None:
        self.raw = raw
        self.marks = marks
        self.places = places
        self.window = _Window(_Memory(raw))

    def message(self, start: int, end: int, pieces: list[bytes | Payload]) -> int:
        total, kept, pos = 0, start, start
        index = bisect_left(self.places, start)
        while index < len(self.places) and self.places[index] < end:
            place = self.places[index]
            number, _, begin, stop = self.window.next(pos, end)
            if stop <= place:
                pos = stop
                continue
            pieces.append(self.raw[kept:pos])
            inner: list[bytes | Payload] = []
            length = self._field(begin, stop, inner)
            head = varint(number << 3 | _LEN) + varint(length)
            pieces.append(head)
            pieces += inner
            total += pos - kept + len(head) + length
            pos = kept = stop
            index = bisect_left(self.places, stop)
        pieces.append(self.raw[kept:end])
        return total + end - kept

    def _field(self, begin: int, stop: int, pieces: list[bytes | Payload]) -> int:
        mark = self.raw[begin:stop] if stop - begin == self.marks.LENGTH else b""
        payload = self.marks.take(mark)
        if payload is None:
            return self.message(begin, stop, pieces)
        pieces.append(payload)
        return payload.length


def depth(raw: bytes) -> int:
    """How many graphs lie within one another, as far as the message can be followed."""
    window = _Window(_Memory(raw))
    deepest = 0
    stack = [(0, len(raw), "model", 0)]
    while stack:
        pos, end, kind, level = stack.pop()
        deepest = max(deepest, level)
        try:
            while pos < end:
                number, wire, begin, stop = window.next(pos, end)
                child = _CHILDREN[kind].get(number)
                if child is not None and wire == _LEN and child[0] != "tensor":
                    stack.append((begin, stop, child[0], level + (child[0] == "graph")))
                pos = stop
        except (Malformed, Unusual):
            continue
    return deepest
