"""Taking a message apart by its lengths, and putting it together again, never changes what it means."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import ModelError
from graphopt.model import Model, wire
from tests.differential.decorate import decorated
from tests.differential.protos import differences
from tests.nets import Net

SMALL = 32


@pytest.fixture(autouse=True)
def small_payloads_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGE", SMALL)


def network() -> onnx.ModelProto:
    """Large payloads wherever they can be cut out, and where they cannot."""
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 4)
    net.nodes.append(helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones((1, 4, 6, 6), np.float32), "k")))
    net.const(True, "c")
    y = net.op("Add", x, "k", out="y")
    bodies = {name: _body(name) for name in ("then_branch", "else_branch")}
    net.nodes.append(helper.make_node("If", ["c"], ["z"], **bodies))
    model = net.model(y)
    for name, elem_type in (("floats", TensorProto.FLOAT), ("doubles", TensorProto.DOUBLE), ("ints", TensorProto.INT64)):
        model.graph.initializer.append(helper.make_tensor(name, elem_type, [30], list(range(30))))
    model.graph.initializer.append(helper.make_tensor("complex", TensorProto.COMPLEX64, [20], [1j] * 20))
    model.graph.initializer.append(helper.make_tensor("four", TensorProto.INT4, [99], [3] * 99, raw=False))
    model.graph.initializer.append(
        numpy_helper.from_array(np.arange(99).astype(onnx.helper.tensor_dtype_to_np_dtype(TensorProto.UINT4)), "raw four")
    )
    model.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [40], [b"a"] * 40))
    return model


def _body(name: str) -> onnx.GraphProto:
    weight = numpy_helper.from_array(np.full((1, 4, 6, 6), 2, np.float32), f"{name} weight")
    node = helper.make_node("Mul", ["y", weight.name], [f"{name} out"])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name} out", 1, [1, 4, 6, 6])], [weight])


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "plain": network,
    "with everything": lambda: decorated(network(), 1),
    "old storage": lambda: _typed(network()),
}


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    for index, tensor in enumerate(list(model.graph.initializer)):
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            fresh = helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values.reshape(-1).tolist())
            model.graph.initializer[index].CopyFrom(fresh)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_the_same_model_as_its_proto(tmp_path: Path, name: str) -> None:
    proto = MODELS[name]()
    path, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    path.write_bytes(proto.SerializeToString())
    for source in (path, path.read_bytes(), proto):
        model = Model.load(source)
        assert differences(proto, model.proto()) == []
        assert differences(proto, model.copy().proto()) == [], "a copy"
        model.save(out, force=True)
        raw = out.read_bytes()
        assert raw == model.proto().SerializeToString(deterministic=True)
        assert model.size() == len(raw)
    assert len(wire_cuts(path.read_bytes())) >= 6, "nothing was cut out: the test tests nothing"


def wire_cuts(raw: bytes) -> list[wire.Cut]:
    from graphopt.model.storage import Memory

    marks: wire.Marks[wire.Cut] = wire.Marks()
    wire.cut(Memory(raw), marks)
    return marks.items


def test_values_are_those_of_the_proto(tmp_path: Path) -> None:
    proto = network()
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    constants = Model.load(path).constants()
    for tensor in proto.graph.initializer:
        value = constants[tensor.name]._values.array()
        expected = numpy_helper.to_array(tensor)
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


def field(number: int, content: bytes) -> bytes:
    return wire.varint(number << 3 | 2) + wire.varint(len(content)) + content


def _inside(tensor: bytes) -> bytes:
    """A model whose only initializer has this encoding, read by nobody."""
    rest = network()
    del rest.graph.initializer[:]
    del rest.graph.node[1:]
    rest.graph.node[0].CopyFrom(helper.make_node("Relu", ["x"], ["y"]))
    graph = rest.graph.SerializeToString() + field(5, tensor)
    rest.ClearField("graph")
    return rest.SerializeToString() + field(7, graph)


HEAD = TensorProto(name="w", data_type=1, dims=[16]).SerializeToString()
RAW = np.arange(16, dtype=np.float32).tobytes()
UNPACKED = b"".join(wire.varint(4 << 3 | 5) + RAW[i : i + 4] for i in range(0, 64, 4))

ENCODINGS = {
    "as usual": HEAD + field(9, RAW),
    "fields in another order": field(9, RAW) + HEAD,
    "raw_data twice, the last one counts": HEAD + field(9, b"x" * 64) + field(9, RAW),
    "floats in two packs": HEAD + field(4, RAW[:32]) + field(4, RAW[32:]),
    "floats not packed": HEAD + UNPACKED,
    "a pack and single floats": HEAD + field(4, RAW[:32]) + UNPACKED[40:],
    "a group, unknown": HEAD + field(9, RAW) + wire.varint(99 << 3 | 3) + wire.varint(99 << 3 | 4),
    "an unknown field": HEAD + field(9, RAW) + field(999, b"?" * 99),
    "lengths longer than need be": HEAD + b"\x4a\xc0\x80\x80\x00" + RAW,
    "a known field of another wire type": HEAD + field(9, RAW) + wire.varint(9 << 3) + b"\x07",
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_odd_encoding_means_what_protobuf_says(name: str) -> None:
    raw = _inside(ENCODINGS[name])
    expected = onnx.ModelProto.FromString(raw)
    model = Model.load(raw)
    assert model.proto().SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    np.testing.assert_array_equal(model.constants()["w"]._values.array(), np.arange(16, dtype=np.float32))


def test_a_graph_in_two_parts_is_merged_as_protobuf_does() -> None:
    proto = network()
    nodes, rest = onnx.GraphProto(), onnx.GraphProto()
    nodes.node.extend(proto.graph.node)
    rest.CopyFrom(proto.graph)
    del rest.node[:]
    head = onnx.ModelProto()
    head.CopyFrom(proto)
    head.ClearField("graph")
    raw = head.SerializeToString() + field(7, nodes.SerializeToString()) + field(7, rest.SerializeToString())
    assert differences(proto, Model.load(raw).proto()) == []


def test_a_payload_where_no_tensor_belongs_survives() -> None:
    """An attribute that says INT and holds a tensor, too: nobody looks at that, and it may not be lost."""
    proto = network()
    attribute = proto.graph.node[0].attribute.add(name="odd", type=onnx.AttributeProto.INT, i=1)
    attribute.t.CopyFrom(numpy_helper.from_array(np.arange(99), "odd"))
    assert differences(proto, Model.load(proto.SerializeToString()).proto()) == []


@pytest.mark.parametrize("name", MODELS)
def test_every_truncation_is_refused_or_loses_nothing_but_its_end(name: str) -> None:
    raw = MODELS[name]().SerializeToString()
    for length in range(0, len(raw), 31):
        part = raw[:length]
        try:
            expected = onnx.ModelProto.FromString(part)
        except Exception:  # noqa: BLE001
            expected = None
        try:
            model = Model.load(part)
        except ModelError:
            continue
        assert expected is not None
        assert differences(expected, model.proto()) == []


def test_flipped_bits_give_an_error_or_what_protobuf_reads() -> None:
    raw = bytearray(network().SerializeToString())
    draw = np.random.default_rng(0)
    for place in draw.integers(0, len(raw), 200):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << int(draw.integers(8))
        try:
            model = Model.load(bytes(damaged))
        except ModelError:
            continue
        assert differences(onnx.ModelProto.FromString(bytes(damaged)), model.proto()) == []


def test_marks_in_a_model_are_only_bytes() -> None:
    """What looks like a mark of an earlier load is nothing special in another."""
    marks: wire.Marks[wire.Cut] = wire.Marks()
    mark = marks.add(wire.Cut(0, 24, 9))
    proto = network()
    proto.graph.initializer.append(TensorProto(name="mark", data_type=TensorProto.UINT8, dims=[len(mark)], raw_data=mark))
    assert differences(proto, Model.load(proto.SerializeToString()).proto()) == []


def test_a_scan_takes_time_linear_in_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGE", 1 << 16)
    from graphopt.model.storage import Memory

    def scan(count: int) -> float:
        nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=f"relu{i}") for i in range(count)]
        raw = helper.make_model(helper.make_graph(nodes, "g", [], [])).SerializeToString()
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            wire.cut(Memory(raw), wire.Marks())
            best = min(best, time.process_time() - start)
        return best

    few, many = scan(4000), scan(20000)
    assert many < 0.2, "seconds; some 0.03 here"
    assert many < 15 * few
