"""Walking through messages, and copying parts of them without losing what this version of ONNX does not know.

A file from a newer version may have fields that the installed onnx has no name for. Protobuf keeps them (and writes them back), so
a message that is put together anew from its parts must take them along too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from graphopt.model.wire import varint

_VARINT, _I64, _LEN, _GROUP, _I32 = 0, 1, 2, 3, 5


def graphs_of(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs of an attribute; most have none, and reading ``g`` would make one."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def nodes_within(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """``nodes``, and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in graphs_of(attribute):
                yield from nodes_within(graph.node)


def copy_except(target: Any, source: Any, left_out: Collection[str]) -> None:
    """Copy every field of ``source`` but those named, and the unknown ones, into an empty message of the same type."""
    for field, value in source.ListFields():
        if field.name in left_out:
            continue
        if isinstance(value, bytes) and field.type == field.TYPE_STRING:  # no UTF-8: protobuf would not take it
            target.MergeFromString(varint(field.number << 3 | _LEN) + varint(len(value)) + value)
        elif isinstance(value, (str, bytes, int, float)):
            setattr(target, field.name, value)
        elif isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        else:
            getattr(target, field.name).extend(value)
    unknown = UnknownFieldSet(source)
    if len(unknown):
        target.MergeFromString(_encoded(unknown))


def _encoded(fields: Any) -> bytes:
    out = bytearray()
    for field in fields:
        kind, data = field.wire_type, field.data
        out += varint(field.field_number << 3 | kind)
        if kind == _VARINT:
            out += varint(data & 0xFFFFFFFFFFFFFFFF)
        elif kind in (_I64, _I32):
            out += int(data).to_bytes(8 if kind == _I64 else 4, "little")
        elif kind == _LEN:
            out += varint(len(data)) + data
        elif kind == _GROUP:
            out += _encoded(data) + varint(field.field_number << 3 | 4)
    return bytes(out)
