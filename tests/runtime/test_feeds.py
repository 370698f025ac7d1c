"""Data in memory: what is taken, how it is cut into runs, and one clear error for everything that does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import parser

from graphopt.errors import DataError
from graphopt.model import Model
from graphopt.runtime import Feeds, feeds_from, input_specs
from graphopt.runtime import feeds as feeds_module

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def taking(*inputs: str) -> Model:
    """A model with these inputs, each through an Identity."""
    names = [text.split()[-1] for text in inputs]
    outputs = ", ".join(f"{text.rsplit(' ', 1)[0]} y{i}" for i, text in enumerate(inputs))
    nodes = " ".join(f"y{i} = Identity({name})" for i, name in enumerate(names))
    return Model.load(parser.parse_model(f"{HEAD}g ({', '.join(inputs)}) => ({outputs}) {{ {nodes} }}"))


IMAGE = "float[N,3,4,4] x"


def data(*shape: int, dtype: Any = np.float32) -> Any:
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape).astype(dtype)


class Reader:
    """As onnxruntime's CalibrationDataReader: gives dicts, then None."""

    def __init__(self, items: list[Any], rewinds: bool = False) -> None:
        self.items, self.index = items, 0
        if rewinds:
            self.rewind = lambda: setattr(self, "index", 0)

    def get_next(self) -> Any:
        self.index += 1
        return self.items[self.index - 1] if self.index <= len(self.items) else None


class Again:
    """An iterable without a length that starts anew each time."""

    def __init__(self, items: list[Any]) -> None:
        self.items, self.started = items, 0

    def __iter__(self) -> Iterator[Any]:
        self.started += 1
        return iter(self.items)


CUTS: list[tuple[str, str, Any, list[tuple[int, ...]]]] = [
    ("rows, dynamic batch", IMAGE, data(3, 3, 4, 4), [(1, 3, 4, 4)] * 3),
    ("rows, batch of 1", "float[1,3,4,4] x", data(3, 3, 4, 4), [(1, 3, 4, 4)] * 3),
    ("rows, batch of 2", "float[2,3,4,4] x", data(5, 3, 4, 4), [(2, 3, 4, 4)] * 2),
    ("dict", IMAGE, {"x": data(2, 3, 4, 4)}, [(1, 3, 4, 4)] * 2),
    ("list of batches", IMAGE, [data(1, 3, 4, 4), data(2, 3, 4, 4)], [(1, 3, 4, 4)] * 3),
    ("list of samples", IMAGE, [data(3, 4, 4)] * 2, [(1, 3, 4, 4)] * 2),
    ("list of dicts", IMAGE, [{"x": data(1, 3, 4, 4)}] * 2, [(1, 3, 4, 4)] * 2),
    ("samples join to a batch", "float[2,3,4,4] x", [data(3, 4, 4)] * 5, [(2, 3, 4, 4)] * 2),
    ("uneven pieces join to a batch", "float[4,2] x", [data(3, 2), data(6, 2)], [(4, 2)] * 2),
    ("no batch axis", "float[3,4] x", data(5, 3, 4), [(3, 4)] * 5),
    ("exactly one", "float[3,4] x", data(3, 4), [(3, 4)]),
    ("a vector", "float[8] x", data(8), [(8,)]),
    ("vectors", "float[8] x", data(3, 8), [(8,)] * 3),
    ("scalars", "float x", data(3), [()] * 3),
    ("a scalar", "float x", np.float32(1), [()]),
    ("a sequence is no batch", "float[seq_len,4] x", data(6, 4), [(6, 4)]),
    ("dynamic height", "float[N,3,H,W] x", [data(1, 3, 5, 7), data(1, 3, 2, 2)], [(1, 3, 5, 7), (1, 3, 2, 2)]),
    ("an empty input that is meant to be", "float[0] x", data(0), [(0,)]),
    ("generator", IMAGE, (data(1, 3, 4, 4) for _ in range(3)), [(1, 3, 4, 4)] * 3),
    ("reader", IMAGE, Reader([{"x": data(1, 3, 4, 4)}] * 3), [(1, 3, 4, 4)] * 3),
    ("again", IMAGE, Again([data(2, 3, 4, 4)] * 2), [(1, 3, 4, 4)] * 4),
]


@pytest.mark.parametrize(("model", "obj", "shapes"), [c[1:] for c in CUTS], ids=[c[0] for c in CUTS])
def test_how_data_is_cut(model: str, obj: Any, shapes: list[tuple[int, ...]]) -> None:
    feeds = feeds_from(obj, taking(model))
    assert feeds.calibrated
    assert len(feeds) == len(shapes)
    for _ in range(2):  # as often as one likes
        assert [feed["x"].shape for feed in feeds] == shapes
    assert feeds.first()["x"].shape == shapes[0]


def test_rows_keep_their_order_and_values() -> None:
    x = data(5, 2, 3)
    for model in ("float[N,2,3] x", "float[1,2,3] x", "float[2,3] x", "float[5,2,3] x"):
        got = np.concatenate([feed["x"].reshape(-1, 2, 3) for feed in feeds_from(x, taking(model))])
        np.testing.assert_array_equal(got, x)


def test_joined_samples_keep_their_order() -> None:
    x = data(9, 2)
    feeds = feeds_from([x[:3], x[3:4], x[4:]], taking("float[4,2] x"))
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in feeds]), x[:8])
    assert feeds.notes == ["1 of the samples left out: the model takes 4 at once"]


def test_several_inputs() -> None:
    model = taking("float[N,4] x", "int64[N,2] ids", "float[2] size")
    feeds = feeds_from({"x": data(3, 4), "ids": data(3, 2, dtype=np.int64), "size": data(2)}, model)
    assert [{k: v.shape for k, v in feed.items()} for feed in feeds] == [{"x": (1, 4), "ids": (1, 2), "size": (2,)}] * 3
    assert feeds.notes == ["input 'size': one value, used for every sample"]


CASTS: list[tuple[str, Any, str]] = [
    ("float", np.float64, "float64 rounded to float32"),
    ("float", np.uint8, "uint8 converted to float32, exactly"),
    ("float", np.int64, "int64 converted to float32, exactly"),
    ("float", np.bool_, "bool converted to float32, exactly"),
    ("float16", np.float32, "float32 rounded to float16"),
    ("double", np.float32, "float32 converted to float64, exactly"),
    ("int32", np.int64, "int64 converted to int32, exactly"),
    ("uint8", np.int32, "int32 converted to uint8, exactly"),
    ("bfloat16", np.float32, "float32 rounded to bfloat16"),
    ("float", np.float32, ""),
    ("bfloat16", ml_dtypes.bfloat16, ""),
]


@pytest.mark.parametrize(("wanted", "given", "told"), CASTS)
def test_types_that_are_converted(wanted: str, given: Any, told: str) -> None:
    model = taking(f"{wanted}[N,2] x")
    feeds = feeds_from(np.array([[0, 1], [1, 0]]).astype(given), model)
    assert feeds.first()["x"].dtype == input_specs(model)[0].dtype
    assert feeds.notes == ([f"input 'x': {told}"] if told else [])
    assert feeds.first()["x"].astype(np.float64).tolist() == [[0.0, 1.0]]


def test_strings() -> None:
    feeds = feeds_from(np.array([["a"], ["bc"]]), taking("string[N,1] x"))
    assert [feed["x"].tolist() for feed in feeds] == [[["a"]], [["bc"]]]
    assert feeds.first()["x"].dtype == object


def nan_at(*index: int, shape: tuple[int, ...] = (5, 3, 4, 4), value: float = np.nan) -> Any:
    x = data(*shape)
    x[index] = value
    return x


def raising() -> Iterator[Any]:
    yield data(1, 3, 4, 4)
    raise KeyError("lost")


REFUSED: list[tuple[str, tuple[str, ...], Any, str, str]] = [
    ("rank", (IMAGE,), data(2, 48), "GO805", "expected float32 [N, 3, 4, 4], got float32 [2, 48]"),
    ("size", (IMAGE,), data(2, 3, 4, 5), "GO805", "got float32 [2, 3, 4, 5]"),
    ("channels last", (IMAGE,), data(2, 4, 4, 3), "GO805", "transpose it with (0, 3, 1, 2)"),
    ("no batch axis", (IMAGE,), data(3, 4, 4), "GO805", "add the batch axis"),
    ("too few for the batch", ("float[4,2] x",), data(3, 2), "GO808", "too few to fill the model's batch of 4"),
    ("scalar for an image", (IMAGE,), np.float32(1), "GO805", "got float32 []"),
    ("one axis more, wrong rest", ("float[3,4] x",), data(5, 3, 5), "GO805", "expected float32 [3, 4], got float32 [3, 5]"),
    ("float for int", ("int64[N,2] x",), data(2, 2), "GO806", "expected int64 [N, 2], got float32 [2, 2]"),
    ("int for bool", ("bool[N,2] x",), data(2, 2, dtype=np.int64), "GO806", "expected bool"),
    ("too large an int", ("int32[N,1] x",), np.array([[2**40]]), "GO806", "do not fit into int32"),
    ("too large a uint", ("int64[N,1] x",), np.array([[2**63]], np.uint64), "GO806", "do not fit into int64"),
    ("negative for unsigned", ("uint8[N,1] x",), np.array([[-1]]), "GO806", "do not fit into uint8"),
    ("int that float32 lacks", ("float[N,1] x",), np.array([[2**24 + 1]]), "GO806", "do not fit into float32"),
    ("overflow", ("float16[N,1] x",), np.array([[1e6]]), "GO806", "too large for float16"),
    ("complex", (IMAGE,), data(2, 3, 4, 4, dtype=np.complex64), "GO806", "complex64"),
    ("objects", (IMAGE,), np.array([[None]]), "GO806", "object"),
    ("text", (IMAGE,), np.array(["a"]), "GO806", "<U1"),
    ("numbers for strings", ("string[N] x",), data(2), "GO806", "expected string [N]"),
    ("nan", (IMAGE,), nan_at(3, 1, 2, 0), "GO807", "input 'x': NaN in sample 3 at [0, 1, 2, 0]"),
    ("nan in a list", (IMAGE,), [data(2, 3, 4, 4), nan_at(1, 0, 0, 1)], "GO807", "NaN in sample 3 at [0, 0, 0, 1]"),
    ("infinity", (IMAGE,), nan_at(0, 0, 0, 0, value=-np.inf), "GO807", "an infinity in sample 0"),
    ("nan in a batch", ("float[2,2] x",), nan_at(3, 1, shape=(4, 2)), "GO807", "NaN in sample 3 at [0, 1]"),
    ("missing", (IMAGE, "float[N] z"), {"x": data(2, 3, 4, 4)}, "GO803", "no values for input 'z'"),
    ("near name", (IMAGE,), {"X": data(2, 3, 4, 4)}, "GO804", "did you mean 'x'?"),
    ("unknown", (IMAGE,), {"x": data(2, 3, 4, 4), "labels": data(2)}, "GO804", "no input 'labels'"),
    ("array for two inputs", (IMAGE, "float[N] z"), data(2, 3, 4, 4), "GO802", "the model has 2 inputs"),
    ("counts differ", (IMAGE, "float[N,1] z"), {"x": data(2, 3, 4, 4), "z": data(3, 1)}, "GO816", "'x' 2, 'z' 3"),
    ("zero rows", (IMAGE,), data(0, 3, 4, 4), "GO808", "no samples"),
    ("empty list", (IMAGE,), [], "GO808", "no samples"),
    ("empty generator", (IMAGE,), iter([]), "GO808", "no samples"),
    ("empty reader", (IMAGE,), Reader([]), "GO808", "no samples"),
    ("path", (IMAGE,), "calib.npz", "GO802", "open_data"),
    ("number", (IMAGE,), 3, "GO802", "cannot take data from a int"),
    ("none", (IMAGE,), None, "GO802", "NoneType"),
    ("pairs", (IMAGE,), [(data(1, 3, 4, 4), 7)], "GO802", "is a tuple, not an array"),
    ("list of text", (IMAGE,), ["a", "b"], "GO802", "is a str, not an array"),
    ("raises", (IMAGE,), raising(), "GO812", "sample 1 could not be read: KeyError: 'lost'"),
]


@pytest.mark.parametrize(("inputs", "obj", "code", "told"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_is_refused(inputs: tuple[str, ...], obj: Any, code: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        feeds_from(obj, taking(*inputs))
    diagnostic = caught.value.diagnostic
    assert diagnostic.code == code
    assert told in str(caught.value)
    assert "\n" not in diagnostic.why
    assert diagnostic.hint or code == "GO812"


def test_a_reader_is_rewound_and_its_buffer_copied() -> None:
    buffer = {"x": data(1, 3, 4, 4)}

    class Reusing(Reader):
        def get_next(self) -> Any:
            buffer["x"][:] = self.index
            return super().get_next()

    reader = Reusing([buffer] * 3, rewinds=True)
    reader.get_next()
    assert [feed["x"].flat[0] for feed in feeds_from(reader, taking(IMAGE))] == [0, 1, 2]


def test_what_is_read_once_goes_to_the_disk_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "_SPOOL_BYTES", 2 * 4 * 4)
    x = data(6, 4)
    feeds = feeds_from((row for row in x), taking("float[N,4] x"))
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in feeds]), x)
    np.testing.assert_array_equal(feeds.take(2).first()["x"], x[:1])


def test_an_iterable_is_not_kept_but_read_again() -> None:
    source = Again([data(2, 3, 4, 4)] * 3)
    feeds = feeds_from(source, taking(IMAGE))
    assert source.started == 1
    list(feeds)
    assert source.started == 2


def test_an_iterable_that_shrinks() -> None:
    source = Again([data(1, 3, 4, 4)] * 3)
    feeds = feeds_from(source, taking(IMAGE))
    source.items.pop()
    with pytest.raises(DataError, match="fewer later"):
        list(feeds)


def test_an_array_like_object() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return data(2, 3, 4, 4)

    assert len(feeds_from(Tensor(), taking(IMAGE))) == 2
    assert len(feeds_from([Tensor(), Tensor()], taking(IMAGE))) == 4


def values(feeds: Feeds) -> list[float]:
    return [float(feed["x"].flat[0]) for feed in feeds]


@pytest.mark.parametrize("obj", [data(10, 1), Again(list(data(10, 1)))], ids=["array", "iterable"])
def test_take_is_spread_over_the_whole(obj: Any) -> None:
    feeds = feeds_from(obj, taking("float[N,1] x"))
    assert values(feeds.take(1)) == [0]
    assert values(feeds.take(5)) == [0, 2, 4, 6, 8]
    assert values(feeds.take(4)) == [0, 2, 5, 7]
    assert feeds.take(10) is feeds
    assert values(feeds.take(5).take(2)) == [0, 4]


def test_split_is_seeded_disjoint_and_complete() -> None:
    feeds = feeds_from(data(20, 1), taking("float[N,1] x"))
    fit, held = feeds.split(seed=1)
    assert len(held) == 5
    assert sorted(values(fit) + values(held)) == list(range(20))
    assert values(feeds.split(seed=1)[1]) == values(held)
    assert values(feeds.split(seed=2)[1]) != values(held)
    assert len(feeds.split(seed=1, held_out=0.5)[1]) == 10


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 1)), (2, (1, 1)), (3, (2, 1))])
def test_split_of_few(count: int, sizes: tuple[int, int]) -> None:
    fit, held = feeds_from(data(count, 1), taking("float[N,1] x")).split(seed=0)
    assert (len(fit), len(held)) == sizes


def test_feeds_for_another_model_are_checked() -> None:
    feeds = feeds_from(data(2, 3, 4, 4), taking(IMAGE))
    assert feeds_from(feeds, taking("float[N,3,H,W] x")) is feeds
    with pytest.raises(DataError, match="GO805"):
        feeds_from(feeds, taking("float[N,3,4,8] x"))
    with pytest.raises(DataError, match="GO804"):
        feeds_from(feeds, taking("float[N,3,4,4] image"))


def test_changing_a_feed_does_not_change_the_next_reading() -> None:
    feeds = feeds_from([{"x": data(1, 2)}], taking("float[N,2] x"))
    feeds.first().clear()
    assert feeds.first()["x"].shape == (1, 2)


def test_inputs_with_a_value_of_their_own_need_not_be_fed() -> None:
    text = "g (float[N,2] x, float[2] w) => (float[N,2] y) <float[2] w = {1.0, 2.0}> { y = Mul(x, w) }"
    for version in (3, 8):
        proto = parser.parse_model(f'<ir_version: {version}, opset_import: ["": 8]>\n{text}')
        if "w" not in {i.name for i in proto.graph.input}:
            pytest.skip("the parser dropped the input")
        assert [spec.name for spec in input_specs(Model.load(proto))] == ["x"]


@pytest.mark.parametrize("bound", [0, 100, 10**9])
def test_a_spool_gives_back_what_came_in_its_order(bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a small one would still fit into memory behind large ones that did not, and where names differ."""
    monkeypatch.setattr(feeds_module, "_SPOOL_BYTES", bound)
    given: list[dict[str, Any]] = [{"x": np.full(n, k), f"y{k % 2}": np.ones(1)} for k, n in enumerate((4, 40, 4, 30, 1, 2))]
    given.append({"x": np.array(["text"], object)})
    spool = feeds_module.Spool.of(given)
    assert len(spool) == len(given)
    for wanted, found in zip(given, spool, strict=True):
        assert list(found) == list(wanted)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert [f["x"][0] for f in spool.read([1, 4])] == [1, 4]
