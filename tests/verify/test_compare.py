"""Drift: the figures against their definitions, every kind of output, and failures as values."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import parser

from graphopt.errors import ModelError
from graphopt.model import Model
from graphopt.runtime import generated
from graphopt.verify import compare, within
from graphopt.verify.measures import Measure, OutputDrift

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def load(text: str) -> Model:
    return Model.load(parser.parse_model(HEAD + text))


def measured(*pairs: tuple[Any, Any]) -> OutputDrift:
    measure = Measure("y")
    for run, (reference, candidate) in enumerate(pairs):
        measure.update(reference, candidate, run)
    return measure.result()


def f32(*values: Any) -> Any:
    return np.array(values, np.float32)


def test_the_figures_are_their_definitions() -> None:
    random = np.random.default_rng(0)
    parts = [(r, r + random.standard_normal(r.shape) * 0.1) for r in (random.standard_normal((3, 2, 5)) for _ in range(4))]
    drift = measured(*parts)
    r, c = (np.concatenate([part[i] for part in parts]).ravel() for i in (0, 1))
    assert drift.max_abs == np.abs(c - r).max()
    assert drift.range == r.max() - r.min()
    assert drift.rel == drift.max_abs / drift.range
    assert drift.sqnr_db == pytest.approx(10 * math.log10((r**2).sum() / ((c - r) ** 2).sum()))
    assert drift.cosine == pytest.approx((r @ c) / np.linalg.norm(r) / np.linalg.norm(c))
    assert (drift.kind, drift.top1, drift.psnr_db, drift.failure) == ("tensor", None, None, None)


RELATIVE: list[tuple[str, Any, Any, float]] = [
    ("equal", f32(1, -1), f32(1, -1), 0.0),
    ("zero belongs to the range", f32(1000, 1001), f32(1000, 1000), 1 / 1001),
    ("all negative", f32(-4, -2), f32(-4, -3), 0.25),
    ("both signs", f32(-1, 3), f32(-1, 2), 0.25),
    ("zeros, equal", f32(0, 0), f32(0, 0), 0.0),
    ("zeros, not equal", f32(0, 0), f32(0, 1e-9), math.inf),
    ("empty", f32(), f32(), 0.0),
    ("a scalar", np.float32(2), np.float32(1), 0.5),
    ("nan in the same place", f32(np.nan, 2), f32(np.nan, 1), 0.5),
    ("nan in another place", f32(np.nan, 2), f32(2, np.nan), math.inf),
    ("nan appears", f32(1, 2), f32(1, np.nan), math.inf),
    ("equal infinities", f32(np.inf, -np.inf, 2), f32(np.inf, -np.inf, 2), 0.0),
    ("infinity of another sign", f32(np.inf), f32(-np.inf), math.inf),
    ("infinity appears", f32(3), f32(np.inf), math.inf),
    ("shape", f32(1, 2), f32(1, 2, 3), math.inf),
    ("rank", f32(1, 2), f32([1, 2]), math.inf),
    ("type", f32(1), np.array([1.0]), math.inf),
    ("ints, equal", np.array([1, 2]), np.array([1, 2]), 0.0),
    ("ints, off by one", np.array([1, 2]), np.array([1, 3]), math.inf),
    ("large ints", np.array([2**62]), np.array([2**62 + 1]), math.inf),
    ("bools", np.array([True, False]), np.array([True, True]), math.inf),
    ("strings, equal", np.array(["a"], object), np.array(["a"], object), 0.0),
    ("strings", np.array(["a"], object), np.array(["b"], object), math.inf),
    ("sequences", [f32(1), f32(4)], [f32(1), f32(3)], 0.25),
    ("sequences of another length", [f32(1)], [f32(1), f32(2)], math.inf),
    ("sequence against array", [f32(1)], f32(1), math.inf),
    ("sequences of strings", [np.array(["a"], object)], [np.array(["b"], object)], math.inf),
    ("empty sequences", [], [], 0.0),
    ("absent", None, None, 0.0),
    ("absent on one side", None, f32(1), math.inf),
    ("maps, equal", [{"a": 0.5}], [{"a": 0.5}], 0.0),
    ("maps", [{"a": 0.5}], [{"a": 0.6}], math.inf),
    ("half", np.array([1, 2], np.float16), np.array([1, 1], np.float16), 0.5),
    ("bfloat16", np.array([1, 2], ml_dtypes.bfloat16), np.array([1, 1], ml_dtypes.bfloat16), 0.5),
    ("complex", np.array([3 + 4j]), np.array([3 + 3j]), 0.2),
]


@pytest.mark.parametrize(("reference", "candidate", "rel"), [c[1:] for c in RELATIVE], ids=[c[0] for c in RELATIVE])
def test_relative(reference: Any, candidate: Any, rel: float) -> None:
    assert measured((reference, candidate)).rel == pytest.approx(rel)


def test_a_failure_stays() -> None:
    drift = measured((f32(1), f32(1)), (f32(1), f32(1, 2)), (f32(1), f32(1)))
    assert drift.failure == "in run 1 shape [2] instead of [1]"
    assert drift.rel == math.inf


def test_mismatch_is_a_share() -> None:
    drift = measured((np.array([1, 2, 3]), np.array([1, 2, 4])), (np.array([1]), np.array([1])))
    assert (drift.kind, drift.mismatch, drift.max_abs) == ("exact", 0.25, 1.0)


CLASSES = [((4, 10), True), ((4, 10, 1, 1), True), ((4, 1), False), ((10,), False), ((4, 10, 2, 2), False), ((2, 4, 10), False)]


@pytest.mark.parametrize(("shape", "is_classes"), CLASSES)
def test_top1_for_class_scores(shape: tuple[int, ...], is_classes: bool) -> None:
    r = np.zeros(shape, np.float32)
    c = r.copy()
    if is_classes:
        r.reshape(4, 10)[:, 3] = 1
        c.reshape(4, 10)[:3, 3] = 1
        c.reshape(4, 10)[3, 5] = 1
    assert measured((r, c)).top1 == (0.75 if is_classes else None)


@pytest.mark.parametrize(
    ("shape", "is_image"), [((1, 3, 8, 8), True), ((2, 1, 4, 4), True), ((1, 4, 8, 8), True), ((1, 2, 8, 8), False)]
)
def test_psnr_for_images(shape: tuple[int, ...], is_image: bool) -> None:
    r = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    drift = measured((r, r + np.float32(0.1)))
    assert (drift.psnr_db == pytest.approx(20.0, abs=1e-3)) if is_image else drift.psnr_db is None


def test_what_is_equal_has_no_noise() -> None:
    drift = measured((f32([1, 2, 3]), f32([1, 2, 3])))
    assert (drift.sqnr_db, drift.cosine, drift.top1) == (math.inf, pytest.approx(1.0), 1.0)


SCALE = "g (float[N,4] x) => (float[N,4] y, int64[2] s) <float k = {%s}> { y = Mul(x, k) s = Shape(x) }"


def test_models_are_compared_on_every_feed() -> None:
    first, second = load(SCALE % "1.0"), load(SCALE % "1.01")
    feeds = generated(first, 5)
    drift = compare(first, second, feeds)
    assert drift.runs == 5
    assert [output.kind for output in drift.outputs] == ["classes", "exact"]
    assert drift.sqnr_db == pytest.approx(40, abs=0.1)
    assert not within(drift, 1e-4)
    assert within(drift, 0.011)
    assert within(compare(first, first, feeds), 0.0)
    assert drift.worst is not None
    assert drift.worst.name == "y"
    assert "output 'y': off by" in drift.why


CANDIDATES = [
    ("g (float[N,4] x) => (float[N,4] z, int64[2] s) { z = Relu(x) s = Shape(x) }", "has no output 'y'"),
    ("g (float[N,4] x) => (float[N,4] y, int64[2] s) { y = NoSuch(x) s = Shape(x) }", "cannot load"),
    (
        "g (float[N,4] x) => (float[A,4] y, int64[2] s) <int64[1] r = {3}> { y = Reshape(x, r) s = Shape(x) }",
        "Reshape: onnxruntime cannot",
    ),
    ("g (float[N,4] q) => (float[N,4] y, int64[2] s) { y = Relu(q) s = Shape(q) }", "cannot run"),
    ("g (float[N,4] x) => (float[A,B] y, int64[2] s) { y = Transpose(x) s = Shape(x) }", "shape [4, 1] instead of [1, 4]"),
    ("g (float[N,4] x) => (double[N,4] y, int64[2] s) { y = Cast <to = 11> (x) s = Shape(x) }", "float64 instead of float32"),
    ("g (float[N,4] x) => (float[N,4] y, int64[2] s) { y = Identity(x) t = Transpose(x) s = Shape(t) }", "of the elements differ"),
]


@pytest.mark.parametrize(("text", "why"), CANDIDATES)
def test_failures_are_values(text: str, why: str) -> None:
    reference = load(SCALE % "1.0")
    drift = compare(reference, load(text), generated(reference, 2))
    assert drift.worst_rel == math.inf
    assert why in drift.why
    assert not within(drift, 1e9)


def test_a_reference_that_does_not_run_is_an_error() -> None:
    with pytest.raises(ModelError, match="GO030"):
        compare(load("g (float[2] x) => (float[2] y) { y = NoSuch(x) }"), load(SCALE % "1.0"), [])


def test_no_feeds_prove_nothing() -> None:
    model = load(SCALE % "1.0")
    assert not within(compare(model, model, []), 1.0)
