"""A mask applied before folding gives the kernels that it gives behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.passes.prune import Prune
from graphopt.pipeline import Context, Pass
from tests.nets import Net, ops_of

KEPT = np.asarray([1, 0, 1, 1, 0, 1, 1, 1], bool)


def sequence_with_skip() -> onnx.ModelProto:
    """stem, Relu, then expand - 3x3 - reduce plus its input, Relu, head: the skip and the sequence share their channels."""
    net = Net(5, np.float64)
    stem = net.op("Relu", net.conv(net.input(1, 3, 9, 9), 8, 3, pad=1), out="stem")
    net.widths["stem"] = 8
    body = net.conv(net.conv(net.conv(stem, 16, 1, bias=False), 16, 3, pad=1, bias=False), 8, 1)
    joined = net.op("Relu", net.op("Add", body, stem, out="joined"))
    net.widths[joined] = 8
    return net.model(net.conv(joined, 4, 1))


def after(proto: onnx.ModelProto, *passes: Pass) -> onnx.ModelProto:
    model = Model.load(proto)
    context = Context(model.copy())
    for one in passes:
        one.run(model, context)
    return model.proto()


def weights(proto: onnx.ModelProto) -> list[np.ndarray]:
    """Kernels and biases of the convolutions, in their order."""
    values = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    return [values[name] for node in proto.graph.node if node.op_type == "Conv" for name in node.input[1:]]


def test_prune_then_fold_equals_fold_then_prune(tmp_path: Path) -> None:
    """Folding takes the skip into the kernel and parts what it tied, so the mask names both ends; before, they are one group."""
    masks = tmp_path / "masks.npz"
    np.savez(masks, stem=KEPT, joined=KEPT)
    proto = sequence_with_skip()
    prune, fold = Prune(masks=masks, compensate=False), Fold(simplify=False)
    one, other = after(proto, prune, fold), after(proto, fold, prune)
    assert ops_of(one) == ops_of(other) == ["Conv", "Conv", "Conv", "Relu", "Relu"]
    assert [w.shape for w in weights(one)] == [(6, 3, 3, 3), (6,), (6, 6, 3, 3), (6,), (4, 6, 1, 1), (4,)]
    for a, b in zip(weights(one), weights(other), strict=True):
        assert np.abs(a - b).max() <= 1e-12


@pytest.mark.parametrize("named", ["stem", "joined", "inside"])
def test_a_mask_of_the_original_graph_serves_the_folded_one(tmp_path: Path, named: str) -> None:
    """Whichever tensor of the group it names, and even if that is inside the block that was folded."""
    masks = tmp_path / "masks.npz"
    np.savez(masks, **{named: KEPT})
    proto = sequence_with_skip()
    next(n for n in proto.graph.node if n.op_type == "Add").output[0] = "inside"
    next(n for n in proto.graph.node if n.input[0] == "joined").input[0] = "inside"
    next(n for n in proto.graph.node if n.input[0] == "inside").output[0] = "joined"
    last = next(n for n in proto.graph.node if n.output[0] == proto.graph.output[0].name)
    last.input[0] = "joined"
    prune, fold = Prune(masks=masks, space="original", compensate=False), Fold(simplify=False)
    one, other = after(proto, prune, fold), after(proto, fold, prune)
    assert [w.shape for w in weights(other)] == [(6, 3, 3, 3), (6,), (6, 6, 3, 3), (6,), (4, 6, 1, 1), (4,)]
    for a, b in zip(weights(one), weights(other), strict=True):
        assert np.abs(a - b).max() <= 1e-12
