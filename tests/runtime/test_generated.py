"""Made-up inputs: shapes, types, determinism, and a second guess where the model does not run on the first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from graphopt.model import Model
from graphopt.runtime import Session, generated

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def load(text: str) -> Model:
    return Model.load(parser.parse_model(HEAD + text))


def one(*inputs: str) -> Model:
    names = [text.split()[-1] for text in inputs]
    outputs = ", ".join(f"{text.rsplit(' ', 1)[0]} y{i}" for i, text in enumerate(inputs))
    nodes = " ".join(f"y{i} = Identity({name})" for i, name in enumerate(names))
    return load(f"g ({', '.join(inputs)}) => ({outputs}) {{ {nodes} }}")


SHAPES: list[tuple[tuple[str, ...], list[tuple[int, ...]]]] = [
    (("float[N,3,224,224] x",), [(1, 3, 224, 224)]),
    (("float[N,3,H,W] x",), [(1, 3, 64, 64)]),
    (("float[N,C,H,W] x",), [(1, 3, 64, 64)]),
    (("float[2,8] x",), [(2, 8)]),
    (("float x",), [()]),
    (("float[N,T] x", "float[N,T] z"), [(1, 64), (1, 64)]),
    (("float[seq,8] x", "float[B,seq] z"), [(64, 8), (1, 64)]),
]


@pytest.mark.parametrize(("inputs", "shapes"), SHAPES)
def test_shapes(inputs: tuple[str, ...], shapes: list[tuple[int, ...]]) -> None:
    assert [value.shape for value in generated(one(*inputs)).first().values()] == shapes


TYPES: list[tuple[str, Any, float, float]] = [
    ("float", np.float32, -6, 6),
    ("float16", np.float16, -6, 6),
    ("double", np.float64, -6, 6),
    ("int64", np.int64, 0, 7),
    ("int32", np.int32, 0, 7),
    ("uint8", np.uint8, 0, 255),
    ("int8", np.int8, -128, 127),
    ("bool", np.bool_, 0, 1),
]


@pytest.mark.parametrize(("kind", "dtype", "low", "high"), TYPES)
def test_types_and_values(kind: str, dtype: Any, low: float, high: float) -> None:
    value = generated(one(f"{kind}[4,500] x")).first()["x"]
    assert value.dtype == dtype
    assert low <= value.astype(np.float64).min() < value.astype(np.float64).max() <= high


def test_strings_and_sequences() -> None:
    value = generated(one("string[3] x")).first()["x"]
    assert value.dtype == object
    assert all(isinstance(text, str) for text in value)
    sequence = generated(load("g (seq(float[2]) x) => (int64 n) { n = SequenceLength(x) }")).first()["x"]
    assert [part.shape for part in sequence] == [(2,), (2,)]


def test_the_same_seed_gives_the_same_feeds() -> None:
    def values(seed: int, count: int = 3) -> list[Any]:
        return [feed["x"].tolist() for feed in generated(one("float[N,4] x"), count, seed)]

    assert values(1) == values(1)
    assert values(1) != values(2)
    assert values(1, 2) == values(1)[:2]
    assert len({str(value) for value in values(1)}) == 3


def test_it_says_that_it_is_made_up() -> None:
    feeds = generated(one("float[N,4] x"), count=5)
    assert not feeds.calibrated
    assert "generated" in feeds.source
    assert len(feeds) == 5
    assert not feeds.take(2).calibrated
    assert not feeds.split(0)[1].calibrated


SECOND_GUESSES = [
    "g (int64[N,4] i) => (float[N,4,2] y) <float[2,2] t = {1.0, 2.0, 3.0, 4.0}> { y = Gather(t, i) }",
    "g (float[N,T] x) => (float[N,8] y) <int64[2] s = {1, 8}> { y = Reshape(x, s) }",
    "g (float[N,C,4,4] x) => (float[N,1,2,2] y) <float[1,1,3,3] w = {1.,1.,1.,1.,1.,1.,1.,1.,1.}> { y = Conv(x, w) }",
    "g (float[2,2] x, int64[1] a) => (float[N,M] y) { y = CumSum(x, a) }".replace("int64[1] a", "int64 a"),
    "g (int64[2] s) => (float[A,B] y) { y = ConstantOfShape(s) }",
]


@pytest.mark.parametrize("text", SECOND_GUESSES)
def test_another_guess_where_the_first_does_not_run(text: str) -> None:
    model = load(text)
    Session(model).run(generated(model).first())


def test_a_model_that_runs_on_nothing_gets_the_first_guess() -> None:
    model = load("g (int64[1] s) => (float[N] y) <float[3] c = {1.0, 2.0, 3.0}> { t = NoSuchOp(s) y = Add(c, t) }")
    assert generated(model).first()["s"].shape == (1,)


def test_a_stated_size() -> None:
    assert generated(one("float[N,3,H,W] x"), size=20).first()["x"].shape == (1, 3, 20, 20)
