"""The latency rule on a machine that other work disturbs: no alarm over a model against itself, and none missed of a slower one."""

from __future__ import annotations

import random

import onnx
import pytest

from graphopt.runtime.ratio import CONFIDENCE, median_interval, time_ratio
from tests.nets import Net, feed_for

LIMIT = 1.05


def stack(convolutions: int) -> onnx.ModelProto:
    """Equal convolutions, one after the other: twelve take 1.2 times as long as ten."""
    net = Net()
    x = net.input(1, 32, 28, 28)
    for _ in range(convolutions):
        x = net.op("Relu", net.conv(x, 32, pad=1))
    return net.model(x)


def test_the_interval_of_the_median_covers_it() -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(2000):
        low, high = median_interval(sorted(rng.lognormvariate(0.0, 0.3) for _ in range(61)), CONFIDENCE)
        covered += low <= 1.0 <= high
    assert covered / 2000 >= 0.98


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_few_values_give_their_extremes(count: int) -> None:
    values = sorted(float(i) for i in range(count))
    assert median_interval(values, CONFIDENCE) == (values[0], values[-1])


@pytest.mark.slow
def test_a_model_is_not_slower_than_itself() -> None:
    one, feed = stack(10), feed_for(stack(10))
    alarms = [time_ratio(one, one, feed, seconds=4.0) for _ in range(50)]
    assert sum(ratio.low > LIMIT for ratio in alarms) <= 2, alarms


@pytest.mark.slow
def test_a_slower_model_is_found() -> None:
    fast, slow, feed = stack(10), stack(12), feed_for(stack(10))
    found = [time_ratio(slow, fast, feed, seconds=4.0) for _ in range(50)]
    assert sum(ratio.low > LIMIT for ratio in found) == 50, [ratio for ratio in found if ratio.low <= LIMIT]
