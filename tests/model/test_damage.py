"""Damaged and hostile files: each is refused with its own code, and nothing outside the model's folder is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from graphopt.errors import ModelError, UsageError
from graphopt.model import Model
from tests.nets import Net

Damage = Callable[[onnx.ModelProto], object]


def small() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Relu", net.conv(net.input(1, 3, 8, 8), 4)))


def cycle(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[0] = m.graph.node[1].output[0]


def produced_twice(m: onnx.ModelProto) -> None:
    m.graph.node[1].output[0] = m.graph.node[0].output[0]


def two_attributes(m: onnx.ModelProto) -> None:
    m.graph.node[0].attribute.append(m.graph.node[0].attribute[0])


def rename_input(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[1] = "nowhere"


def rename_output(m: onnx.ModelProto) -> None:
    m.graph.output[0].name = "nowhere"


def negative_dimension(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].dims[0] = -4


def unknown_type(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].data_type = 99


DAMAGED: dict[str, tuple[Damage, str]] = {
    "a cycle": (cycle, "GO003"),
    "a name produced twice": (produced_twice, "GO004"),
    "two initializers of one name": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "GO004"),
    "a dangling input": (rename_input, "GO005"),
    "a dangling output": (rename_output, "GO005"),
    "no opset": (lambda m: m.ClearField("opset_import"), "GO006"),
    "two attributes of one name": (two_attributes, "GO007"),
    "a negative dimension": (negative_dimension, "GO011"),
    "an unknown element type": (unknown_type, "GO012"),
    "an opset, but not the default one's": (lambda m: setattr(m.opset_import[0], "domain", "org.example"), "GO006"),
    "an opset of zero": (lambda m: setattr(m.opset_import[0], "version", 0), "GO006"),
    "an opset beyond 32 bits": (lambda m: setattr(m.opset_import[0], "version", 2**31), "GO006"),
    "an IR version below zero": (lambda m: setattr(m, "ir_version", -3), "GO019"),
    "no graph": (lambda m: m.ClearField("graph"), "GO002"),
}


def given_twice(m: onnx.ModelProto) -> None:
    m.graph.output.append(m.graph.output[0])
    m.graph.output[1].type.tensor_type.ClearField("shape")


def input_given_out(m: onnx.ModelProto) -> None:
    m.graph.output.append(m.graph.input[0])
    m.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 5


def body_that_returns(index: int) -> Damage:
    """A branch may not give out what the graph around it holds, and files do it, with descriptions of their own."""

    def damage(m: onnx.ModelProto) -> None:
        name = [m.graph.input[0].name, m.graph.initializer[0].name, m.graph.node[0].output[0]][index]
        branch = helper.make_graph([], "branch", [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [99])])
        m.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))
        m.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))

    return damage


def graph_without_graph(m: onnx.ModelProto) -> None:
    m.graph.node[0].attribute.append(onnx.AttributeProto(name="body", type=onnx.AttributeProto.GRAPH))


def tensor_without_tensor(m: onnx.ModelProto) -> None:
    m.graph.node[0].attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR))


ODD: dict[str, Damage] = {
    "an output twice": given_twice,
    "an input as output": input_given_out,
    "a body that returns an outer tensor": body_that_returns(2),
    "a body that returns an outer input": body_that_returns(0),
    "a body that returns an outer initializer": body_that_returns(1),
    "a graph attribute without a graph": graph_without_graph,
    "a tensor attribute without a tensor": tensor_without_tensor,
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_leaves_as_it_came(name: str) -> None:
    proto = small()
    ODD[name](proto)
    assert Model.load(proto).proto() == proto


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_proto_is_refused_with_its_code(name: str) -> None:
    damage, code = DAMAGED[name]
    proto = small()
    damage(proto)
    with pytest.raises(ModelError) as caught:
        Model.load(proto)
    assert caught.value.diagnostic.code == code


@pytest.mark.parametrize(("raw", "code"), [(b"", "GO002"), (b"hello, this is a text file\n", "GO002"), (None, "GO001")])
def test_what_is_no_model_is_refused(tmp_path: Path, raw: bytes | None, code: str) -> None:
    path = tmp_path / "m.onnx"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert caught.value.diagnostic.code == code
    assert "m.onnx" in caught.value.diagnostic.where


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_model_never_passes_for_a_whole_one(share: float) -> None:
    raw = small().SerializeToString()
    with pytest.raises(ModelError):
        model = Model.load(raw[: int(len(raw) * share)])
        model.value(model.graph.nodes[0].inputs[1])


def test_too_few_bytes_are_noticed_on_loading() -> None:
    proto = small()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    with pytest.raises(ModelError) as caught:
        Model.load(proto)
    assert caught.value.diagnostic.code == "GO011"


def external(folder: Path, location: str) -> Path:
    """A model whose first weight lies in ``location``."""
    proto = small()
    tensor = proto.graph.initializer[0]
    external_data_helper.set_external_data(tensor, location, 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def weight_of(path: Path) -> np.ndarray:
    model = Model.load(path)
    value = model.value(model.graph.nodes[0].inputs[1])
    assert value is not None
    return value


def test_external_data_beside_the_model_is_read_and_written(tmp_path: Path) -> None:
    weight = numpy_helper.to_array(small().graph.initializer[0])
    (tmp_path / "w.bin").write_bytes(weight.tobytes())
    path = external(tmp_path, "w.bin")
    assert np.array_equal(weight_of(path), weight)
    (tmp_path / "out").mkdir()
    Model.load(path).save(tmp_path / "out" / "o.onnx")
    assert np.array_equal(numpy_helper.to_array(onnx.load(tmp_path / "out" / "o.onnx").graph.initializer[0]), weight)


@pytest.mark.parametrize("kind", ["absolute", "parent", "symlink", "hard link", "missing", "too short"])
def test_external_data_that_leaves_the_folder_is_refused(tmp_path: Path, kind: str) -> None:
    folder, secret = tmp_path / "model", tmp_path / "secret.bin"
    folder.mkdir()
    secret.write_bytes(bytes(4 * 3 * 9 * 4))
    inside = folder / "w.bin"
    location = {"absolute": str(secret), "parent": "../secret.bin"}.get(kind, "w.bin")
    if kind == "symlink":
        inside.symlink_to(secret)
    elif kind == "hard link":
        inside.hardlink_to(secret)
    elif kind == "too short":
        inside.write_bytes(b"1234")
    with pytest.raises(ModelError) as caught:
        weight_of(external(folder, location))
    assert caught.value.diagnostic.code == "GO010"


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path, link = tmp_path / "m.onnx", tmp_path / "link.onnx"
    path.write_bytes(small().SerializeToString())
    link.symlink_to(path)
    model = Model.load(path)
    for target in (path, link):
        with pytest.raises(UsageError) as caught:
            model.save(target, force=True)
        assert caught.value.diagnostic.code == "GO907"


def test_an_existing_output_needs_force(tmp_path: Path) -> None:
    target = tmp_path / "o.onnx"
    target.write_bytes(b"precious")
    with pytest.raises(UsageError):
        Model.load(small()).save(target)
    assert target.read_bytes() == b"precious"
    Model.load(small()).save(target, force=True)
    assert onnx.load(target) == small()


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "o.onnx"
    target.write_bytes(b"precious")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        Model.load(small()).save(target, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["o.onnx"]
    assert target.read_bytes() == b"precious"


def test_a_pipe_or_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    target = tmp_path / "pipe"
    os.mkfifo(target)
    with pytest.raises(UsageError) as caught:
        Model.load(small()).save(target, force=True)
    assert caught.value.diagnostic.code == "GO908"
    assert target.is_fifo()
