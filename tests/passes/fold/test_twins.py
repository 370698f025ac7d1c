"""Every named block once more, with a tensor in its middle that somebody else needs: then it is not one operator any more.

The tensor is what the block's last operator reads. Either the graph returns it as well, or an activation reads it.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.nets import Net, feed_for, ops_of
from tests.oracle import evaluate
from tests.passes.fold.moved import MOVED, Build
from tests.passes.fold.test_fold import FOLDED, fold
from tests.passes.fold.test_grouped import FOLDED as GROUPED

BLOCKS: dict[str, Build] = {
    **{name: build for name, (build, _) in FOLDED.items()},
    **{f"moved: {name}": build for name, (build, _) in MOVED.items()},
    **{f"grouped: {name}": build for name, (build, _, _) in GROUPED.items()},
}

OTHERWISE: dict[str, list[str]] = {
    "1x1 with bias then padded 3x3, size known": ["Add", "Add", "Conv"],
    "mul-convtranspose": ["ConvTranspose", "Mul"],
    "moved: depthwise conv-slice": ["Conv", "Slice"],
    "moved: anchor, dcr, concat": ["Conv", "DepthToSpace"],
    "moved: anchor, crd, gather": ["Conv", "DepthToSpace"],
}
"""What that tensor stands in the way of only in part, or not at all."""

UNTOLD = {"scales and shifts alone", "moved: shuffle alone"}
"""Blocks without a kernel are left alone without a word."""


def middle(net: Net, top: str) -> str:
    """The first operand of the last operator that another operator makes."""
    made = {name for node in net.nodes for name in node.output}
    last = next(node for node in net.nodes if top in node.output)
    return next(name for name in last.input if name in made)


@pytest.mark.parametrize("needed", ["graph-output", "extra-consumer"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_tensor_that_somebody_needs_stays(name: str, needed: str) -> None:
    net = Net(seed=len(name))
    top = BLOCKS[name](net)
    inner = middle(net, top)
    proto = net.model(top, inner if needed == "graph-output" else net.op("Sigmoid", inner))
    folded, outcome = fold(proto, simplify=True)
    feed = feed_for(proto)
    for before, after in zip(evaluate(proto, feed), evaluate(folded, feed), strict=True):
        assert np.abs(before - after).max() <= 1e-6 * np.abs(before).max()
    extra = ["Sigmoid"] if needed == "extra-consumer" else []
    if name in OTHERWISE:
        assert ops_of(folded) == sorted(OTHERWISE[name] + extra)
    elif name in UNTOLD:
        assert ops_of(folded) == ops_of(proto)
    else:
        assert needed in {r.code for r in outcome.refusals}, ops_of(folded)
