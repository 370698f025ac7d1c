"""Which tensors around Concat share a scale."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
import pytest

import graphopt
from graphopt.passes.quant.unify import Range, unify
from graphopt.passes.quant.units import Bounds, Unit
from tests.nets import Net, feed_for, outputs_of

TENSORS: dict[str, gs.Variable] = {}


def unit(op: str, inputs: str, output: str) -> Unit:
    """``inputs``: names with blanks between them."""
    read = [TENSORS.setdefault(name, gs.Variable(name, np.float32)) for name in inputs.split()]
    head = gs.Node(op, name=output, inputs=read, outputs=[TENSORS.setdefault(output, gs.Variable(output, np.float32))])
    return Unit(head, [head], output, data=read)


def unified(units: list[Unit], ranges: Mapping[str, Range], bounds: Mapping[str, Bounds] = {}, fixed: str = "") -> dict[str, Range]:
    readers = Counter(name for one in units for name in {t.name for t in one.data})
    return unify(units, ranges, lambda tensor: str(tensor.name), bounds, readers, fixed.split())


CONCAT = [unit("Concat", "a b", "c"), unit("Conv", "c", "d")]
RELU = {"b": Bounds(low=0.0)}
DENSE = [
    *(unit("Conv", "a", "p"), unit("Concat", "a p", "c1"), unit("Conv", "c1", "q"), unit("Concat", "c1 q", "c2")),
    *(unit("Conv", "c2", "r"), unit("Concat", "c2 r", "c3"), unit("Conv", "c3", "d")),
]


@pytest.mark.parametrize(
    ("units", "ranges", "bounds", "fixed", "wanted"),
    [
        pytest.param(CONCAT, {"a": (-1, 1), "b": (-9, 9), "c": (-8, 8)}, {}, "", "a=c b=c", id="nobody else reads them"),
        pytest.param(CONCAT, {"a": (-1, 1), "b": (0, 9), "c": (-1, 8)}, RELU, "", "a=c", id="an absorbed Relu"),
        pytest.param(CONCAT, {"a": (0, 1), "b": (0, 9), "c": (0, 8)}, RELU, "", "a=c b=c", id="an absorbed Relu among its like"),
        pytest.param(CONCAT, {"a": (0, 6), "b": (0, 9), "c": (0, 8)}, {"a": Bounds(0, 6)}, "", "b=c", id="an absorbed Clip"),
        pytest.param(CONCAT, {"a": (-1, 1), "b": (-9, 9), "c": (-8, 8)}, {}, "b", "a=c", id="a given scale"),
        pytest.param(CONCAT, {"a": (-1, 1), "b": (-9, 9), "c": (-8, 8)}, {}, "c", "", id="a given scale of the result"),
        pytest.param(
            [*CONCAT, unit("Conv", "a", "e")], {"a": (-1, 1), "b": (-9, 9), "c": (-8, 8)}, {}, "", "b=c", id="narrow, and read"
        ),
        pytest.param(
            [*CONCAT, unit("Conv", "a", "e")], {"a": (-7, 8), "b": (-9, 9), "c": (-8, 8)}, {}, "", "a=c b=c", id="wide, and read"
        ),
        pytest.param(
            [unit("Concat", "a b", "c"), unit("Concat", "c e", "f"), unit("Conv", "f", "g")],
            {"a": (-1, 1), "b": (-2, 2), "c": (-2, 2), "e": (-9, 9), "f": (-9, 9)},
            {},
            "",
            "a=c b=c c=f e=f",
            id="one within another",
        ),
        pytest.param([unit("Concat", "a a", "c"), unit("Conv", "c", "d")], {"a": (-1, 1), "c": (-2, 2)}, {}, "", "a=c", id="twice"),
        pytest.param(
            DENSE,
            {"a": (-4, 4), "p": (0, 1), "c1": (-3.8, 4), "q": (0, 2), "c2": (-3.9, 4), "r": (0, 1), "c3": (-3.7, 4)},
            {n: Bounds(low=0.0) for n in "pqr"},
            "",
            "a=c1 c1=c2 c2=c3",
            id="a dense block",
        ),
    ],
)
def test_who_shares(units: list[Unit], ranges: dict[str, Range], bounds: dict[str, Bounds], fixed: str, wanted: str) -> None:
    found = unified(units, ranges, bounds, fixed)
    pairs = {frozenset(pair.split("=")) for pair in wanted.split()}
    for a, b in pairs:
        assert found[a] == found[b]
    joined = {name for pair in pairs for name in pair}
    assert {n: r for n, r in found.items() if n not in joined} == {n: r for n, r in ranges.items() if n not in joined}


def test_a_range_that_is_shared_holds_both_of_what_others_read() -> None:
    found = unified([*CONCAT, unit("Conv", "a", "e")], {"a": (-7, 8), "b": (-9, 9), "c": (-8, 7)})
    assert found["a"] == found["c"] == (-8, 8)


def test_twice_the_chain_takes_about_twice_the_time() -> None:
    def seconds(count: int) -> float:
        units = [unit("Concat", f"c{i} x{i}", f"c{i + 1}") for i in range(count)]
        ranges: dict[str, Range] = {name: (-1.0, 1.0) for i in range(count + 1) for name in (f"c{i}", f"x{i}")}
        start = time.process_time()
        found = unified(units, ranges)
        taken = time.process_time() - start
        assert set(found.values()) == {(-1.0, 1.0)}
        return taken

    small, large = (min(seconds(n) for _ in range(5)) for n in (10_000, 40_000))
    assert large < 4 * 2.6 * small


@pytest.mark.parametrize("how", ["output", "read in float"])
def test_an_operand_that_others_see_keeps_its_own_scale(how: str) -> None:
    """A narrow operand beside a wide one: what leaves the graph, or a float operator reads, is as fine as without the Concat."""
    net = Net()
    x = net.conv(net.input(1, 16, 32, 32), 32, pad=1)
    narrow = net.op("Conv", x, net.const(net.random(32, 32, 3, 3, low=-0.0005, high=0.0005)), pads=[1] * 4)
    joined = net.op("Concat", narrow, net.conv(x, 32, pad=1), axis=1)
    net.widths[joined] = 64
    seen = narrow if how == "output" else net.op("Sin", narrow)
    proto = net.model(net.conv(net.conv(joined, 64, pad=1), 16, pad=1), seen)
    feeds = [feed_for(proto, seed) for seed in range(4)]
    made = graphopt.run(proto, "quant:rounding=nearest:equalize=off:allow-slower", data=feeds, timing=False).model.proto()
    wanted, found = outputs_of(proto, feeds[0])[1], outputs_of(made, feeds[0])[1]
    assert np.abs(found - wanted).max() < np.ptp(wanted) / 30
