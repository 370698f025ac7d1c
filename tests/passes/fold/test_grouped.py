"""fold on grouped convolutions, and on blocks that are small variations of those in ``test_fold``.

Outputs are held against our own interpreter in float64, which knows groups in every operator; groups must be kept, so the
multiply-accumulates are part of what is expected. Beside each rule stands the twin for which it must not be applied.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.analysis import Analyses, Cost
from graphopt.model import Model
from tests.nets import Net, feed_for, ops_of
from tests.oracle import evaluate
from tests.passes.fold.moved import Build, deconv, ints, nearest, sliced, upscaled, x
from tests.passes.fold.test_fold import fold, is_refused

PIXELS = 81
"""Of the image of ``x``: 9 x 9."""


def macs_of(proto: onnx.ModelProto) -> int:
    return Analyses(Model.load(proto)).get(Cost()).macs


def both(net: Net, kernel: int, group: int) -> str:
    """Two convolutions of one input, added."""
    i = x(net, 8)
    return net.op("Add", net.conv(i, 8, kernel, pad=kernel // 2, group=group), net.conv(i, 8, 1, group=group))


def mobileone(net: Net, group: int) -> str:
    """MobileOne's block (Vasu et al. 2023): several equal branches, a 1x1 and the input, each behind a batch norm of its own."""
    i = x(net, 8)
    parts = [net.bn(net.conv(i, 8, 3, pad=1, group=group, bias=False)) for _ in range(4)]
    parts += [net.bn(net.conv(i, 8, 1, group=group, bias=False)), net.bn(i)]
    return net.op("Sum", *parts)


def acnet(net: Net, group: int) -> str:
    i = x(net, 8)
    parts = [((3, 3), [1, 1, 1, 1]), ((1, 3), [0, 1, 0, 1]), ((3, 1), [1, 0, 1, 0])]
    return net.op("Sum", *(net.bn(net.conv(i, 8, k, pads=p, group=group, bias=False)) for k, p in parts))


def ecb(net: Net) -> str:
    """Edge-oriented block (Zhang et al. 2021): a 3x3, a 1x1 then a 3x3, and a 1x1 then a Sobel filter of each channel."""
    i = x(net)
    sobel = np.asarray([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    edges: list[str] = []
    for mask in (sobel, sobel.T):
        scaled = net.const(net.random(4, 1, 1, 1) * mask)
        y = net.conv(i, 4, 1, pad=1, bias=False)
        edges.append(net.op("Conv", y, scaled, net.const(net.random(4)), group=4))
    expanded = net.conv(net.conv(i, 16, 1, pad=1), 4, 3)
    return net.op("Sum", net.conv(i, 4, 3, pad=1), expanded, *edges)


def orepa(net: Net) -> str:
    """Online re-parametrization (Hu et al. 2022): branches are added as weights, in the graph."""
    w3, w1, scale = net.const(net.random(6, 4, 3, 3)), net.const(net.random(6, 4, 1, 1)), net.const(net.random(6, 1, 1, 1))
    padded = net.op("Pad", w1, ints(net, 0, 0, 1, 1, 0, 0, 1, 1))
    weight = net.op("Add", net.op("Mul", w3, scale), padded)
    y = net.op("Conv", x(net), weight, pads=[1, 1, 1, 1])
    return net.bn_of(y, 6)


def repvit(net: Net) -> str:
    """RepViT's token mixer (Wang et al. 2024): depthwise 3x3 and 1x1 and the input, then a batch norm of the sum."""
    i = x(net, 8)
    total = net.op("Add", net.op("Add", net.bn(net.conv(i, 8, 3, pad=1, group=8, bias=False)), net.conv(i, 8, 1, group=8)), i)
    return net.bn(total)


def squared(net: Net, y: str, width: int, group: int = 1) -> str:
    return net.conv(net.conv(y, 4 * width, 1, group=group, pad=1), width, 3, group=group)


FOLDED: dict[str, tuple[Build, list[str], int]] = {
    "conv-bn": (lambda n: n.bn(n.conv(x(n, 8), 8, pad=1, group=2)), ["Conv"], 8 * 4 * 9 * PIXELS),
    "bn-conv": (lambda n: n.conv(n.bn(x(n, 8)), 8, 1, group=4), ["Conv"], 8 * 2 * PIXELS),
    "conv-mul-add": (
        lambda n: n.op("Add", n.op("Mul", n.conv(x(n, 8), 8, 1, group=2), n.const(n.random(8, 1, 1))), n.const(n.random(8, 1, 1))),
        ["Conv"],
        8 * 4 * PIXELS,
    ),
    "mul-conv": (
        lambda n: n.conv(n.op("Mul", x(n, 8), n.const(n.random(8, 1, 1))), 8, pad=1, group=8), ["Conv"], 8 * 9 * PIXELS,
    ),
    "pad-conv": (
        lambda n: n.conv(n.op("Pad", x(n, 8), ints(n, 0, 0, 1, 1, 0, 0, 1, 1)), 8, group=2), ["Conv"], 8 * 4 * 9 * PIXELS,
    ),
    "conv-1x1": (lambda n: n.conv(n.conv(x(n, 8), 32, pad=1, group=2), 8, 1, group=2), ["Conv"], 8 * 4 * 9 * PIXELS),
    "1x1-conv": (lambda n: squared(n, x(n, 8), 8, 2), ["Conv"], 8 * 4 * 9 * PIXELS),
    "kxk-kxk valid": (lambda n: n.conv(n.conv(x(n, 8), 32, 3, group=2, pad=2), 8, 3, group=2), ["Conv"], 8 * 4 * 25 * PIXELS),
    "groups of groups": (lambda n: n.conv(n.conv(x(n, 8), 32, 3, pad=1, group=4), 8, 1, group=2), ["Conv"], 8 * 4 * 9 * PIXELS),
    "conv + x": (lambda n: n.op("Add", n.conv(i := x(n, 8), 8, pad=1, group=2), i), ["Conv"], 8 * 4 * 9 * PIXELS),
    "x + a * conv(x)": (
        lambda n: n.op("Add", i := x(n, 8), n.op("Mul", n.conv(i, 8, pad=1, group=8), n.const(0.2))), ["Conv"], 8 * 9 * PIXELS,
    ),
    "conv || conv": (lambda n: both(n, 3, 2), ["Conv"], 8 * 4 * 9 * PIXELS),
    "conv || conv, plain": (lambda n: both(n, 5, 1), ["Conv"], 8 * 8 * 25 * PIXELS),
    "mobileone": (lambda n: mobileone(n, 8), ["Conv"], 8 * 9 * PIXELS),
    "mobileone, plain": (lambda n: mobileone(n, 1), ["Conv"], 8 * 8 * 9 * PIXELS),
    "acnet": (lambda n: acnet(n, 4), ["Conv"], 8 * 2 * 9 * PIXELS),
    "ecb": (ecb, ["Conv"], 4 * 4 * 9 * PIXELS),
    "orepa": (orepa, ["Conv"], 6 * 4 * 9 * PIXELS),
    "repvit": (repvit, ["Conv"], 8 * 9 * PIXELS),
    "depthwise then pointwise that pays": (
        lambda n: n.conv(n.conv(x(n, 2), 32, 3, pad=1, group=2), 2, 1), ["Conv"], 2 * 2 * 9 * PIXELS,
    ),
    "conv-averagepool": (
        lambda n: n.op("AveragePool", n.conv(x(n, 8, 10), 8, 3, group=2, pad=1), kernel_shape=[2, 2], strides=[2, 2]),
        ["Conv"],
        8 * 4 * 16 * 25,
    ),
    "convtranspose-bn": (lambda n: n.bn(transposed(n, x(n, 8), 2)), ["ConvTranspose"], 8 * 4 * 16 * PIXELS),
    "1x1-convtranspose": (
        lambda n: transposed(n, n.conv(x(n, 8), 32, 1, group=2, bias=False), 2), ["ConvTranspose"], 8 * 4 * 16 * PIXELS,
    ),
    "convtranspose-1x1": (
        lambda n: n.conv(transposed(n, x(n, 8), 2, width=32), 8, 1, group=2), ["ConvTranspose"], 8 * 4 * 16 * PIXELS,
    ),
    "conv-slice of whole groups": (
        lambda n: sliced(n, n.conv(x(n, 8), 16, pad=1, group=4), 8, 16), ["Conv", "Slice"], 8 * 2 * 9 * PIXELS,
    ),
    "conv-d2s-bn": (
        lambda n: n.bn(upscaled(n, n.conv(x(n, 8), 16, pad=1, group=2), 2, "CRD")), ["Conv", "DepthToSpace"], 16 * 4 * 9 * PIXELS,
    ),
    "nearest-1x1": (lambda n: n.conv(nearest(n, x(n, 8), 2), 8, 1, group=2), ["Conv", "Resize"], 8 * 4 * PIXELS),
    "concat-1x1": (
        lambda n: n.conv(cat(n, n.conv(i := x(n, 8), 8, 3, pad=1), i), 4, 1), ["Conv"], 4 * 8 * 9 * PIXELS,
    ),
}  # fmt: skip


def transposed(net: Net, y: str, group: int, width: int = 8) -> str:
    weight = net.const(net.random(net.widths[y], width // group, 4, 4))
    out = net.op("ConvTranspose", y, weight, strides=[2, 2], pads=[1, 1, 1, 1], group=group)
    net.widths[out] = width
    return out


def cat(net: Net, *parts: str) -> str:
    out = net.op("Concat", *parts, axis=1)
    net.widths[out] = sum(net.widths[p] for p in parts)
    return out


@pytest.mark.parametrize("name", FOLDED)
def test_a_block_becomes_its_plain_form_and_keeps_its_groups(name: str) -> None:
    build, expected, macs = FOLDED[name]
    net = Net(seed=len(name))
    proto = net.model(build(net))
    folded, _ = fold(proto, simplify=True)
    feed = feed_for(proto)
    assert (ops_of(folded), macs_of(folded)) == (expected, macs)
    for before, after in zip(evaluate(proto, feed), evaluate(folded, feed), strict=True):
        assert np.abs(before - after).max() <= 1e-6 * np.abs(before).max()


REFUSED: dict[str, tuple[Build, str]] = {
    "1x1-conv, bias before the pad": (
        lambda n: n.conv(n.conv(x(n, 8, "s"), 32, 1, group=2), 8, pad=1, group=2), "bias-under-padding",
    ),
    "bn-conv, shift before the pad": (lambda n: n.conv(n.bn(x(n, 8, "s")), 8, pad=1, group=8), "bias-under-padding"),
    "conv-conv, cut off by the pad": (
        lambda n: n.conv(n.conv(x(n, 8), 32, group=2, bias=False), 8, 1, pad=1, group=2), "border-continues",
    ),
    "kxk-kxk valid at equal width": (lambda n: n.conv(n.conv(x(n, 8, 32), 8, group=2), 8, group=2), "cost"),
    "grouped, then across the groups": (lambda n: n.conv(n.conv(x(n, 8), 8, group=8), 8, 1), "cost"),
    "grouped next to dense": (lambda n: n.op("Add", n.conv(i := x(n, 8), 8, 3, pad=1, group=8), n.conv(i, 8, 1)), "cost"),
    "1x1-convtranspose, bias before it": (
        lambda n: deconv(n, n.conv(x(n, 8, "s"), 32, 1), 8, 4, 2, pads=[1, 1, 1, 1]), "bias-under-padding",
    ),
    "another stride": (lambda n: n.op("Add", n.conv(i := x(n, 8, 1), 8, 1, strides=[2, 2]), n.conv(i, 8, pad=1)), "strides"),
    "another input": (lambda n: n.op("Add", n.conv(x(n, 8), 8, pad=1), n.input(1, 8, 9, 9, name="z")), "different-roots"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_its_twin_is_left_alone(name: str) -> None:
    is_refused(*REFUSED[name], name)
