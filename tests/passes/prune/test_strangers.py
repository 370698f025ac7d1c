"""Networks that the pass met late: each once ended in a needless refusal, a traceback or another width than was asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from graphopt.analysis import Analyses, Cost
from graphopt.analysis.channels import Channels
from graphopt.errors import BudgetError
from graphopt.model import Model
from graphopt.passes.prune import Prune
from graphopt.passes.prune.allocate import allocate, steps, total
from graphopt.passes.prune.costs import macs_of
from graphopt.pipeline import Context, Outcome
from graphopt.runtime import feeds_from
from tests.nets import Net
from tests.passes.prune.oracle import TOLERANCE, chain, distance


def head(net: Net, x: str) -> str:
    flat = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.op("Gemm", flat, net.const(net.random(5, net.widths[x])), net.const(net.random(5)), transB=1)


def without_biases() -> onnx.ModelProto:
    """Every convolution that reads pruned channels gets a bias by recovery, and the file grows by it."""
    net = Net(2)
    x = net.op("Relu", net.conv(net.input(1, 3, 12, 12), 16, 3, pad=1))
    for _ in range(2):
        y = net.op("Relu", net.bn(net.conv(x, 48, 1, bias=False)))
        y = net.op("Relu", net.bn(net.conv(y, 48, 3, pad=1, group=48, bias=False)))
        x = net.op("Add", x, net.bn(net.conv(y, 16, 1, bias=False)))
    return net.model(head(net, x))


def normalised() -> onnx.ModelProto:
    net = Net(32)
    x = net.op("PRelu", net.conv(net.input(1, 3, 12, 12), 16, 3), net.const(net.random(16, 1, 1)))
    x = net.op("InstanceNormalization", x, net.const(net.random(16)), net.const(net.random(16)))
    net.widths[x] = 16
    return net.model(head(net, net.op("Relu", net.conv(x, 24, 3))))


def gates() -> onnx.ModelProto:
    net = Net(15)
    x = net.op("Relu", net.conv(net.input(1, 3, 12, 12), 32, 3, pad=1))
    gate = net.op("Relu", net.conv(net.op("GlobalAveragePool", x), 8, 1))
    x = net.op("Mul", x, net.op("Sigmoid", net.conv(gate, 32, 1)))
    net.widths[x] = 32
    return net.model(head(net, net.op("Relu", net.conv(x, 24, 3))))


def unscaled() -> onnx.ModelProto:
    """A Gemm of which beta, and one of which alpha is 0."""
    net = Net(38)
    x = net.op("Gemm", net.input(1, 16), net.const(net.random(16, 32)), net.const(net.random(32)), alpha=0.5, beta=2.0)
    x = net.op("Relu", x)
    dead = net.op("Gemm", x, net.const(net.random(32, 3)), net.const(net.random(3)), alpha=0.0)
    return net.model(net.op("Add", dead, net.op("Gemm", x, net.const(net.random(32, 3)), net.const(net.random(3)), beta=0.0)))


def einsum() -> onnx.ModelProto:
    net = Net(34)
    x = net.op("Relu", net.op("Einsum", net.input(1, 6, 32), net.const(net.random(32, 48)), equation="abc,cd->abd"))
    return net.model(net.op("MatMul", x, net.const(net.random(48, 4))))


def lstm() -> onnx.ModelProto:
    net, h = Net(7), 16
    weights = (net.const(net.random(1, 4 * h, 8)), net.const(net.random(1, 4 * h, h)), net.const(net.random(1, 8 * h)))
    y = net.op("LSTM", net.input(7, 1, 8), *weights, outputs=3, hidden_size=h)
    y = net.op("Squeeze", y, net.const(np.array([1])))
    y = net.op("Relu", net.op("MatMul", y, net.const(net.random(h, 24))))
    return net.model(net.op("MatMul", y, net.const(net.random(24, 4))))


def pruned(proto: onnx.ModelProto, **options: object) -> tuple[Model, Model, Outcome]:
    model = Model.load(proto)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(1)
    feeds = feeds_from([{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(24)], model)
    before = model.copy()
    outcome = Prune(**options).run(model, Context(before, feeds=feeds, timing=False))  # type: ignore[arg-type]
    return before, model, outcome


CASES: list[tuple[Callable[[], onnx.ModelProto], dict[str, object], float]] = [
    # network, options, the share of what was allowed that is used at least (room for biases is kept free, whether they come or not)
    (without_biases, {"size": 0.7, "multiple": 1}, 0.97),
    (without_biases, {"params": 0.5, "multiple": 2}, 0.95),
    (normalised, {"size": 0.7, "multiple": 1}, 0.98),
    (gates, {"size": 0.7, "multiple": 1}, 0.98),
    (unscaled, {"macs": 0.6, "multiple": 4}, 0.83),
    (einsum, {"macs": 0.6, "multiple": 4}, 0.97),
    (lstm, {"macs": 0.6, "multiple": 4, "importance": "norm", "compensate": False}, 0.95),
]


@pytest.mark.parametrize(("make", "options", "least"), CASES, ids=[f"{m.__name__}-{next(iter(o))}" for m, o, _ in CASES])
def test_a_budget_is_reached_and_kept(make: Callable[[], onnx.ModelProto], options: dict[str, object], least: float) -> None:
    before, after, outcome = pruned(make(), **options)
    metric = next(iter(options))

    def of(model: Model) -> float:
        return float(model.size() if metric == "size" else getattr(Analyses(model).get(Cost()), metric))

    assert least <= of(after) / (of(before) * float(options[metric])) <= 1  # type: ignore[arg-type]
    assert outcome.reference is not None
    assert distance(outcome.reference, after) <= TOLERANCE


def test_an_einsum_has_steps() -> None:
    (group,) = Analyses(Model.load(einsum())).get(Channels()).prunable
    assert {(group.size - n) % 8 for n in steps(group, 8)} == {0}


def test_where_nothing_is_near_the_budget_the_least_harm_is_done() -> None:
    graph = chain([16, 24, 16])
    groups = list(graph.prunable)
    cost, ladders = macs_of(graph, groups), [steps(g, 8) for g in groups]
    errors = [lambda n: float(n), lambda n: 2.0 * n, lambda n: 3.0 * n]
    every = [[a, b, c] for a in ladders[0] for b in ladders[1] for c in ladders[2]]
    for share in (0.45, 0.55, 0.65, 0.75, 0.85):
        allowed = [x for x in every if cost.count(x) <= share * cost.total]
        allowed = [x for x in allowed if cost.count(x) >= 0.99 * share * cost.total] or allowed
        found = allocate(cost, ladders, errors, share * cost.total)
        assert total(errors, found) == min(total(errors, x) for x in allowed)


def test_a_refusal_names_a_step_that_would_do() -> None:
    net = Net(0)
    x = net.op("Relu", net.conv(net.input(1, 3, 8, 8), 12, 3))
    proto = net.model(net.conv(x, 2, 1))
    with pytest.raises(BudgetError) as caught:
        pruned(proto, macs=0.7, multiple=16)
    assert caught.value.diagnostic.hint == "take multiple=8, with which it can be met"
    pruned(proto, macs=0.7, multiple=8)
    net = Net(0)
    with pytest.raises(BudgetError) as caught:
        pruned(net.model(net.conv(net.input(1, 3, 8, 8), 8, 3)), macs=0.7, multiple=16)
    assert caught.value.diagnostic.hint == "`graphopt groups` says what keeps the channels"
