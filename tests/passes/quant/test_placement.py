"""The minimum cut is the cheapest placement: against trying every placement of small random networks with random costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.analysis import Analyses, Shapes
from graphopt.model import Model
from graphopt.passes.quant.placement import Placer
from graphopt.passes.quant.units import Unit, UnitBuilder
from graphopt.target import Cost, CostTable, Target
from graphopt.target.costs import CostRow, Counts
from tests.nets import Net

OPS = ("Conv", "Add", "Sigmoid", "Erf", "MaxPool", "Concat", "MatMul")


def network(seed: int) -> onnx.ModelProto:
    """A random directed acyclic graph of up to eight operators on one shape; Erf has no integer kernel."""
    rng = np.random.default_rng(seed)
    net = Net(seed)
    pool = [net.input(1, 4, 4, 4)]
    for _ in range(int(rng.integers(3, 9))):
        op = OPS[int(rng.integers(len(OPS)))]
        a, b = (pool[int(rng.integers(len(pool)))] for _ in range(2))
        if op == "Conv":
            made = net.conv(a, 4, 1)
        elif op == "Add":
            made = net.op("Add", a, b)
        elif op == "Concat":
            made = net.op("Concat", a, b, axis=2)
            made = net.op("MaxPool", made, kernel_shape=[2, 1], strides=[2, 1])
        elif op == "MatMul":
            made = net.op("MatMul", a, net.const(net.random(4, 4)))
        elif op == "MaxPool":
            made = net.op("MaxPool", a, kernel_shape=[1, 1])
        else:
            made = net.op(op, a)
        net.widths[made] = 4
        pool.append(made)
    read = {name for n in net.nodes for name in n.input}
    return net.model(*[t for t in pool[1:] if t not in read])


def random_target(seed: int) -> Target:
    rng = np.random.default_rng(seed)
    rows = {}
    for op in {*OPS, "QuantizeLinear", "DequantizeLinear"}:
        cold = float(rng.integers(0, 3)) if op == "MaxPool" else 0.0
        rows[op, ""] = CostRow(
            op, float_=Cost(element=float(rng.integers(1, 20))), int8=Cost(element=float(rng.integers(1, 20)), cold=cold)
        )
    return replace(Target.load("ort-x86-vnni"), costs=CostTable(rows))


def placer_of(proto: onnx.ModelProto, target: Target) -> tuple[Placer, list[Unit]]:
    model = Model.load(proto)
    facts = Analyses(model).get(Shapes())
    assert target.int8 is not None
    units = UnitBuilder(model, facts, target.int8, lambda node: False).build()
    return Placer(model, units, facts, target, float_head=True), units


def total(placer: Placer, units: Sequence[Unit], inside: dict[str, bool], outside: dict[str, bool]) -> float:
    """The sum that the cut minimises, written out. ``inside``: computes in integers; ``outside``: gives integers."""
    cost = sum(placer.cost(u, "int8" if inside[u.key] else "float") for u in units)
    for edge in placer.edges:
        size = Counts(elements=placer.size(edge.tensor))
        made = edge.producer is not None and outside[edge.producer.key]
        integer = [r for r in edge.readers if inside[r.key] and any(t is edge.tensor for t in r.data)]
        real = edge.leaves or any(r not in integer for r in edge.readers)
        if integer and not made:
            cost += placer.node_cost("QuantizeLinear", size) + sum(placer.cold(r) * size.elements for r in integer)
        if made and real:
            cost += placer.node_cost("DequantizeLinear", size)
    return cost


def cheapest(placer: Placer, units: Sequence[Unit], forced: bool) -> float:
    choices: list[list[tuple[bool, bool]]] = []
    for unit in units:
        allowed = [(False, False)]
        if unit.reason is None:
            allowed = [(True, True)] if forced and unit.kernel else [(False, False), (True, True)]
            if unit.float_output:
                allowed.append((True, False))
        choices.append(allowed)
    return min(
        total(
            placer,
            units,
            {u.key: c[0] for u, c in zip(units, choice, strict=True)},
            {u.key: c[1] for u, c in zip(units, choice, strict=True)},
        )
        for choice in itertools.product(*choices)
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_cut_is_the_cheapest_placement(seed: int, forced: bool) -> None:
    target = random_target(seed)
    placer, units = placer_of(network(seed), target)
    found = placer.solve(forced=forced)
    inside = {u.key: u.key in found.int8 for u in units}
    outside = {u.key: u.key in found.int8 and u.key not in found.float_result for u in units}
    assert found.cost_ns == pytest.approx(cheapest(placer, units, forced))
    assert found.cost_ns == pytest.approx(total(placer, units, inside, outside))


def test_nothing_in_integers_where_they_cost_more() -> None:
    rows = {("*", ""): CostRow("*", float_=Cost(element=1), int8=Cost(element=2))}
    placer, _ = placer_of(network(3), replace(Target.load("ort-x86-vnni"), costs=CostTable(rows)))
    assert placer.place("cost").int8 == frozenset()


def test_auto_does_not_force_kernels_that_make_the_model_slower() -> None:
    rows = {("*", ""): CostRow("*", float_=Cost(element=1), int8=Cost(element=2))}
    placer, _ = placer_of(network(3), replace(Target.load("ort-x86-vnni"), costs=CostTable(rows)))
    assert placer.place("auto").int8 == frozenset()


def excited(between: Sequence[str]) -> onnx.ModelProto:
    """A small gate in the middle of large convolutions, with float operators in it."""
    net = Net()
    x = net.conv(net.input(1, 64, 56, 56), 64, pad=1)
    gate = net.conv(net.op("GlobalAveragePool", x), 8, 1)
    for op in between:
        gate = net.op(op, gate)
    y = net.op("Mul", x, net.conv(gate, 64, 1))
    net.widths[y] = 64
    return net.model(net.conv(net.op("Relu", net.conv(y, 64, pad=1)), 64, pad=1))


@pytest.mark.parametrize("between", [["Sin"], ["Sin", "Cos"], ["Sin", "Cos", "Tanh", "Erf"]], ids=" ".join)
def test_what_kernels_are_behind_is_not_last(between: list[str]) -> None:
    placer, units = placer_of(excited(between), Target.load("ort-x86-vnni"))
    placer.place("auto")
    assert not [u.label for u in units if u.reason is not None and u.reason.code == "head"]


def test_the_last_kernels_are_left_in_float_where_that_is_all_but_free() -> None:
    net = Net()
    x = net.input(1, 64, 56, 56)
    for _ in range(12):
        x = net.conv(x, 64, 5, pad=2)
    placer, units = placer_of(net.model(net.conv(x, 1, 1)), Target.load("ort-x86-vnni"))
    placement = placer.place("auto")
    last = units[-1]
    assert last.reason is not None and last.reason.code == "head"
    assert {u.key for u in units[:-1]} == placement.int8
