"""Refitting against oracles: least squares by numpy on whole arrays, networks whose answer is known, held-out judgement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from graphopt.analysis.channels import ChannelGraph
from graphopt.model import Model
from graphopt.passes.prune import Prune, regression
from graphopt.passes.prune.compensate import Bias
from graphopt.passes.prune.layers import Layer, Sums, layer_of
from graphopt.passes.prune.refit import Refitter, layers_behind
from graphopt.passes.prune.regression import (
    Fit,
    Samples,
    best_ridge,
    candidates_of,
    matched,
    matched_behind,
    relaxed_fit,
    ridge_fit,
)
from graphopt.passes.prune.sensitivity import macs_by_output
from graphopt.passes.prune.walk import Walk
from graphopt.pipeline import Context
from graphopt.runtime import Session, feeds_from
from graphopt.runtime.feeds import Spool
from tests.nets import Net, outputs_of
from tests.passes.prune.oracle import TOLERANCE, channels_of, distance

RNG = np.random.default_rng(0)


def only_layer(proto: onnx.ModelProto, which: int = -1, removed: Sequence[int] = ()) -> tuple[ChannelGraph, Layer]:
    graph = channels_of(proto)
    marked = graph.flow.table.marked(np.asarray(removed, np.int64))
    layer = layer_of(graph, graph.flow.mixers[which], marked)
    assert layer is not None
    return graph, layer


CONVOLUTIONS = {
    "3x3 padded": {"kernel": 3, "pad": 1},
    "strided, dilated, uneven pads": {"kernel": (3, 2), "pads": [2, 0, 1, 1], "strides": [2, 1], "dilations": [1, 2]},
    "same upper": {"kernel": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "same lower": {"kernel": 2, "auto_pad": "SAME_LOWER"},
    "valid": {"kernel": 3, "auto_pad": "VALID"},
    "depthwise": {"kernel": 3, "pad": 1, "group": 6},
    "grouped": {"kernel": 3, "pad": 1, "group": 3},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_patches_times_weights_are_the_convolution(name: str) -> None:
    net = Net(1)
    proto = net.model(net.conv(net.input(2, 6, 9, 8), 6, **CONVOLUTIONS[name]))  # type: ignore[arg-type]
    graph, layer = only_layer(proto)
    data = RNG.standard_normal((2, 6, 9, 8)).astype(np.float32)
    made = outputs_of(proto, {"x": data})[0]
    x, (y,) = layer.samples(data, [made], 10**6, np.random.default_rng(0))
    weight, bias = (graph.model.value(layer.node.inputs[k]) for k in (1, 2))
    assert weight is not None
    assert bias is not None
    expected = np.einsum("gpk,gok->gpo", x.astype(np.float64), layer.matrix(weight)) + bias.reshape(layer.blocks, 1, -1)
    assert np.abs(expected - y).max() <= 1e-5
    assert np.array_equal(layer.weight(layer.matrix(weight), weight.dtype), weight)


def sums_of(layer: Layer, x: np.ndarray, y: np.ndarray) -> Sums:
    found = Sums.of(layer)
    for part in np.array_split(np.arange(x.shape[1]), 3):
        found.add(x[:, part], y[:, part])
    return found


@pytest.mark.parametrize("constant", [True, False])
def test_the_ridge_is_that_of_whole_arrays(constant: bool) -> None:
    net = Net(1)
    _, layer = only_layer(net.model(net.conv(net.input(1, 4, 5, 5), 3, 1)))
    x, y = RNG.standard_normal((1, 50, 4)) + 1, RNG.standard_normal((1, 50, 3)) - 2
    base = Fit(RNG.standard_normal((1, 3, 4)), RNG.standard_normal((1, 3)))
    made = ridge_fit(sums_of(layer, x, y), base, 0.1, constant=constant)
    assert made is not None
    a, b = (x[0] - x[0].mean(0), y[0] - y[0].mean(0)) if constant else (x[0], y[0] - base.shift[0])
    strength = 0.1 * (np.square(a).sum() / 50 + 1e-9 * np.square(x).sum() / 50) / 4
    step = np.linalg.solve(a.T @ a / 50 + strength * np.eye(4), a.T @ (b - a @ base.weight[0].T) / 50)
    assert np.abs(made.weight[0] - base.weight[0] - step.T).max() <= 1e-9
    error = np.square(x[0] @ made.weight[0].T + made.shift[0] - y[0]).mean(0)
    assert np.abs(sums_of(layer, x, y).error(made.weight, made.shift)[0] - error).max() <= 1e-9


def test_a_refit_that_held_out_samples_do_not_confirm_is_none() -> None:
    net = Net(1)
    _, layer = only_layer(net.model(net.conv(net.input(1, 4, 5, 5), 3, 1)))
    base = Fit(RNG.standard_normal((1, 3, 4)), np.zeros((1, 3)))
    x = RNG.standard_normal((1, 400, 4))
    right = np.einsum("gpk,gok->gpo", x, base.weight)
    noise = sums_of(layer, x[:, :6], RNG.standard_normal((1, 6, 3)))
    assert best_ridge(noise, sums_of(layer, x[:, 6:], right[:, 6:]), base, constant=True) is None


def test_matched_outputs_have_the_mean_and_the_variance() -> None:
    net = Net(1)
    _, layer = only_layer(net.model(net.conv(net.input(1, 4, 5, 5), 3, 1)))
    x, y = RNG.standard_normal((1, 200, 4)), 2 + 1.3 * RNG.standard_normal((1, 200, 3))
    weak = Fit(0.5 * RNG.standard_normal((1, 3, 4)) + 0.4, np.zeros((1, 3)))
    made = matched(sums_of(layer, x, y), weak)
    out = np.einsum("gpk,gok->gpo", x, made.weight) + made.shift[:, None]
    assert np.abs(out.mean(1) - y.mean(1)).max() <= 1e-9
    stretch = made.weight / weak.weight
    inside = (stretch > 0.51) & (stretch < 1.99)
    assert inside.any()
    assert np.abs(out.var(1) - y.var(1))[inside.all(-1)].max(initial=0.0) <= 1e-9


FLAT = {"below": (0.0, np.inf), "both ends": (-1.5, 2.0)}


def forgiven(low: float, high: float, added: float) -> tuple[Samples, Fit]:
    """Samples whose y is linear between the ends, and anything beyond where the linear function is beyond; and that function."""
    net = Net(1)
    _, layer = only_layer(net.model(net.conv(net.input(1, 4, 5, 5), 3, 1)))
    rng = np.random.default_rng(5)
    right = Fit(rng.standard_normal((1, 3, 4)), rng.standard_normal((1, 3)))
    x = rng.standard_normal((1, 600, 4))
    y = x @ right.weight.transpose(0, 2, 1) + right.shift[:, None]
    total, beyond = y + added, np.abs(5 * rng.standard_normal(y.shape))
    y = np.where(total < low, low - added - beyond, np.where(total > high, high - added + beyond, y))
    samples = Samples.of(layer, (low, high))
    for part in np.array_split(np.arange(600), 3):
        samples.add(x[:, part], y[:, part], np.full_like(y[:, part], added))
    return samples, right


@pytest.mark.parametrize("flat", FLAT)
def test_what_a_flat_function_hides_does_not_bend_a_relaxed_fit(flat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "_STILL", 0.0)  # as far as it goes
    samples, right = forgiven(*FLAT[flat], added=0.3)
    start = ridge_fit(samples.sums, right, 1e-9, constant=True)
    assert start is not None
    assert np.abs(start.weight - right.weight).max() > 0.2
    fit = start
    for _ in range(20):
        made = relaxed_fit(samples, right, fit, constant=True)
        assert made is not None
        fit = made
    assert np.abs(fit.weight - right.weight).max() < 1e-2
    assert np.abs(fit.shift - right.shift).max() < 1e-2


@pytest.mark.parametrize("flat", FLAT)
def test_what_is_let_through_is_matched_in_mean_and_variance(flat: str) -> None:
    (low, high), (samples, right) = FLAT[flat], forgiven(*FLAT[flat], added=0.3)
    made = matched_behind(samples, Fit(0.7 * right.weight, right.shift - 0.2))
    parts = list(samples.chunks())
    have = np.concatenate([x @ made.weight.transpose(0, 2, 1) + made.shift[:, None] + s for x, _, s in parts], axis=1)
    want = np.concatenate([y + s for _, y, s in parts], axis=1)
    for statistic in (np.mean, np.std):
        assert np.abs(statistic(have.clip(low, high), 1) - statistic(want.clip(low, high), 1)).max() < 1e-2


def test_without_a_flat_function_nothing_is_relaxed() -> None:
    net = Net(1)
    _, layer = only_layer(net.model(net.conv(net.input(1, 4, 5, 5), 3, 1)))
    samples, base = Samples.of(layer, None), Fit(np.zeros((1, 3, 4)), np.zeros((1, 3)))
    samples.add(RNG.standard_normal((1, 50, 4)), RNG.standard_normal((1, 50, 3)), np.zeros((1, 50, 3)))
    assert not samples.parts
    assert relaxed_fit(samples, base, base, constant=True) is None


# -- the walk ------------------------------------------------------------------------------------------------------------------


def residual(seed: int = 0) -> onnx.ModelProto:
    net = Net(seed)
    x = net.op("Relu", net.conv(net.input("n", 3, 8, 8), 8, 3, pad=1))
    for _ in range(4):
        inner = net.op("Relu", net.conv(x, 16, 1))
        inner = net.conv(inner, 16, 3, pad=1, group=16)
        x = net.op("Add", x, net.conv(net.op("Relu", inner), 8, 1))
    return net.model(net.op("Gemm", net.op("Flatten", net.op("GlobalAveragePool", x)), net.const(net.random(8, 4)), out="y"))


def test_a_walk_gives_what_a_run_gives() -> None:
    proto = residual()
    graph = channels_of(proto)
    feeds = [{"x": RNG.standard_normal((3, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
    order = graph.model.proto()
    walk = Walk(order, macs_by_output(graph), {("original", "fit"): Spool.of(feeds)}, ["y"], 1)
    whole = Session(graph.model, extra_outputs=[n.output[0] for n in order.graph.node])
    places = set()
    for node in order.graph.node:
        walk.advance(walk.position(node.output[0]))
        places.add(walk.place)
        for feed, found in zip(feeds, walk.values("original", "fit", order, [node.output[0], "y"]), strict=True):
            expected = whole.run(feed)
            assert all(np.allclose(found[k], expected[k], atol=1e-5) for k in (node.output[0], "y"))
    assert len(places) > 4


# -- the whole -----------------------------------------------------------------------------------------------------------------


def smooth(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, 3, 2, 2)).repeat(4, 2).repeat(4, 3) + 0.1 * rng.standard_normal((count, 3, 8, 8))).astype(
        np.float32
    )


@pytest.mark.parametrize("seed", range(3))
def test_refitting_helps_on_samples_that_nobody_saw(seed: int) -> None:
    proto, fresh = residual(seed), {"x": smooth(256, 99)}
    expected = outputs_of(proto, fresh)[0]
    errors = []
    for refit in (False, True):
        model = Model.load(proto)
        data = feeds_from(smooth(256, 7), model)
        outcome = Prune(macs=0.6, multiple=2, refit=refit).run(model, Context(model.copy(), feeds=data))
        assert outcome.reference is not None
        assert distance(outcome.reference, model) <= TOLERANCE
        errors.append(float(np.square(outputs_of(model.proto(), fresh)[0] - expected).mean()))
    assert errors[1] < errors[0]


def test_the_held_out_error_falls_or_stays_at_every_operator() -> None:
    graph = channels_of(residual())
    group = max(graph.prunable, key=lambda g: g.size)
    removed = graph.flow.table.marked(group.units[:6])
    samples = {"fit": Spool.of([{"x": smooth(64, 1)}]), "held": Spool.of([{"x": smooth(32, 2)}])}
    layers = layers_behind(graph, removed, {})
    done: list[int] = []
    found = Refitter(graph, removed, {}, {}, samples, 0, 1).run(lambda: done.append(1))
    assert len(done) == len(layers) >= 2
    # Weights are fitted anew to all samples once they are chosen, so an error may move a little between operators.
    assert found.errors[-1] < 0.7 * found.errors[0]
    assert all(after <= 1.1 * before for before, after in zip(found.errors, found.errors[1:], strict=False))
    assert set(found.kept) <= {layer.mixer.node for layer in layers}


def test_an_operator_before_a_sum_makes_up_for_the_shortcut() -> None:
    """Two paths from one input: what the pruned shortcut loses the other path can give back, exactly."""
    net = Net(3)
    x = net.input("n", 3, 6, 6)
    wide = net.conv(x, 8, 1, bias=False)
    short = net.conv(wide, 6, 1)
    y = net.op("Add", short, net.conv(x, 6, 1), out="y")
    proto = net.model(y)
    graph = channels_of(proto)
    group = next(g for g in graph.prunable if g.size == 8)
    removed = graph.flow.table.marked(group.units[:7])
    rng = np.random.default_rng(0)
    samples = {k: Spool.of([{"x": rng.standard_normal((32, 3, 6, 6)).astype(np.float32)}]) for k in ("fit", "held")}
    found = Refitter(graph, removed, {}, {}, samples, 0, 1).run(lambda: None)
    assert found.errors[0] > 0.1
    assert found.errors[-1] < 1e-6


# -- what an operator is fitted to -----------------------------------------------------------------------------------------------


def scored(op: str) -> onnx.ModelProto:
    """A perceptron with one score as output."""
    net = Net(4)
    x = net.op("Relu", net.op("Gemm", net.input("n", 10), net.const(net.random(10, 32)), net.const(net.random(32))))
    weight, bias = net.const(net.random(32, 1)), net.const(net.random(1))
    return net.model(net.op("Gemm", x, weight, bias) if op == "Gemm" else net.op("Add", net.op("MatMul", x, weight), bias))


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_an_operator_of_one_output(op: str) -> None:
    proto, rng = scored(op), np.random.default_rng(0)
    data, fresh = ([{"x": rng.standard_normal((1, 10)).astype(np.float32)} for _ in range(n)] for n in (64, 200))
    errors = []
    for options in ({}, {"compensate": False}):
        model = Model.load(proto)
        Prune(macs=0.6, multiple=4, **options).run(model, Context(model.copy(), feeds=feeds_from(data, model)))  # type: ignore[arg-type]
        errors.append(sum(float(np.square(outputs_of(model.proto(), f)[0] - outputs_of(proto, f)[0]).sum()) for f in fresh))
    assert errors[0] < 0.5 * errors[1]


def before_relu(kind: str) -> onnx.ModelProto:
    """A layer that loses features, with its bias in some place, perhaps with a shortcut, before a Relu."""
    net = Net(6)
    x = net.input("n", 12)
    wide = net.op("Relu", net.op("Gemm", x, net.const(net.random(12, 24)), net.const(net.random(24))))
    weight, bias = net.const(net.random(24, 16)), net.const(net.random(16))
    made = {
        "gemm": lambda: net.op("Gemm", wide, weight, bias),
        "scaled gemm": lambda: net.op("Gemm", wide, weight, bias, alpha=0.5, beta=2.0),
        "turned gemm": lambda: net.op("Gemm", wide, weight, bias, alpha=-1.0),
        "bias behind": lambda: net.op("Add", net.op("MatMul", wide, weight), bias),
        "shortcut": lambda: net.op("Add", net.op("Gemm", x, net.const(net.random(12, 16))), net.op("Gemm", wide, weight, bias)),
    }[kind]()
    return net.model(net.op("Gemm", net.op("Relu", made), net.const(net.random(16, 3)), net.const(net.random(3))))


@pytest.mark.parametrize("kind", ["gemm", "scaled gemm", "turned gemm", "bias behind", "shortcut"])
def test_samples_are_what_the_operator_makes_and_what_is_added_to_it(kind: str) -> None:
    """W x, what is added and the flat ends together are what the Relu reads, whatever scales and wherever the bias is."""
    proto = before_relu(kind)
    graph = channels_of(proto)
    mixer = next(m for m in graph.flow.mixers if graph.model.value(graph.nodes[m.node].inputs[m.weight]).shape == (24, 16))  # type: ignore[union-attr]
    removed = np.zeros(len(graph.flow.table), bool)
    layer = layer_of(graph, mixer, removed)
    assert layer is not None
    feeds = Spool.of([{"x": RNG.standard_normal((40, 12)).astype(np.float32)}])
    refitter = Refitter(graph, removed, {}, {}, {"fit": feeds, "held": feeds}, 0, 1)
    refitter.run(lambda: None)
    bias = Bias(graph, mixer)
    samples = refitter._samples(layer, bias, "fit", refitter._walk.position(layer.node.outputs[0].name))
    assert samples.flat is not None
    assert sorted(abs(v) for v in samples.flat) == [0.0, np.inf]
    weight = graph.model.value(layer.node.inputs[1])
    assert weight is not None
    read = next(n for n in graph.model.graph.nodes if n.op == "Relu" and n is not graph.model.graph.nodes[1]).inputs[0].name
    (x, y, added), *_ = samples.chunks()
    assert np.abs(x @ layer.matrix(weight).transpose(0, 2, 1) - y).max() <= 1e-4
    wanted = Session(graph.model, extra_outputs=[read]).run(next(iter(feeds)))[read]
    order = np.lexsort(np.round(bias.alpha * (y + added)[0], 4).T)
    assert np.abs(bias.alpha * (y + added)[0][order] - wanted[np.lexsort(np.round(wanted, 4).T)]).max() <= 1e-3


def test_a_fit_of_no_numbers_is_no_candidate() -> None:
    net = Net(1)
    _, layer = only_layer(net.model(net.conv(net.input(1, 4, 5, 5), 3, 1)))
    base = Fit(RNG.standard_normal((1, 3, 4)), np.zeros((1, 3)))
    samples = Samples.of(layer, (0.0, np.inf))
    samples.add(1e30 * RNG.standard_normal((1, 50, 4)), 1e30 * RNG.standard_normal((1, 50, 3)), np.zeros((1, 1, 3)))
    assert all(fit.finite for fit in candidates_of(samples, samples.sums, base, biased=True).values())
