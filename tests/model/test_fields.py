"""Every field of every message that a ModelProto can hold survives: found by reflection, so that a new field of ONNX is tested too.

``specimens`` gives valid models that hold a message of each type. For each of its fields the model gets a value there, and must
come out the same from loading and writing, through the proto and through a file, with and without payloads cut out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from onnx import AttributeProto, TensorProto, helper

from graphopt.errors import ModelError
from graphopt.model import Model, wire
from tests.differential.protos import differences


def base() -> onnx.ModelProto:
    """A model with one of everything."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "body", [], [helper.make_tensor_value_info("b", 1, ["N"])]
    )
    nodes = [
        helper.make_node("Add", ["x", "w"], ["a"], name="add"),
        helper.make_node("Custom", ["a"], ["y"], domain="org.example", name="custom"),
        helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body),
    ]
    nodes[1].attribute.append(AttributeProto(name="tensor", type=AttributeProto.TENSOR, t=tensor("t")))
    x, y, z = (helper.make_tensor_value_info(name, 1, ["N"]) for name in "xyz")
    graph = helper.make_graph(nodes, "g", [x, helper.make_tensor_value_info("c", 9, [])], [y, z], [tensor("w")])
    graph.value_info.append(helper.make_tensor_value_info("a", 1, ["N"]))
    for kind in ("sequence_type", "map_type", "optional_type", "sparse_tensor_type", "opaque_type"):
        if kind in onnx.TypeProto.DESCRIPTOR.fields_by_name:
            getattr(graph.value_info.add(name=kind).type, kind).SetInParent()
    graph.sparse_initializer.add(dims=[4], values=tensor("s"), indices=TensorProto(data_type=7, dims=[1], int64_data=[2]))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("org.example", 1)]
    relu = helper.make_node("Relu", ["v"], ["w"])
    function = helper.make_function("org.example", "Other", ["v"], ["w"], [relu], opsets[:1])
    return helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=11)


def tensor(name: str) -> TensorProto:
    return TensorProto(name=name, data_type=1, dims=[1], float_data=[1.5])


def value_of(field: FieldDescriptor) -> Any:
    kind = field.type
    if kind == FieldDescriptor.TYPE_STRING:
        return "text \u00e4"
    if kind == FieldDescriptor.TYPE_BYTES:
        return b"bytes \xff"
    if kind == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values[-1].number
    if kind in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return 0.75
    return 7


def filled(descriptor: Descriptor, depth: int = 2) -> Message:
    """A message with every field set, messages in it to some depth; of a oneof the first member."""
    message = getattr(onnx, descriptor.name, None) or _nested(descriptor)
    made = message()
    for field in descriptor.fields:
        if field.containing_oneof is None or field.containing_oneof.fields[0] is field:
            put(made, field, depth)
    return made


def _nested(descriptor: Descriptor) -> Any:
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)


def put(message: Message, field: FieldDescriptor, depth: int = 1) -> None:
    if field.message_type is not None:
        if depth == 0:
            return
        value = filled(field.message_type, depth - 1)
        if repeated(field):
            getattr(message, field.name).append(value)
        else:
            getattr(message, field.name).CopyFrom(value)
    elif repeated(field):
        getattr(message, field.name).extend([value_of(field)] * 2)
    else:
        setattr(message, field.name, value_of(field))


def repeated(field: FieldDescriptor) -> bool:
    flag = getattr(field, "is_repeated", None)
    return bool(flag) if flag is not None else field.label == 3


def messages(message: Message, path: str = "model") -> Iterator[tuple[str, Message]]:
    """All messages in a message, with their paths."""
    yield path, message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for index, part in enumerate([value] if isinstance(value, Message) else value):
                yield from messages(part, f"{path}.{field.name}[{index}]")


REFUSED = {
    "OperatorSetIdProto.domain": "GO006: the default operator set has no version any more",
    "GraphProto.node": "GO005: a made-up node reads what nothing produces",
    "GraphProto.initializer": "GO011: a made-up tensor lies about its values",
    "GraphProto.sparse_initializer": "GO011: the same",
    "GraphProto.output": "GO005: a made-up output is produced by nothing",
    "NodeProto.input": "GO005: reads what nothing produces",
    "NodeProto.output": "GO004: two outputs of one name",
    "TensorProto.name": "GO005: what reads it finds it no longer",
    "TensorProto.dims": "GO011: no longer as many values",
    "TensorProto.data_type": "GO012, GO011: no longer the values' type",
    "TensorProto.segment": "GO011: no runtime reads one",
    "TensorProto.float_data": "GO011: no longer as many values",
    "TensorProto.int32_data": "GO011: values twice",
    "TensorProto.string_data": "GO011: values twice",
    "TensorProto.int64_data": "GO011: values twice",
    "TensorProto.raw_data": "GO011: values twice",
    "TensorProto.double_data": "GO011: values twice",
    "TensorProto.uint64_data": "GO011: values twice",
    "TensorProto.external_data": "GO010: from memory, and values twice",
    "TensorProto.data_location": "GO010: the same",
    "SparseTensorProto.dims": "GO011: the indices no longer fit",
    "SparseTensorProto.values": "GO011: a made-up tensor",
    "SparseTensorProto.indices": "GO011: a made-up tensor",
    "ValueInfoProto.name": "GO005: nothing produces it",
    "AttributeProto.t": "GO011: a made-up tensor",
    "AttributeProto.g": "GO005: a made-up graph",
    "ModelProto.graph": "GO005: a made-up graph",
}
"""What makes the model invalid instead of adding to it, and the code of the error (or it is accepted at some places)."""


def reachable(descriptor: Descriptor, seen: dict[str, Descriptor]) -> dict[str, Descriptor]:
    if descriptor.full_name not in seen:
        seen[descriptor.full_name] = descriptor
        for field in descriptor.fields:
            if field.message_type is not None:
                reachable(field.message_type, seen)
    return seen


TYPES = reachable(onnx.ModelProto.DESCRIPTOR, {})
FIELDS = [(name, field.name) for name, descriptor in sorted(TYPES.items()) for field in descriptor.fields]


@functools.cache
def specimens(name: str) -> list[onnx.ModelProto]:
    """Models that load, each with a message of this type in it."""
    model = base()
    if holds(model, name):
        return [model]
    # Where it occurs: in some field of a message that the model has, or could have.
    found = []
    for path, message in list(messages(model)):
        for field in message.DESCRIPTOR.fields:
            if f"{message.DESCRIPTOR.name}.{field.name}" in REFUSED or field.message_type is None or not fits(message, field):
                continue
            if name not in reachable(field.message_type, {}):
                continue
            other = base()
            put(dict(messages(other))[path], field, 5)
            if holds(other, name) and loads(other):
                found.append(other)
    return found[:3]


def holds(model: onnx.ModelProto, name: str) -> bool:
    return any(m.DESCRIPTOR.full_name == name for _, m in messages(model))


def loads(model: onnx.ModelProto) -> bool:
    try:
        Model.load(model)
    except ModelError:
        return False
    return True


def fits(message: Message, field: FieldDescriptor) -> bool:
    """A second type of a value, or value of an attribute, would take the place of the first."""
    return field.containing_oneof is None or message.WhichOneof(field.containing_oneof.name) in (None, field.name)


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[f"{n.split('.', 1)[1]}.{f}" for n, f in FIELDS])
@pytest.mark.parametrize("large", [1, 1 << 16], ids=["cut", "whole"])
def test_a_field_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, field: str, large: int) -> None:
    monkeypatch.setattr(wire, "LARGE", large)
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of files, none of which matters
    descriptor = TYPES[name]
    tried = refused = 0
    for specimen in specimens(name):
        for path in [p for p, m in messages(specimen) if m.DESCRIPTOR.full_name == name][:6]:
            proto = onnx.ModelProto()
            proto.CopyFrom(specimen)
            message = dict(messages(proto))[path]
            put(message, descriptor.fields_by_name[field])
            tried += 1
            try:
                model = Model.load(proto)
            except ModelError:
                refused += 1
                continue
            assert differences(proto, model.proto()) == [], path
            assert differences(proto, model.copy().proto()) == [], path
            source, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
            source.write_bytes(proto.SerializeToString())
            Model.load(source).save(out, force=True)
            assert differences(proto, onnx.load(out, load_external_data=False)) == [], path
    assert tried > 0, "no place was found: the test tests nothing"
    if refused:
        assert f"{descriptor.name}.{field}" in REFUSED, f"refused {refused} times of {tried}"


def unknown(message: Message) -> None:
    """Fields of a later version of ONNX: one of each wire type."""
    fields = b"\xf8\xff\x03\x05\xf9\xff\x03ABCDEFGH\xfa\xff\x03\x03abc\xfd\xff\x03ABCD\xfb\xff\x03\x08\x01\xfc\xff\x03"
    message.MergeFromString(fields)


PLACES = [path for path, _ in messages(base())]


@pytest.mark.parametrize("path", PLACES)
def test_what_this_version_of_onnx_does_not_know_survives(tmp_path: Path, path: str) -> None:
    proto = base()
    unknown(dict(messages(proto))[path])
    assert differences(proto, Model.load(proto).proto()) == []
    source, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    source.write_bytes(proto.SerializeToString())
    Model.load(source).save(out)
    assert differences(proto, onnx.load(out)) == []


def test_documentation_that_is_no_utf8_survives() -> None:
    raw = base().SerializeToString()
    proto = onnx.ModelProto.FromString(raw)
    for path, message in list(messages(proto)):
        if "doc_string" in message.DESCRIPTOR.fields_by_name and "functions" not in path:
            number = message.DESCRIPTOR.fields_by_name["doc_string"].number
            message.MergeFromString(wire.varint(number << 3 | 2) + b"\x04caf\xe9")
    assert differences(proto, Model.load(proto).proto()) == []
    assert differences(proto, Model.load(proto.SerializeToString()).proto()) == []


def test_a_renamed_tensor_keeps_its_description() -> None:
    proto = base()
    proto.graph.value_info[0].doc_string = "kept"
    proto.graph.value_info[0].type.denotation = "IMAGE"
    proto.graph.input[0].doc_string = "kept too"
    model = Model.load(proto).copy()
    model.graph.nodes[0].outputs[0].name = "renamed"
    model.graph.inputs[0].name = "also renamed"
    values = model.proto().graph
    assert [(v.name, v.doc_string, v.type.denotation) for v in values.value_info][-1] == ("renamed", "kept", "IMAGE")
    assert ("also renamed", "kept too") in [(v.name, v.doc_string) for v in values.input]


def test_a_reshaped_tensor_keeps_what_its_axes_mean() -> None:
    proto = base()
    proto.graph.value_info[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    model = Model.load(proto)
    model.graph.nodes[0].outputs[0].shape = (5,)
    dim = model.proto().graph.value_info[0].type.tensor_type.shape.dim[0]
    assert (dim.dim_value, dim.denotation) == (5, "DATA_BATCH")
