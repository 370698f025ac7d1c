"""Saving: streamed, the same bytes each time, and whole or not at all even if the process is killed at any moment."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import ModelError
from graphopt.model import Model, wire
from tests.differential.protos import differences

SIDE = 256


def network(fill: float, count: int = 4, *, external: Path | None = None) -> onnx.ModelProto:
    """A chain of MatMuls whose weights hold ``fill``; in ``external``, if given."""
    weights = [numpy_helper.from_array(np.full((SIDE, SIDE), fill, np.float32), f"w{i}") for i in range(count)]
    nodes = [helper.make_node("MatMul", [f"t{i}", f"w{i}"], [f"t{i + 1}"]) for i in range(count)]
    x, y = (helper.make_tensor_value_info(name, 1, [1, SIDE]) for name in ("t0", f"t{count}"))
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    if external is not None:
        onnx.save_model(proto, external, save_as_external_data=True, location=f"{external.name}.bin", size_threshold=0)
    return proto


def plain(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without the traces of external data that onnx.load leaves behind."""
    for tensor in proto.graph.initializer:
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
    return proto


def test_external_weights_stay_external_and_aligned(tmp_path: Path) -> None:
    source, out = tmp_path / "m.onnx", tmp_path / "out" / "o.onnx"
    out.parent.mkdir()
    network(1.5, external=source)
    model = Model.load(source)
    model.save(out)
    (data,) = [p for p in out.parent.iterdir() if p != out]
    assert data.name == f"o.onnx.{hashlib.sha256(data.read_bytes()).hexdigest()[:12]}.data"
    assert out.stat().st_size < 4096
    for tensor in onnx.load(out, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert entries["location"] == data.name
        assert int(entries["offset"]) % 4096 == 0
    assert differences(plain(network(1.5)), plain(onnx.load(out))) == []
    assert differences(network(1.5), plain(model.proto())) == []


def test_what_a_tensor_says_besides_its_values_goes_along(tmp_path: Path) -> None:
    source, out = tmp_path / "m.onnx", tmp_path / "out" / "o.onnx"
    out.parent.mkdir()
    network(1.5, external=source)
    proto = onnx.load(source, load_external_data=False)
    proto.graph.initializer[0].doc_string = "a weight"
    proto.graph.initializer[1].metadata_props.add(key="k", value="v")
    small = numpy_helper.from_array(np.ones(3, np.float32), "small")
    proto.graph.initializer.insert(1, small)
    source.write_bytes(proto.SerializeToString())
    Model.load(source).save(out)
    written = onnx.load(out, load_external_data=False).graph.initializer
    assert [t.name for t in written] == ["w0", "small", "w1", "w2", "w3"]
    assert written[0].doc_string == "a weight"
    assert written[2].metadata_props[0].value == "v"
    assert written[1] == small


def test_beyond_protobufs_limit_weights_leave_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MESSAGE_LIMIT", SIDE * SIDE * 4 * 3)
    out = tmp_path / "o.onnx"
    Model.load(network(2.0)).save(out)
    assert differences(network(2.0), plain(onnx.load(out))) == []
    assert len(list(tmp_path.iterdir())) == 2


def test_weights_of_bodies_leave_the_message_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def body(name: str) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.full((SIDE, SIDE), len(name), np.float32), name)
        out = helper.make_tensor_value_info(f"{name}_out", 1, [1, SIDE])
        return helper.make_graph([helper.make_node("MatMul", ["x", name], [out.name])], name, [], [out], [weight])

    node = helper.make_node("If", ["c"], ["y"], then_branch=body("then"), else_branch=body("otherwise"))
    inputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", 1, [1, SIDE])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, [1, SIDE])])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    monkeypatch.setattr(wire, "MESSAGE_LIMIT", SIDE * SIDE * 4)
    out = tmp_path / "o.onnx"
    Model.load(proto).save(out)
    assert out.stat().st_size < 4096
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    feed = {"x": np.ones((1, SIDE), np.float32)}
    for condition, fill in ((True, 4), (False, 9)):
        assert session.run(None, {**feed, "c": np.array(condition)})[0][0, 0] == fill * SIDE


def test_a_data_file_that_is_no_longer_needed_goes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source, out = tmp_path / "in" / "m.onnx", tmp_path / "o.onnx"
    for fill in (1.0, 2.0, 2.0):
        network(fill, external=source)
        Model.load(source).save(out, force=True)
        assert len(list(tmp_path.glob("o.onnx*"))) == 2
        assert differences(network(fill), plain(onnx.load(out))) == []
    Model.load(network(3.0)).save(out, force=True)
    assert [p.name for p in tmp_path.glob("*o.onnx*")] == ["o.onnx"], "its weights are in the model now"


def test_files_of_others_stay(tmp_path: Path) -> None:
    """Only what the replaced model named, and only under a name that we give."""
    (tmp_path / "in").mkdir()
    source, out = tmp_path / "in" / "m.onnx", tmp_path / "o.onnx"
    network(1.0, external=out)
    (tmp_path / "o.onnx.0123456789ab.data").write_bytes(b"unrelated")
    network(2.0, external=source)
    Model.load(source).save(out, force=True)
    assert {"o.onnx.bin", "o.onnx.0123456789ab.data"} <= {p.name for p in tmp_path.iterdir()}


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    network(1.0, external=source)
    found = set()
    for name in "abc":
        (tmp_path / name).mkdir()
        Model.load(source).save(tmp_path / name / "o.onnx")
        found.add(tuple(p.read_bytes() for p in sorted((tmp_path / name).iterdir())))
    assert len(found) == 1


def test_edited_weights_are_written_from_memory(tmp_path: Path) -> None:
    source, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    source.write_bytes(network(1.0).SerializeToString())
    model = Model.load(source)
    model.set_input(model.graph.nodes[0], 1, model.constant("new", np.full((SIDE, SIDE), 7, np.float32).T))
    model.save(out)
    assert out.read_bytes() == model.proto().SerializeToString(deterministic=True)
    assert numpy_helper.to_array(onnx.load(out).graph.initializer[-1])[0, 0] == 7


def test_models_for_the_runtime_share_their_weights(tmp_path: Path) -> None:
    import onnxruntime

    source = tmp_path / "m.onnx"
    source.write_bytes(network(0.25).SerializeToString())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    model = Model.load(source)
    edited = model.copy()
    edited.set_input(edited.graph.nodes[0], 1, edited.constant("new", np.full((SIDE, SIDE), 2, np.float32)))
    known: dict = {}
    paths = [m.save_for_runtime(scratch, f"{i}.onnx", known=known) for i, m in enumerate((model, edited))]
    assert (scratch / "0.onnx.data").stat().st_size == 4 * SIDE * SIDE * 4
    assert (scratch / "1.onnx.data").stat().st_size == SIDE * SIDE * 4, "only what is new"
    feed = {"t0": np.ones((1, SIDE), np.float32)}
    for path, reference in zip(paths, (model, edited), strict=True):
        found, want = (
            onnxruntime.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, feed)[0]
            for m in (path, reference.proto().SerializeToString())
        )
        np.testing.assert_array_equal(found, want)


def test_more_than_a_message_holds_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MESSAGE_LIMIT", 64)
    with pytest.raises(ModelError) as caught:
        Model.load(network(1.0)).save(tmp_path / "o.onnx")
    assert caught.value.diagnostic.code == "GO014"
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from graphopt.model import Model
models = [Model.load(path) for path in sys.argv[2:]]
parent = os.getppid()
print("ready", flush=True)
while os.getppid() == parent:
    for model in models:
        model.save(sys.argv[1], force=True)
"""


def kill_while_saving(folder: Path, kills: int, *, external: bool) -> None:
    """Two models are saved over one another until the process is killed, at a random moment, again and again."""
    sources, out, draw = [], folder / "out" / "o.onnx", random.Random(kills)
    out.parent.mkdir()
    for fill in (1.0, 2.0):
        path = folder / f"{fill}.onnx"
        proto = network(fill, external=path if external else None)
        if not external:
            path.write_bytes(proto.SerializeToString())
        sources.append(path)
    wanted = [plain(network(fill)).SerializeToString(deterministic=True) for fill in (1.0, 2.0)]
    start = time.monotonic()
    for source in sources:
        Model.load(source).save(out, force=True)
    both = time.monotonic() - start
    seen = set()
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", KILLED, out, *draw.sample(sources, 2)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(draw.uniform(0, 2 * both))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found = plain(onnx.load(out)).SerializeToString(deterministic=True)
        assert found in wanted, "neither the one model nor the other"
        seen.add(found)
    assert len(seen) == 2 or kills < 20, "it was always the same one: the test tests nothing"
    Model.load(sources[1]).save(out, force=True)
    assert plain(onnx.load(out)).SerializeToString(deterministic=True) == wanted[1], "what the kills left behind is in the way"


@pytest.mark.parametrize("external", [False, True], ids=["embedded", "external"])
def test_a_kill_leaves_the_old_model_or_the_new_one(tmp_path: Path, external: bool) -> None:
    kill_while_saving(tmp_path, 3, external=external)


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True], ids=["embedded", "external"])
def test_two_hundred_kills(tmp_path: Path, external: bool) -> None:
    kill_while_saving(tmp_path, 200, external=external)


def test_the_order_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever step fails, the output is whole: each step of a save is made to fail once."""
    (tmp_path / "in").mkdir()
    source, out = tmp_path / "in" / "m.onnx", tmp_path / "o.onnx"
    network(1.0, external=source)
    Model.load(source).save(out)
    network(2.0, external=source)
    model = Model.load(source)
    steps = [("os", "fsync"), ("pathlib.Path", "replace"), ("pathlib.Path", "unlink")]
    for owner, name in steps:
        for fail_at in range(1, 4):
            calls = 0
            real = getattr(os if owner == "os" else Path, name)

            def broken(*args: object, real: object = real, fail_at: int = fail_at, **kwargs: object) -> object:
                nonlocal calls
                calls += 1
                if calls == fail_at:
                    raise KeyboardInterrupt
                return real(*args, **kwargs)  # type: ignore[operator]

            with monkeypatch.context() as patch:
                patch.setattr(f"{owner}.{name}", broken)
                with contextlib.suppress(KeyboardInterrupt):
                    model.save(out, force=True)
            found = plain(onnx.load(out)).SerializeToString()
            assert found in [plain(network(fill)).SerializeToString() for fill in (1.0, 2.0)], (name, fail_at)
