"""What fold costs: maps that are not worth it are not made, whatever the size of the image that they see; and odd sizes."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from graphopt.analysis import Analyses
from graphopt.analysis.affine import Affine
from graphopt.model import Model
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


SHUFFLED = 16_000
"""Channels. The matrix of a permutation of them takes two gigabytes."""


@pytest.mark.parametrize("before", ["Gather", "Conv"])
def test_selections_are_not_written_as_matrices(before: str) -> None:
    net = Net()
    order = net.const(net.rng.permutation(SHUFFLED))
    y = net.conv(net.input(1, 1, 2, 2), SHUFFLED, 1) if before == "Conv" else net.input(1, SHUFFLED, 2, 2)
    y = y if before == "Conv" else net.op("Gather", y, order, axis=1)
    proto = net.model(net.op("Gather", y, order, axis=1))
    peak, folded, _ = peak_of(proto)
    assert ops_of(folded) == [before]
    feed = feed_for(proto)
    np.testing.assert_array_equal(outputs_of(folded, feed)[0], outputs_of(proto, feed)[0])
    assert peak < LIMIT


FAR = 2**24

REACHING: dict[str, Callable[[Net], str]] = {
    "taps far apart": lambda n: n.conv(n.conv(n.input(1, 1, 9), 1, (1,), bias=False), 1, (3,), pad=FAR, dilations=[FAR]),
    "a wide border": lambda n: n.op("Pad", n.conv(n.input(1, 1, 9), 1, (3,)), n.const(np.asarray([0, 0, FAR, 0, 0, FAR]))),
    "one element becomes many": lambda n: n.op(
        "ConvTranspose", n.conv(n.input(1, 1, 1), 1, (1,)), n.const(n.random(1, 1, 3)), strides=[FAR]
    ),
    "one element is copied often": lambda n: n.op(
        "Resize", n.conv(n.input(1, 1, 1), 1, (1,)), "", n.const(np.asarray([1.0, 1.0, FAR], np.float32)),
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    ),
    "one channel is expanded to many": lambda n: n.op("Expand", n.input(1, 1, 1, 1), n.const(np.asarray([1, FAR, 1, 1]))),
    "a mean of many, behind phases": lambda n: n.op(
        "AveragePool", n.op("ConvTranspose", n.input(1, 1, FAR // 2), n.const(n.random(1, 1, 2)), strides=[2]), kernel_shape=[FAR]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REACHING)
def test_distances_and_factors_cost_nothing(name: str) -> None:
    """A step for each of them would take ten seconds and more."""
    net = Net()
    proto = net.model(REACHING[name](net))
    model = Model.load(proto)
    start = time.process_time()
    Affine().compute(Analyses(model))
    assert time.process_time() - start < 1.0


NOTHING: dict[str, Callable[[Net], str]] = {
    "no channels": lambda n: n.op("Add", n.op("Mul", n.input(1, 0, 4, 4), n.const(2.0)), n.const(1.0)),
    "no channels, no axes": lambda n: n.op(
        "Reshape", n.op("Mul", n.op("GlobalAveragePool", n.input(1, 0, 4, 4)), n.const(2.0)), n.const(np.asarray([1, -1]))
    ),
    "nothing to scatter": lambda n: n.op(
        "ScatterND", n.bn(n.input(1, 4, 3, 3)), n.const(np.zeros((0, 4), np.int64)), n.const(np.zeros(0))
    ),
    "no images": lambda n: n.conv(n.conv(n.input(0, 2, 9, 9), 16, 1), 2, pad=1),
    "no rows": lambda n: n.conv(n.conv(n.input(1, 2, 0, 9), 16, 1), 2, pad=1),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_empty_stays_so(name: str) -> None:
    net = Net()
    proto = net.model(NOTHING[name](net))
    folded, _ = fold(proto)
    assert [o.type.tensor_type.shape for o in folded.graph.output] == [o.type.tensor_type.shape for o in proto.graph.output]
    assert len(folded.graph.node) <= len(proto.graph.node)
