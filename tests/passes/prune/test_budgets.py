"""Budgets: met within one per cent, never overshot, on steps; whatever the model, the metric, the share and the step."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.analysis import Analyses, Cost
from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.prune import Prune
from graphopt.passes.prune.allocate import allocate, steps
from graphopt.passes.prune.budget import parsed
from graphopt.passes.prune.costs import Products, bytes_of, macs_of, params_of
from graphopt.passes.prune.realise import realise
from graphopt.passes.prune.reference import masked
from graphopt.pipeline import Context
from tests.nets import Net
from tests.passes.prune.oracle import chain, channels_of


def random_net(seed: int) -> onnx.ModelProto:
    """Convolutions, residual and depthwise blocks and concatenations, of widths from 24 to 120."""
    net = Net(seed)
    rng = np.random.default_rng(seed)

    def width() -> int:
        return int(rng.integers(3, 16)) * 8

    x = net.op("Relu", net.conv(net.input(1, 3, 12, 12), width(), 3, pad=1))
    for _ in range(int(rng.integers(3, 6))):
        kind, c = int(rng.integers(4)), net.widths[x]
        if kind == 0:
            x = net.op("Relu", net.bn(net.conv(x, width(), 3, pad=1)))
        elif kind == 1:
            x = net.op("Add", x, net.conv(net.op("Relu", net.conv(x, width(), 1)), c, 3, pad=1))
        elif kind == 2:
            inner = net.op("Relu", net.conv(x, width(), 1))
            x = net.conv(net.conv(inner, net.widths[inner], 3, pad=1, group=net.widths[inner]), width(), 1)
        else:
            a, b = net.conv(x, width(), 1), net.conv(x, width(), 3, pad=1)
            x = net.op("Concat", a, b, axis=1)
            net.widths[x] = net.widths[a] + net.widths[b]
    return net.model(net.conv(x, 5, 1))


def of(model: Model, metric: str) -> float:
    cost = Analyses(model).get(Cost())
    return float({"macs": cost.macs, "params": cost.params, "size": model.size()}[metric])


@pytest.mark.parametrize("seed", range(24))
def test_random_models_budgets_and_steps(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    metric, share, multiple = ["macs", "params", "size"][seed % 3], float(rng.uniform(0.35, 0.95)), [1, 4, 8][seed % 4 % 3]
    model = Model.load(random_net(seed))
    target = share * of(model, metric)
    outcome = Prune(**{metric: share}, multiple=multiple, importance="norm", compensate=False).run(  # type: ignore[arg-type]
        model, Context(model.copy())
    )
    assert 0.99 * target <= of(model, metric) <= target
    for group in outcome.facts["groups"]:  # type: ignore[union-attr]
        left = group["channels"] - group["removed"]  # type: ignore[index, call-overload, operator]
        assert group["removed"] == 0 or left % multiple == 0  # type: ignore[index, call-overload, operator]


@pytest.mark.parametrize("metric", ["macs", "params", "size"])
def test_costs_count_as_a_finished_model_does(metric: str) -> None:
    for seed in range(8):
        graph = channels_of(random_net(seed))
        groups, rng = list(graph.prunable), np.random.default_rng(seed)
        cost = {"macs": macs_of, "params": params_of, "size": bytes_of}[metric](graph, groups)
        counts = [int(rng.integers(g.size)) for g in groups]
        removed = graph.flow.table.marked(np.concatenate([g.units[:n] for g, n in zip(groups, counts, strict=True)]))
        made = realise(masked(graph, removed, {}), graph, removed).model
        slack = 64 * len(graph.model.graph.nodes) if metric == "size" else 0.5  # the graph's own bytes: names, shapes
        assert abs(cost.count(counts) - of(made, metric)) <= slack
        assert cost.change(counts, 0, -counts[0]) == pytest.approx(cost.count(counts) - cost.count([0, *counts[1:]]))


def test_the_choice_is_the_best_of_all_that_come_near() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        graph = chain([16, 24, 16])
        groups = list(graph.prunable)
        ladders = [steps(g, 2) for g in groups]
        price = [dict(zip(ladder, np.cumsum(rng.uniform(0, 1, len(ladder))) - 0.5, strict=True)) for ladder in ladders]
        cost, errors = macs_of(graph, groups), [p.__getitem__ for p in price]
        target = float(rng.uniform(0.4, 0.9)) * cost.total
        every = [[a, b, c] for a in ladders[0] for b in ladders[1] for c in ladders[2]]
        near = [x for x in every if 0.99 * target <= cost.count(x) <= target]
        if not near:
            continue
        found = allocate(cost, ladders, errors, target)
        least = min(sum(e(n) for e, n in zip(errors, x, strict=True)) for x in near)
        assert found in near
        assert sum(e(n) for e, n in zip(errors, found, strict=True)) <= 1.15 * least + 0.05


def test_out_of_reach_takes_all_that_can_go() -> None:
    ladders = [[0, 4, 8], [0, 6]]
    cost = Products(100.0, [], 2)
    assert cost.count([8, 6]) == 100.0
    graph = chain([16, 24])
    groups = list(graph.prunable)
    ladders = [steps(g, 8) for g in groups]
    assert allocate(macs_of(graph, groups), ladders, [float, float], 1.0) == [ladder[-1] for ladder in ladders]


@pytest.mark.parametrize(("text", "expected"), [("0.7", (0.7, None)), ("5ms", (1.0, 5.0)), (" 2.5MS ", (1.0, 2.5))])
def test_a_time_is_a_share_or_milliseconds(text: str, expected: tuple[float, float | None]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize("text", ["", "ms", "1.5", "-1ms", "0", "nan", "inf", "fast", "5s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="GO940"):
        Prune(latency=text).run(Model.load(random_net(0)), Context(Model.load(random_net(0))))
