"""Sums of convolutions of different tensors: one convolution of both side by side where that pays, else as they are."""

from __future__ import annotations

import numpy as np
import pytest

from tests.nets import Net, feed_for, ops_of
from tests.oracle import evaluate
from tests.passes.fold.moved import Build, x
from tests.passes.fold.test_fold import fold, is_refused


def z(net: Net, c: int = 4, *sizes: int | str) -> str:
    return net.input(1, c, *(sizes or (9, 9)), name="z")


def added(net: Net, a: str, b: str) -> str:
    return net.op("Relu", net.op("Add", a, b))


PAYS: dict[str, Build] = {
    "1x1": lambda n: added(n, n.conv(x(n), 16, 1), n.conv(z(n), 16, 1)),
    "unequal widths": lambda n: added(n, n.conv(x(n), 16, 1), n.conv(z(n, 3), 16, 1)),
    "one bias": lambda n: added(n, n.conv(x(n), 16, 1, bias=False), n.conv(z(n), 16, 1)),
    "padded 3x3 with a stride": lambda n: added(n, *(n.conv(i, 32, pad=1, strides=[2, 2]) for i in (x(n), z(n)))),
    "dilated": lambda n: added(n, *(n.conv(i, 32, dilations=[2, 2]) for i in (x(n), z(n)))),
    "1-D": lambda n: added(n, *(n.conv(i, 16, (3,)) for i in (n.input(1, 4, 9), z(n, 4, 9)))),
    "3-D": lambda n: added(n, *(n.conv(i, 16, (1, 1, 1)) for i in (n.input(1, 4, 5, 5, 5), z(n, 4, 5, 5, 5)))),
    "open sizes of the same name": lambda n: added(n, *(n.conv(i, 16, 1) for i in (n.input(1, 4, "h", "w"), z(n, 4, "h", "w")))),
    "behind activations": lambda n: added(n, n.conv(n.op("Relu", i := x(n)), 16, 1), n.conv(n.op("Sigmoid", i), 16, 1)),
    "batch norms first": lambda n: added(n, n.bn(n.conv(x(n), 16, 1)), n.bn(n.conv(z(n), 16, 1))),
}


@pytest.mark.parametrize("name", PAYS)
def test_side_by_side_where_it_pays(name: str) -> None:
    net = Net(seed=len(name))
    proto = net.model(PAYS[name](net))
    folded, outcome = fold(proto)
    feed = feed_for(proto)
    assert [op for op in ops_of(folded) if op not in ("Relu", "Sigmoid")] == ["Concat", "Conv"]
    assert "different-roots" not in {r.code for r in outcome.refusals}
    for before, after in zip(evaluate(proto, feed), evaluate(folded, feed), strict=True):
        assert np.abs(before - after).max() <= 1e-6 * np.abs(before).max()


REFUSED: dict[str, Build] = {
    "a skip: the identity would be multiplied out": lambda n: added(n, n.conv(x(n), 16, 1), z(n, 16)),
    "as many channels copied as written": lambda n: added(n, n.conv(x(n, 8), 16, 1), n.conv(z(n, 8), 16, 1)),
    "kernels of different size": lambda n: added(n, n.conv(x(n), 16, 3, pad=1), n.conv(z(n), 16, 1)),
    "different strides": lambda n: added(n, n.conv(x(n, 4, 5), 16, 1), n.conv(z(n), 16, 1, strides=[2, 2])),
    "groups, which the other would fill with zeros": lambda n: added(n, n.conv(x(n), 16, 1, group=2), n.conv(z(n), 16, 1)),
    "one is broadcast over the channels": lambda n: added(n, n.conv(x(n), 16, 1), n.conv(z(n), 1, 1)),
    "one is broadcast over the pixels": lambda n: added(n, n.conv(x(n), 16, 1), n.conv(z(n, 4, 1, 1), 16, 1)),
    "open sizes of different names": lambda n: added(
        n, *(n.conv(i, 16, 1) for i in (n.input(1, 4, "h", "w"), z(n, 4, "p", "q")))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_as_it_is_where_it_does_not_pay(name: str) -> None:
    is_refused(REFUSED[name], "different-roots", name)


@pytest.mark.parametrize("how", ["returned", "read twice"])
def test_as_it_is_where_one_of_them_is_needed(how: str) -> None:
    net = Net()
    first = net.conv(x(net), 16, 1)
    top = added(net, first, net.conv(z(net), 16, 1))
    proto = net.model(top, first if how == "returned" else net.op("Sigmoid", first))
    assert ops_of(fold(proto)[0]) == ops_of(proto)
