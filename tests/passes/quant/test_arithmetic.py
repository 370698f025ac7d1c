"""Scales, zero points, weights and biases: the formulas hold for whatever numbers come."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.passes.quant.affine import LEAST_SCALE, TINY, params
from graphopt.passes.quant.ranges import BINS, Histogram, squared_error
from graphopt.passes.quant.units import Bounds
from graphopt.passes.quant.weights import BIAS_LIMIT, quantize_bias, quantize_weight

sides = st.floats(0, 1e6, allow_subnormal=False)
dtypes: Any = st.sampled_from(["uint8", "int8"])
BOUNDS = [Bounds(), Bounds(0), Bounds(0, 6), Bounds(-1, 1), Bounds(-3, 0), Bounds(-0.1, 20)]


@given(sides, sides, dtypes)
def test_range_is_covered_and_zero_is_exact(low: float, high: float, dtype: Literal["uint8", "int8"]) -> None:
    p = params(-low, high, dtype)
    step = float(p.scale)
    assert p.dequantize(p.quantize(np.zeros(1)))[0] == 0.0
    assert step >= LEAST_SCALE * (1 - 1e-6)
    assert p.low <= -low + 0.51 * step and p.high >= high - 0.51 * step


@given(sides, sides, dtypes, st.sampled_from(BOUNDS))
def test_the_represented_range_stays_inside_an_activation(
    low: float, high: float, dtype: Literal["uint8", "int8"], bounds: Bounds
) -> None:
    p = params(max(-low, bounds.low), min(high, bounds.high), dtype, bounds)
    least, greatest = (0, 255) if dtype == "uint8" else (-128, 127)
    assert p.scale > 0
    assert p.scale * np.float32(least - p.zero) >= np.float32(bounds.low)
    assert p.scale * np.float32(greatest - p.zero) <= np.float32(bounds.high)


@given(sides, dtypes)
def test_relu_has_its_zero_point_at_the_least_value(high: float, dtype: Literal["uint8", "int8"]) -> None:
    assert params(0.0, high, dtype, Bounds(0)).zero == (0 if dtype == "uint8" else -128)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_no_range_at_all(bounds: Bounds) -> None:
    p = params(0.0, 0.0, "uint8", bounds)
    assert p.scale > 0 and p.dequantize(p.quantize(np.zeros(1)))[0] == 0.0


@given(hnp.arrays(np.float64, 50, elements=st.floats(-10, 10)), dtypes)
def test_rounding_is_within_half_a_step(values: np.ndarray, dtype: Literal["uint8", "int8"]) -> None:
    p = params(float(values.min()), float(values.max()), dtype)
    error = np.abs(p.dequantize(p.quantize(values)) - values)
    assert error.max() <= 1.01 * float(p.scale)  # half a step, and half a step for the rounded zero point


weights = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-100, 100, width=32))
scales = st.floats(1e-12, 1e4).map(np.float32)


@given(weights, scales, st.data(), st.sampled_from([127, 63]), st.booleans())
def test_weights(weight: np.ndarray, s_x: np.float32, data: st.DataObject, q_max: int, per_channel: bool) -> None:
    axis = data.draw(st.integers(0, weight.ndim - 1))
    bias = data.draw(hnp.arrays(np.float32, weight.shape[axis], elements=st.floats(-1e6, 1e6, width=32)))
    made = quantize_weight(weight, axis, s_x, bias, q_max=q_max, per_channel=per_channel)
    assert made.values.shape == weight.shape and made.scale.dtype == np.float32
    assert made.scale.shape == ((weight.shape[axis],) if per_channel else ())
    assert np.abs(made.values.astype(int)).max(initial=0) <= q_max
    assert (made.scale >= TINY).all() and np.isfinite(made.scale).all()
    error = np.abs(made.real() - weight)
    spread = np.moveaxis(np.broadcast_to(made.scale, (weight.shape[axis],)).reshape(-1, *[1] * (weight.ndim - 1)), 0, 0)
    assert (np.moveaxis(error, axis, 0) <= 0.5001 * spread).all()


@given(weights, scales, st.data())
def test_bias_has_exactly_the_product_of_the_scales_and_fits(weight: np.ndarray, s_x: np.float32, data: st.DataObject) -> None:
    bias = data.draw(hnp.arrays(np.float32, weight.shape[0], elements=st.floats(-1e9, 1e9, width=32)))
    made = quantize_weight(weight, 0, s_x, bias)
    values, scale = quantize_bias(bias, s_x, made.scale)
    assert values.dtype == np.int32
    np.testing.assert_array_equal(scale, np.float32(s_x) * made.scale)
    assert (scale >= TINY).all()
    assert (np.abs(values.astype(np.int64)) <= BIAS_LIMIT * (1 + 1e-6)).all()
    error = np.abs(values.astype(np.float64) * scale.astype(np.float64) - bias.astype(np.float64))
    assert (error <= 0.5001 * scale.astype(np.float64)).all()


def test_an_ordinary_bias_does_not_touch_the_weights() -> None:
    weight = np.asarray([[1.0, -2.0], [3.0, 0.5]])
    made = quantize_weight(weight, 0, np.float32(0.1), np.asarray([10.0, -10.0]))
    assert made.enlarged == 0
    np.testing.assert_allclose(made.scale, [2 / 127, 3 / 127], rtol=1e-6)


def test_a_dead_channel_and_one_that_is_all_bias() -> None:
    weight = np.asarray([[1.0, -2.0], [0.0, 0.0], [1e-10, 0.0]])
    bias = np.asarray([0.0, 5.0, 5.0])
    made = quantize_weight(weight, 0, np.float32(0.1), bias)
    values, scale = quantize_bias(bias, np.float32(0.1), made.scale)
    assert made.scale[1] == made.scale[0]
    assert made.enlarged == 1  # the third: 5 / (0.1 * 1e-10 / 127) is beyond int32
    np.testing.assert_allclose(values * scale.astype(np.float64), bias, atol=1e-3)


def test_all_channels_dead() -> None:
    made = quantize_weight(np.zeros((3, 4)), 0, np.float32(0.1), None)
    assert (made.scale == 1).all() and not made.values.any()


# -- ranges ------------------------------------------------------------------------------------------------------------------


@given(st.lists(hnp.arrays(np.float32, 20, elements=st.floats(-1e5, 1e5, width=32)), min_size=1, max_size=5))
def test_a_histogram_counts_everything_and_grows(arrays: list[np.ndarray]) -> None:
    histogram = Histogram(counted=True)
    for array in arrays:
        histogram.update(array)
    values = np.concatenate(arrays)
    assert histogram.counts.sum() == values.size
    assert histogram.range("minmax") == (values.min(), values.max())
    exact, _ = np.histogram(values.astype(np.float64), BINS, (-histogram.radius, histogram.radius))
    np.testing.assert_array_equal(histogram.counts, exact)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_rules_never_reach_beyond_what_was_seen(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 5000).astype(np.float32)
    histogram = Histogram(counted=True)
    histogram.update(values)
    low, high = histogram.range("minmax")
    for rule in ("percentile", "mse"):
        a, b = histogram.range(rule)
        assert low <= a < 0 < b <= high


def test_mse_beats_min_max_where_there_are_outliers() -> None:
    values = np.random.default_rng(0).standard_t(5, 60_000).astype(np.float32)
    histogram = Histogram(counted=True)
    histogram.update(values)

    def error(rule: Literal["minmax", "mse"]) -> float:
        p = params(*histogram.range(rule), "uint8")
        return float(((p.dequantize(p.quantize(values)) - values) ** 2).mean())

    assert error("mse") < 0.95 * error("minmax")


def test_squared_error_of_a_uniform_distribution() -> None:
    centres = (np.arange(1000) + 0.5) / 1000
    weights_ = np.full(1000, 1 / 1000)
    assert math.isclose(squared_error(centres, weights_, 0.0, 1.0), (1 / 255) ** 2 / 12, rel_tol=1e-9)
    # Clipping at a half: a half of the mass is rounded, a half is off by its distance, whose mean square is (1/2)^3 / 3.
    clipped = squared_error(centres, weights_, 0.0, 0.5)
    assert math.isclose(clipped, (0.5 / 255) ** 2 / 12 / 2 + 1 / 24, rel_tol=1e-3)


def test_not_finite_is_counted() -> None:
    histogram = Histogram(counted=True)
    histogram.update(np.asarray([1.0, np.nan, np.inf], np.float32))
    assert histogram.extremes.nonfinite == 2 and histogram.counts.sum() == 1
