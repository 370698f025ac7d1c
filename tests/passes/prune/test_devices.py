"""Devices lead: time by widths, groups that do not pay, budgets of time, what is not faster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphopt.analysis import Analyses, Cost
from graphopt.analysis.channels import Channels
from graphopt.cli.prune import archive
from graphopt.errors import BudgetError
from graphopt.model import Model
from graphopt.passes.prune import Prune, budget
from graphopt.passes.prune.latency import Latency, predicted, sized
from graphopt.passes.prune.probe import probe
from graphopt.passes.prune.realise import realise
from graphopt.passes.prune.reference import masked
from graphopt.pipeline import Context
from graphopt.runtime import Timing
from graphopt.target import Target
from graphopt.target.latency import LatencyTable, Staircase
from tests.nets import Net
from tests.passes.prune.test_budgets import random_net
from tests.passes.prune.test_prune import classifier


def toy_table(model: Model, *, slope: float = 1.0) -> LatencyTable:
    """Times that are multiply-accumulates, in steps of 8 channels; without a slope they do not depend on widths."""
    shapes = {}
    for one in sized(model, Context(model).analyses(model).get(_shapes())):
        widths = (8, 1024)
        depthwise = one.key.grouping == "depthwise"

        def time(i: int, o: int, key: object = one.key) -> float:
            return float(key.macs(i, o)) / 1e4 if slope else 10.0  # type: ignore[attr-defined]

        rows = tuple(tuple(time(i, o) for o in widths) for i in ((8,) if depthwise else widths))
        shapes[one.key] = Staircase(one.key, () if depthwise else widths, widths, rows)
    return LatencyTable(8, 1, 1.0, 0.0, shapes)


def _shapes() -> object:
    from graphopt.analysis import Shapes

    return Shapes()


def context(model: Model, table: LatencyTable | None) -> Context:
    return Context(model, target=replace(Target.load("generic"), latency=table))


@pytest.mark.parametrize("seed", range(6))
def test_the_cost_by_widths_is_the_time_of_the_finished_model(seed: int) -> None:
    model = Model.load(random_net(seed))
    table = toy_table(model)
    graph = Analyses(model).get(Channels())
    groups, rng = list(graph.prunable), np.random.default_rng(seed)
    cost = Latency(graph, groups, table, ())
    counts = [int(rng.integers(g.size)) for g in groups]
    removed = graph.flow.table.marked(np.concatenate([g.units[:n] for g, n in zip(groups, counts, strict=True)]))
    made = realise(masked(graph, removed, {}), graph, removed).model
    assert cost.count(counts) == pytest.approx(predicted(made, table, ()).ms)
    assert cost.total == pytest.approx(predicted(model, table, ()).ms)
    assert cost.change(counts, 0, -counts[0]) == pytest.approx(cost.count(counts) - cost.count([0, *counts[1:]]))


@pytest.mark.parametrize("goal", [0.8, 0.6])
def test_a_budget_of_time_by_a_table(goal: float) -> None:
    model = Model.load(random_net(1))
    table = toy_table(model)
    before = predicted(model, table, ()).ms
    outcome = Prune(latency=str(goal), multiple=8, importance="norm", compensate=False).run(model, context(model.copy(), table))
    assert 0.99 * goal * before <= predicted(model, table, ()).ms <= goal * before
    speed = outcome.facts["speed"]
    assert speed["ratio"] == pytest.approx(before / predicted(model, table, ()).ms)  # type: ignore[index, call-overload]
    assert outcome.facts["not_faster"] is False


def test_groups_that_do_not_pay_are_left_alone() -> None:
    model = Model.load(random_net(1))
    with pytest.raises(BudgetError, match=r"GO401.*do not pay"):
        Prune(macs=0.7, multiple=8, importance="norm").run(model, context(model.copy(), toy_table(model, slope=0.0)))


@pytest.mark.parametrize("power", [0.7, 1.3])
def test_a_time_that_is_off_the_table_is_approached(power: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that tells another time than the table does: the share of the multiply-accumulates to some power."""
    model = Model.load(random_net(1))
    total = Analyses(model).get(Cost()).macs

    def clock(model: Model) -> float:
        return 8.0 * (Analyses(model).get(Cost()).macs / total) ** power

    def compare(a: Model, b: Model, feed: object, **_: object) -> Timing:
        return Timing(clock(a), clock(b), clock(a) / clock(b), 1.0, 1.0, 1)

    monkeypatch.setattr(budget, "probe", lambda model, *_: toy_table(model))
    monkeypatch.setattr(budget, "measure_time", lambda model, *_, **__: clock(model))
    monkeypatch.setattr(budget, "compare_time", compare)
    for goal, target in (("0.7", 5.6), ("5ms", 5.0)):
        pruned = model.copy()
        Prune(latency=goal, multiple=4, importance="norm").run(pruned, Context(model.copy(), target=Target.load("generic")))
        assert 0.95 * target <= clock(pruned) <= target


def test_a_probe_knows_every_shape_and_its_model() -> None:
    model = Model.load(classifier())
    feed = {"image": np.zeros((1, 3, 16, 16), np.float32)}
    shapes = (("image", (1, 3, 16, 16)),)
    done: list[int] = []
    table = probe(model, feed, shapes, lambda: done.append(1))
    found = predicted(model, table, shapes)
    assert found.guessed == 0
    assert len(done) == len(table.shapes)
    assert found.ms > 0
    assert all(time >= 0 for stair in table.shapes.values() for row in stair.us for time in row)


@pytest.mark.parametrize("seed", range(6))
def test_the_masks_of_a_decision_give_the_same_widths(seed: int, tmp_path: Path) -> None:
    first, second = (Model.load(random_net(seed)) for _ in range(2))
    outcome = Prune(macs=0.6, multiple=4, importance="norm").run(first, Context(first.copy()))
    (tmp_path / "masks.npz").write_bytes(archive(outcome.facts["masks"]))
    again = Prune(masks=tmp_path / "masks.npz", importance="norm").run(second, Context(second.copy()))
    assert outcome.facts["groups"] and [g["removed"] for g in outcome.facts["groups"]] == [  # type: ignore[index, call-overload, union-attr]
        g["removed"]  # type: ignore[index, call-overload]
        for g in again.facts["groups"]  # type: ignore[union-attr]
    ]


def test_grouped_channels_that_changed_places_are_named_where_they_were(tmp_path: Path) -> None:
    net = Net(2)
    a = net.op("Relu", net.conv(net.input(1, 3, 6, 6), 16, 3))
    proto = net.model(net.conv(net.op("Relu", net.conv(a, 16, 1, group=2)), 4, 1))
    first, second = Model.load(proto), Model.load(proto)
    outcome = Prune(ratio=0.5, multiple=2, importance="norm").run(first, Context(first.copy()))
    (tmp_path / "masks.npz").write_bytes(archive(outcome.facts["masks"]))
    Prune(masks=tmp_path / "masks.npz", importance="norm").run(second, Context(second.copy()))
    weights = [sorted(np.abs(m.value(n.inputs[1])).sum() for n in m.graph.nodes if n.op == "Conv") for m in (first, second)]  # type: ignore[arg-type]
    assert weights[0] == pytest.approx(weights[1])
