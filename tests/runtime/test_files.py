"""Data from files: every form that is taken, and one clear error for each that is not."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser
from PIL import Image

from graphopt.errors import DataError
from graphopt.model import Model
from graphopt.runtime import feeds as feeds_module
from graphopt.runtime import open_data

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'
ONE = HEAD + "g (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu(x) }"
TWO = HEAD + "g (float[N,4] a, float[N,4] y) => (float[N,4] z) { z = Add(a, y) }"
X = np.arange(5 * 3 * 8 * 8, dtype=np.float32).reshape(5, 3, 8, 8)


def one() -> Model:
    return Model.load(parser.parse_model(ONE))


def two() -> Model:
    return Model.load(parser.parse_model(TWO))


def save_images(folder: Path, count: int = 3, size: tuple[int, int] = (8, 8)) -> None:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.new("RGB", size, (index, 100, 200)).save(folder / f"{index}.png")


def all_values(feeds: Any) -> Any:
    return np.concatenate([feed["x"] for feed in feeds])


def make_npz(folder: Path) -> Path:
    np.savez(folder / "d.npz", x=X)
    return folder / "d.npz"


def make_positional_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "d.npz", X)
    return folder / "d.npz"


def make_npz_with_labels(folder: Path) -> Path:
    np.savez(folder / "d.npz", x=X, labels=np.arange(5))
    return folder / "d.npz"


def make_npy(folder: Path) -> Path:
    np.save(folder / "d.npy", X)
    return folder / "d.npy"


def make_folder(folder: Path) -> Path:
    np.savez(folder / "1.npz", x=X[2:4])
    np.save(folder / "0.npy", X[:2])
    np.save(folder / "2.npy", X[4])
    (folder / "README.txt").write_text("not data")
    return folder


@pytest.mark.parametrize("make", [make_npz, make_positional_npz, make_npz_with_labels, make_npy, make_folder])
def test_arrays(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    feeds = open_data(str(path), one())
    assert len(feeds) == 5
    assert feeds.calibrated
    assert path.name in feeds.source
    np.testing.assert_array_equal(all_values(feeds), X)
    np.testing.assert_array_equal(all_values(feeds), X)


def test_labels_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    assert open_data(str(make_npz_with_labels(tmp_path)), one()).notes == [
        "'labels' of d.npz is not used: it is no input of the model"
    ]


def test_a_label_key_that_is_an_input_is_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=np.zeros((2, 4), np.float32), y=np.ones((2, 4), np.float32))
    assert [feed["y"][0, 0] for feed in open_data(str(tmp_path / "d.npz"), two())] == [1, 1]


def test_a_folder_larger_than_the_bound_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "_SPOOL_BYTES", 1000)
    feeds = open_data(str(make_folder(tmp_path)), one())
    np.testing.assert_array_equal(all_values(feeds), X)
    (tmp_path / "1.npz").unlink()
    with pytest.raises(DataError):
        all_values(feeds)


def test_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    save_images(tmp_path / "images")
    Image.new("RGB", (8, 8), (7, 0, 0)).save(tmp_path / "images" / "a.PNG")
    feeds = open_data(str(tmp_path / "images"), one(), "order=bgr")
    assert [round(float(feed["x"][0, 2].mean())) for feed in feeds] == [0, 1, 2, 7]
    assert feeds.first()["x"].dtype == np.float32
    assert "images/ (4 images)" in feeds.source
    assert any("order=bgr" in note for note in feeds.notes)


def test_a_model_that_takes_bytes(tmp_path: Path) -> None:
    save_images(tmp_path)
    model = Model.load(parser.parse_model(ONE.replace("float", "uint8").replace("Relu", "Identity")))
    feeds = open_data(str(tmp_path), model, "raw")
    assert [int(feed["x"][0, 0, 0, 0]) for feed in feeds] == [0, 1, 2]
    assert feeds.first()["x"].dtype == np.uint8
    refused(str(tmp_path), model, "scale=1/255", "GO806", "expected uint8")
    refused(str(tmp_path), model, "mean=50", "GO806", "do not fit into uint8")


def test_one_image(tmp_path: Path) -> None:
    save_images(tmp_path, 1)
    assert len(open_data(str(tmp_path / "0.png"), one(), "raw")) == 1


def test_the_models_own_preprocessing(tmp_path: Path) -> None:
    save_images(tmp_path / "images", size=(40, 20))
    (tmp_path / "net.onnx").write_bytes(parser.parse_model(ONE).SerializeToString())
    (tmp_path / "net.onnx.preprocess.toml").write_text("resize = 10\ncrop = 8\nmean = 100")
    feeds = open_data(str(tmp_path / "images"), Model.load(tmp_path / "net.onnx"))
    assert feeds.first()["x"][0, 1, 0, 0] == 0
    assert "preprocessing of net.onnx.preprocess.toml" in feeds.notes
    stated = open_data(str(tmp_path / "images"), Model.load(tmp_path / "net.onnx"), "resize=10,crop=8")
    assert stated.first()["x"][0, 1, 0, 0] == 100


MODULE = """
import numpy as np
class Reader:
    def __init__(self): self.left = 3
    def get_next(self):
        self.left -= 1
        return {"x": np.zeros((1, 3, 8, 8), np.float32)} if self.left >= 0 else None
def array(): return np.zeros((4, 3, 8, 8), np.float32)
def generator():
    for _ in range(2): yield np.zeros((3, 8, 8), np.float32)
def nothing(): return None
def fails(): raise RuntimeError("no\\ndisk")
def path(): return "calib.npz"
number = 3
"""


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("mydata"):
            del sys.modules[name]


@pytest.mark.parametrize(("name", "count"), [("array", 4), ("generator", 2), ("Reader", 3)])
def test_your_own_callable(in_folder: Path, name: str, count: int) -> None:
    (in_folder / "mydata1.py").write_text(MODULE)
    path = list(sys.path)
    feeds = open_data(f"mydata1:{name}", one())
    assert len(feeds) == count
    assert feeds.source == f"mydata1:{name}"
    assert sys.path == path


CALLABLES = [
    ("nosuchmodule:f", "GO811", "no module named 'nosuchmodule'"),
    ("mydata2:nosuch", "GO811", "has no callable 'nosuch'"),
    ("mydata2:number", "GO811", "not callable"),
    ("mydata2:nothing", "GO812", "returned a NoneType"),
    ("mydata2:fails", "GO812", "RuntimeError: no disk"),
    ("mydata2:path", "GO802", "str"),
    ("mydata_broken:f", "GO811", "SyntaxError"),
    ("mydata_needs:f", "GO811", "no module named 'nosuchdependency'"),
]


@pytest.mark.parametrize(("spec", "code", "told"), CALLABLES)
def test_callables_that_are_refused(in_folder: Path, spec: str, code: str, told: str) -> None:
    (in_folder / "mydata2.py").write_text(MODULE)
    (in_folder / "mydata_broken.py").write_text("def f(:")
    (in_folder / "mydata_needs.py").write_text("import nosuchdependency")
    refused(spec, one(), None, code, told)


def refused(spec: str, model: Model, preprocess: str | None, code: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        open_data(spec, model, preprocess)
    diagnostic = caught.value.diagnostic
    assert diagnostic.code == code, str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in diagnostic.why
    assert diagnostic.hint


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def raw_pickle(path: Path) -> None:
    import pickle

    path.write_bytes(pickle.dumps([1, 2, 3]))


def truncated(path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=X)
    path.write_bytes(buffer.getvalue()[:200])


def short_npy(path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, X)
    path.write_bytes(buffer.getvalue()[:500])


FILES: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("pickled.npy", pickled, "GO809", "pickled"),
    ("pickled.npz", lambda p: np.savez(p, x=np.array([None, "a"], dtype=object)), "GO809", "pickled"),
    ("pickle.npy", raw_pickle, "GO809", "pickled"),
    ("text.npz", lambda p: p.write_text("hello"), "GO801", "is not an .npz file"),
    ("empty.npz", lambda p: p.write_bytes(b""), "GO801", "empty.npz"),
    ("cut.npz", truncated, "GO801", "damaged"),
    ("cut.npy", short_npy, "GO801", "damaged"),
    ("none.npz", lambda p: np.savez(p), "GO808", "holds no arrays"),
    ("unknown.npz", lambda p: np.savez(p, x=X, weights=X), "GO804", "no input 'weights'"),
    ("near.npz", lambda p: np.savez(p, X=X), "GO804", "did you mean 'x'?"),
    ("shape.npz", lambda p: np.savez(p, x=X[:, :2]), "GO805", "expected float32 [N, 3, 8, 8], got float32 [5, 2, 8, 8]"),
    ("dtype.npz", lambda p: np.savez(p, x=X.astype(np.complex64)), "GO806", "complex64"),
    ("zero.npz", lambda p: np.savez(p, x=X[:0]), "GO808", "no samples"),
    ("nan.npz", lambda p: np.savez(p, x=np.where(X == 3 * 192, np.nan, X)), "GO807", "NaN in sample 3 at [0, 0, 0, 0]"),
    ("data.csv", lambda p: p.write_text("1,2"), "GO802", "'.csv'"),
    ("broken.png", lambda p: p.write_text("no image"), "GO810", "broken.png"),
]


@pytest.mark.parametrize(("name", "write", "code", "told"), FILES, ids=[case[0] for case in FILES])
@pytest.mark.parametrize("in_a_folder", [False, True])
def test_files_that_are_refused(
    tmp_path: Path, name: str, write: Callable[[Path], object], code: str, told: str, in_a_folder: bool
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / name)
    if in_a_folder and name.endswith(".csv"):
        code, told = "GO808", "holds no images and no arrays"
    refused(str(folder if in_a_folder else folder / name), one(), "raw" if name.endswith("png") else None, code, told)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    refused(str(tmp_path / "nosuch"), one(), None, "GO801", "no such file or folder")
    refused(str(tmp_path), one(), None, "GO808", "is empty")
    save_images(tmp_path)
    refused(str(tmp_path), one(), None, "GO814", "need a preprocessing")
    refused(str(tmp_path), one(), "crop=9", "GO813", "smaller than crop")
    refused(str(tmp_path), one(), "resize=16", "GO805", "got float32 [1, 3, 16, 16]")
    refused(str(tmp_path), one(), "layout=nhwc", "GO805", "transpose")
    refused(str(tmp_path), two(), "raw", "GO802", "images fill one input")
    np.save(tmp_path / "x.npy", X)
    refused(str(tmp_path), one(), "raw", "GO802", "holds both")


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    save_images(tmp_path, 2)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "2.jpg")
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:1500])
    refused(str(tmp_path), one(), "resize=8", "GO810", "2.jpg")


def test_arrays_take_no_preprocessing(tmp_path: Path) -> None:
    refused(str(make_npz(tmp_path)), one(), "imagenet", "GO813", "for images")


def test_an_array_file_for_two_inputs(tmp_path: Path) -> None:
    refused(str(make_npy(tmp_path)), two(), None, "GO802", "the model has 2 inputs")
