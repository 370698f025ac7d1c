"""What fold costs: maps that are not worth it are not made, whatever the size of the image that they see."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from graphopt.pipeline import Outcome
from tests.nets import Net, feed_for, ops_of, outputs_of
from tests.passes.fold.test_fold import error, fold

WIDE = 224
LIMIT = 2**26
"""Bytes. A kernel over the whole image would take 400 million."""


def squeezed(net: Net) -> str:
    """The squeeze of a squeeze-excite block: a mean of the whole image, then a matrix."""
    return net.conv(net.op("GlobalAveragePool", net.input(1, 64, WIDE, WIDE)), 16, 1)


def averaged_features(net: Net) -> str:
    """As one kernel it would take fewer multiply-accumulates than the 3x3, and 226 * 226 / 9 times its weights."""
    return net.op("GlobalAveragePool", net.conv(net.input(1, 32, WIDE, WIDE), 32, 3, pad=1))


def averaged_then_reduced(net: Net) -> str:
    return net.conv(net.op("GlobalAveragePool", net.conv(net.input(1, 16, WIDE, WIDE), 64, 1)), 4, 1)


def averaged_then_padded(net: Net) -> str:
    y = net.conv(net.op("GlobalAveragePool", net.input(1, 64, WIDE, WIDE)), 64, 1)
    return net.conv(y, 4, 3, pad=1)


def peak_of(proto: onnx.ModelProto) -> tuple[int, onnx.ModelProto, Outcome]:
    tracemalloc.start()
    folded, outcome = fold(proto)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, folded, outcome


KEPT: dict[str, Callable[[Net], str]] = {
    "a mean, then a matrix": squeezed,
    "a 3x3, then a mean": averaged_features,
}


@pytest.mark.parametrize("name", KEPT)
def test_nothing_is_composed_over_a_whole_image(name: str) -> None:
    net = Net()
    proto = net.model(KEPT[name](net))
    peak, folded, outcome = peak_of(proto)
    assert ops_of(folded) == ops_of(proto)
    assert outcome.rewrites == []
    assert peak < LIMIT


def test_a_mean_between_matrices_is_one_of_each() -> None:
    net = Net()
    proto = net.model(averaged_then_reduced(net))
    folded, _ = fold(proto)
    feed = feed_for(proto)
    assert ops_of(folded) == ["Conv", "GlobalAveragePool"]
    assert error(folded, proto, feed) <= 2 * error(proto, proto, feed) + 1e-6


def test_whether_a_bias_is_rounding_is_found_without_kernels() -> None:
    """It is asked where padding follows; the mean before it is not multiplied into the matrix for that."""
    net = Net()
    proto = net.model(averaged_then_padded(net))
    peak, folded, _ = peak_of(proto)
    feed = feed_for(proto)
    assert ops_of(folded) == ["Conv", "GlobalAveragePool"]
    assert error(folded, proto, feed) <= 2 * error(proto, proto, feed) + 1e-6
    assert peak < LIMIT


def test_the_gaps_of_a_dilated_kernel_take_no_room() -> None:
    """With its gaps the kernel of this atrous convolution has 2 * 10**8 elements, a gigabyte and a half."""
    net = Net()
    proto = net.model(net.bn(net.conv(net.input(1, 64, 65, 65), 64, 3, pad=108, dilations=[108, 108])))
    peak, folded, _ = peak_of(proto)
    assert ops_of(folded) == ["Conv"]
    feed = feed_for(proto)
    np.testing.assert_allclose(outputs_of(folded, feed)[0], outputs_of(proto, feed)[0], rtol=0, atol=1e-4)
    assert peak < LIMIT
