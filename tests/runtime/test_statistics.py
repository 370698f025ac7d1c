"""Streaming statistics against numpy on everything at once."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.runtime.statistics import Gram, MinMax, Moments, rows_of

SHAPES = [((2, 3, 4, 5), 1), ((2, 3), 1), ((2, 7, 3), 2), ((2, 4, 4, 3), -1), ((3, 5), 0)]


def pieces(shape: tuple[int, ...], count: int = 4, seed: int = 0) -> list[Any]:
    random = np.random.default_rng(seed)
    return [(random.standard_normal(shape) * 3 + 100).astype(np.float32) for _ in range(count)]


def everything(parts: list[Any], axis: int) -> Any:
    return np.concatenate([rows_of(part, axis) for part in parts]).astype(np.float64)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_minmax(shape: tuple[int, ...], axis: int) -> None:
    parts = pieces(shape)
    whole, channels = MinMax(), MinMax(axis)
    for part in parts:
        whole.update(part)
        channels.update(part)
    rows = everything(parts, axis)
    assert whole.range == (rows.min(), rows.max())
    np.testing.assert_array_equal(channels.low, rows.min(axis=0))
    np.testing.assert_array_equal(channels.high, rows.max(axis=0))
    assert whole.count == channels.count == rows.size


def test_minmax_leaves_nan_and_infinities_out() -> None:
    found = MinMax()
    found.update(np.array([1.0, np.nan, -np.inf, 3.0, np.inf]))
    found.update(np.array([np.nan]))
    assert found.range == (1.0, 3.0)
    assert (found.count, found.nonfinite) == (2, 4)


@pytest.mark.parametrize("parts", [[], [np.zeros((0, 3), np.float32)], [np.array([np.nan])]])
def test_minmax_of_nothing(parts: list[Any]) -> None:
    found = MinMax()
    for part in parts:
        found.update(part)
    assert found.range == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_, np.float16])
def test_minmax_takes_any_type(dtype: Any) -> None:
    found = MinMax()
    found.update(np.array([0, 1, 1], dtype))
    found.update(np.array(1, dtype))
    assert found.range == (0.0, 1.0)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_moments(shape: tuple[int, ...], axis: int) -> None:
    parts = pieces(shape)
    found = Moments(axis)
    for part in parts:
        found.update(part)
    rows = everything(parts, axis)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.variance, rows.var(axis=0), rtol=1e-10)


def test_moments_do_not_cancel() -> None:
    found = Moments(axis=None)
    random = np.random.default_rng(0)
    parts = [1e8 + random.standard_normal(1000) for _ in range(5)]
    for part in parts:
        found.update(part)
    assert found.variance[0] == pytest.approx(np.concatenate(parts).var(), rel=1e-6)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_gram(shape: tuple[int, ...], axis: int) -> None:
    parts = pieces(shape)
    found = Gram(shape[axis], axis)
    for part in parts:
        found.update(part)
    rows = everything(parts, axis)
    np.testing.assert_allclose(found.matrix, rows.T @ rows, rtol=1e-12)
    np.testing.assert_allclose(found.sum, rows.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(rows.T, bias=True), atol=1e-7)
    assert found.count == found.seen == len(rows)


def test_gram_of_sampled_positions_is_seeded_bounded_and_unbiased() -> None:
    parts = pieces((1, 4, 40, 40), count=30)
    full, first, second = Gram(4), Gram(4, positions=200, seed=3), Gram(4, positions=200, seed=3)
    other = Gram(4, positions=200, seed=4)
    for part in parts:
        for gram in (full, first, second, other):
            gram.update(part)
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert not np.array_equal(first.matrix, other.matrix)
    assert (first.count, first.seen) == (30 * 200, 30 * 1600)
    np.testing.assert_allclose(first.covariance, full.covariance, atol=0.6)


def test_gram_refuses_what_it_cannot_add() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        Gram(4).update(np.zeros((1, 3, 2)))
    with pytest.raises(ValueError, match="at least one"):
        Gram(4, positions=0)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_how_the_data_is_divided_does_not_matter(sizes: list[int], seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((sum(sizes), 3)) * 5
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    moments, gram = Moments(), Gram(3)
    for part in parts:
        moments.update(part)
        gram.update(part)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(moments.variance, rows.var(axis=0), atol=1e-10)
    np.testing.assert_allclose(gram.matrix, rows.T @ rows, atol=1e-9)


def test_memory_does_not_grow_with_the_number_of_arrays() -> None:
    def peak(count: int) -> int:
        accumulators = [MinMax(), MinMax(1), Moments(), Gram(8)]
        tracemalloc.start()
        for index in range(count):
            part = np.full((1, 8, 32, 32), float(index), np.float32)
            for accumulator in accumulators:
                accumulator.update(part)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(60) < peak(3) + 20_000
