"""What a model may name and what may be written: no path leads out of its folder, and nothing that is read is overwritten."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import ModelError, UsageError
from graphopt.model import Model, wire

WEIGHT = np.arange(1024, dtype=np.float32).reshape(32, 32)


def model(entries: dict[str, str] | list[tuple[str, str]]) -> onnx.ModelProto:
    """y = x @ w, where w lies in external data."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=WEIGHT.shape, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items() if isinstance(entries, dict) else entries:
        weight.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(name, 1, [1, 32]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write(folder: Path, location: str = "w.bin", **entries: str) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model({"location": location, **entries}).SerializeToString())
    return path


def weight(path: Path) -> np.ndarray:
    value = Model.load(path).constants()["w"]._values.array()
    return np.asarray(value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, with its weights; beside it, ``secret.bin``."""
    (tmp_path / "secret.bin").write_bytes(b"s" * WEIGHT.nbytes)
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "w.bin").write_bytes(WEIGHT.tobytes())
    return inside


def _symlink(folder: Path) -> str:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    return "link.bin"


def _symlink_inside(folder: Path) -> str:
    (folder / "link.bin").symlink_to("w.bin")
    return "link.bin"


def _linked_folder(folder: Path) -> str:
    (folder / "sub").symlink_to(folder.parent)
    return "sub/secret.bin"


def _hard_link(folder: Path) -> str:
    (folder / "hard.bin").hardlink_to(folder.parent / "secret.bin")
    return "hard.bin"


def _fifo(folder: Path) -> str:
    os.mkfifo(folder / "fifo")
    return "fifo"


def _directory(folder: Path) -> str:
    (folder / "sub").mkdir()
    return "sub"


ESCAPES: dict[str, Callable[[Path], str]] = {
    "parent": lambda _: "../secret.bin",
    "parent within": lambda _: "sub/../../secret.bin",
    "absolute": lambda folder: str(folder.parent / "secret.bin"),
    "symbolic link": _symlink,
    "symbolic link that stays inside": _symlink_inside,
    "folder that is a link": _linked_folder,
    "hard link": _hard_link,
    "fifo": _fifo,
    "device": lambda _: "/dev/zero",
    "folder": _directory,
    "the folder itself": lambda _: ".",
    "empty": lambda _: "",
    "zero byte": lambda _: "w.bin\0",
    "backslashes": lambda _: "..\\secret.bin",
    "drive": lambda _: "C:w.bin",
    "missing": lambda _: "gone.bin",
    "file as a folder": lambda _: "w.bin/secret",
    "a name too long for the system": lambda _: "x" * 5000,
}


@pytest.mark.parametrize("name", ESCAPES)
def test_external_data_that_leads_elsewhere_is_refused_on_loading(folder: Path, name: str) -> None:
    path = write(folder, ESCAPES[name](folder))
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert caught.value.diagnostic.code == "GO010"


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "sub/w.bin", "sub//w.bin"])
def test_external_data_inside_is_read(folder: Path, location: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "w.bin").write_bytes(WEIGHT.tobytes())
    assert np.array_equal(weight(write(folder, location)), WEIGHT)


def test_a_link_to_the_model_reads_beside_the_link(folder: Path, tmp_path: Path) -> None:
    """As onnx and onnxruntime do: the folder is that of the path that was given."""
    write(folder)
    (tmp_path / "there").symlink_to(folder)
    assert np.array_equal(weight(tmp_path / "there" / "m.onnx"), WEIGHT)


ENTRIES: dict[str, tuple[list[tuple[str, str]], str]] = {
    "offset behind the end": ([("offset", "4")], "GO010"),
    "huge offset": ([("offset", str(2**63))], "GO010"),
    "negative offset": ([("offset", "-1")], "GO010"),
    "negative length": ([("length", "-1")], "GO010"),
    "huge length": ([("length", str(2**62))], "GO010"),
    "length that is not the shape's": ([("length", "4")], "GO011"),
    "offset that is no number": ([("offset", "1e1")], "GO010"),
    "offset in other digits": ([("offset", "\u0661")], "GO010"),
    "a key twice": ([("offset", "0"), ("offset", "0")], "GO010"),
    "the location twice": ([("location", "w.bin")], "GO010"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_external_data_with_a_wrong_place_is_refused(folder: Path, name: str) -> None:
    entries, code = ENTRIES[name]
    path = folder / "m.onnx"
    path.write_bytes(model([("location", "w.bin"), *entries]).SerializeToString())
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert caught.value.diagnostic.code == code


def test_no_location_is_refused(folder: Path) -> None:
    path = folder / "m.onnx"
    path.write_bytes(model({"offset": "0"}).SerializeToString())
    with pytest.raises(ModelError):
        Model.load(path)


def test_overlapping_ranges_and_unknown_keys_are_legal(folder: Path) -> None:
    proto = model({"location": "w.bin", "checksum": "unchecked", "of the future": "?"})
    other = proto.graph.initializer.add()
    other.CopyFrom(proto.graph.initializer[0])
    other.name, other.dims[0] = "v", 31
    other.external_data.add(key="offset", value=str(32 * 4))
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    constants = Model.load(path).constants()
    assert np.array_equal(constants["v"]._values.array(), WEIGHT[1:])
    assert np.array_equal(constants["w"]._values.array(), WEIGHT)


def test_many_data_files_do_not_exhaust_the_process(folder: Path) -> None:
    """One file a tensor, more of them than a process may open."""
    import resource

    proto = model({"location": "w.bin"})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 200
    for index in range(count):
        (folder / f"{index}.bin").write_bytes(WEIGHT.tobytes())
        proto.graph.initializer.add().CopyFrom(model({"location": f"{index}.bin"}).graph.initializer[0])
        proto.graph.initializer[-1].name = f"w{index}"
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    resource.setrlimit(resource.RLIMIT_NOFILE, (count // 2 + 32, most[1]))
    try:
        constants = Model.load(path).constants()
        assert all(np.array_equal(c._values.array(), WEIGHT) for c in constants.values())
        (folder / "199.bin").write_bytes(bytes(WEIGHT.nbytes))
        with pytest.raises(ModelError) as caught:
            constants["w199"]._values.stored().file.read(0, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert caught.value.diagnostic.code == "GO015"


@pytest.fixture
def single(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One file with a weight that is cut out."""
    monkeypatch.setattr(wire, "LARGE", 64)
    proto = model({})
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT, "w"))
    path = tmp_path / "single.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


def _write_into(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff")


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "replaced": (_replace, True),
    "removed": (lambda path: path.unlink(), True),
    "cut short": (lambda path: os.truncate(path, 99), False),
    "written into": (_write_into, False),
    "appended to": (lambda path: path.write_bytes(path.read_bytes() + b"x"), False),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", ["model", "data"])
def test_a_file_that_changes_meanwhile(single: Path, folder: Path, tmp_path: Path, kind: str, name: str) -> None:
    """Old bytes or a coded error; never new bytes, never a crash."""
    change, reads_on = CHANGES[name]
    path = single if kind == "model" else write(folder)
    loaded = Model.load(path)
    change(path if kind == "model" else folder / "w.bin")
    out = tmp_path / "out.onnx"
    if reads_on:
        assert np.array_equal(loaded.constants()["w"]._values.array(), WEIGHT)
        loaded.save(out)
        assert np.array_equal(numpy_helper.to_array(onnx.load(out).graph.initializer[0]), WEIGHT)
        return
    for use in (lambda: loaded.constants()["w"]._values.array(), lambda: loaded.save(out)):
        with pytest.raises(ModelError) as caught:
            use()
        assert caught.value.diagnostic.code == "GO015"
    assert not [p for p in tmp_path.iterdir() if "out.onnx" in p.name]


def data_of(path: Path) -> Path:
    """The data file of a saved model."""
    (found,) = path.parent.glob(f"{path.name}.*.data")
    return found


def test_a_linked_data_file_is_replaced_and_not_written_through(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    loaded = Model.load(write(folder))
    loaded.save(out)
    name = data_of(out).name
    for link in (Path.symlink_to, Path.hardlink_to):
        out.unlink()
        (tmp_path / name).unlink()
        link(tmp_path / name, tmp_path / "secret.bin")
        with pytest.raises(UsageError) as caught:
            loaded.save(out)
        assert caught.value.diagnostic.code == "GO907"
        loaded.save(out, force=True)
        assert (tmp_path / "secret.bin").read_bytes() == b"s" * WEIGHT.nbytes
        assert data_of(out).read_bytes() == WEIGHT.tobytes()
        assert not data_of(out).is_symlink()


def test_the_output_is_never_a_file_that_the_input_reads(folder: Path, tmp_path: Path) -> None:
    path = write(folder)
    loaded = Model.load(path)
    (tmp_path / "soft").symlink_to(folder / "w.bin")
    (tmp_path / "there").symlink_to(folder)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    for target in (folder / "w.bin", tmp_path / "soft", tmp_path / "there" / "w.bin", tmp_path / "there" / "m.onnx", path):
        with pytest.raises(UsageError) as caught:
            loaded.save(target, force=True)
        assert caught.value.diagnostic.code == "GO907"
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_a_data_file_that_the_input_reads_stays(folder: Path, tmp_path: Path) -> None:
    """Its name is the very one that the output's data file would get, and the replaced output names it."""
    out = folder / "o.onnx"
    Model.load(write(folder)).save(out)
    name = data_of(out).name
    copy = folder / "copy.onnx"
    copy.write_bytes(out.read_bytes())
    same = Model.load(copy)
    same.save(out, force=True)
    assert np.array_equal(weight(out), WEIGHT)
    edited = Model.load(copy)
    edited.set_input(edited.graph.nodes[0], 1, edited.constant("v", WEIGHT + 1))
    edited.save(out, force=True)
    assert (folder / name).exists(), "the input's own data was removed"
    assert np.array_equal(weight(copy), WEIGHT)


def test_an_output_folder_behind_a_link_is_fine(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "there").symlink_to(tmp_path / "real")
    Model.load(write(folder)).save(tmp_path / "there" / "o.onnx")
    assert np.array_equal(weight(tmp_path / "real" / "o.onnx"), WEIGHT)


def test_a_folder_in_the_place_of_the_data_file(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    loaded = Model.load(write(folder))
    loaded.save(out)
    data = data_of(out)
    data.unlink()
    out.unlink()
    data.mkdir()
    with pytest.raises(UsageError) as caught:
        loaded.save(out, force=True)
    assert caught.value.diagnostic.code == "GO908"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_model_that_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = {"device": Path("/dev/zero"), "folder": tmp_path}.get(kind, tmp_path / "fifo")
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert caught.value.diagnostic.code == "GO001"


def test_a_file_beyond_two_gibibytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    os.truncate(path, 2**33)
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert caught.value.diagnostic.code == "GO014"
