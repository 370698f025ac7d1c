"""What fold reports, scales that pass an activation, parts of a convolution, and borders that are given up."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context
from tests.nets import Net, feed_for, ops_of
from tests.passes.fold.moved import sliced, x
from tests.passes.fold.test_fold import error, fold, linear_block


def scaled(net: Net, activation: str, factor: object, *rest: str) -> str:
    y = net.op(activation, net.conv(x(net), 4), *rest)
    return net.op("Relu", net.op("Mul", y, net.const(factor)))


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "PRelu"])
def test_a_positive_scale_passes_what_is_positively_homogeneous(activation: str) -> None:
    net = Net()
    rest = [net.const(net.random(4, 1, 1))] if activation == "PRelu" else []
    proto = net.model(scaled(net, activation, net.random(4, 1, 1, low=0.5), *rest))
    folded, _ = fold(proto)
    assert ops_of(folded) == sorted(["Conv", activation, "Relu"])
    assert error(folded, proto, feed_for(proto)) < 1e-6


def test_a_batch_norm_without_shift_passes_a_relu() -> None:
    net = Net()
    y = net.op("Relu", net.conv(x(net), 4))
    zero = net.const(np.zeros(4))
    scale = net.const(net.random(4, low=0.5))
    proto = net.model(net.op("Tanh", net.op("BatchNormalization", y, scale, zero, zero, net.const(np.ones(4)))))
    folded, _ = fold(proto)
    assert ops_of(folded) == ["Conv", "Relu", "Tanh"]
    assert error(folded, proto, feed_for(proto)) < 1e-6


@pytest.mark.parametrize(("activation", "low", "code"), [("Sigmoid", 0.5, "activation"), ("Relu", -2.0, "scale-sign")])
def test_other_scales_stay_behind_the_activation(activation: str, low: float, code: str) -> None:
    net = Net()
    proto = net.model(scaled(net, activation, np.linspace(low, 1.0, 4).reshape(4, 1, 1)))
    folded, outcome = fold(proto)
    assert ops_of(folded) == ops_of(proto)
    assert code in {r.code for r in outcome.refusals}


def test_a_clip_to_six_is_not_passed() -> None:
    net = Net()
    y = net.op("Clip", net.conv(x(net), 4), net.const(0.0), net.const(6.0))
    proto = net.model(net.op("Relu", net.op("Mul", y, net.const(net.random(4, 1, 1, low=0.5)))))
    folded, outcome = fold(proto)
    assert ops_of(folded) == ops_of(proto)
    assert "activation" in {r.code for r in outcome.refusals}


def test_two_slices_of_a_convolution_are_two_convolutions() -> None:
    net = Net()
    y = net.conv(x(net), 8)
    proto = net.model(net.op("Relu", sliced(net, y, 0, 4)), net.op("Tanh", sliced(net, y, 4, 8)))
    folded, _ = fold(proto)
    assert ops_of(folded) == ["Conv", "Conv", "Relu", "Tanh"]
    assert error(folded, proto, feed_for(proto)) < 1e-6


def test_many_parts_of_one_split_cost_more() -> None:
    net = Net()
    y = net.conv(x(net), 8)
    net.nodes.append(onnx.helper.make_node("Split", [y], ["a", "b", "c", "d"], name="split", axis=1))
    proto = net.model(*(net.op("Relu", part) for part in "abcd"))
    folded, outcome = fold(proto)
    assert ops_of(folded) == ops_of(proto)
    assert "parts-cost" in {r.code for r in outcome.refusals}


def test_the_formula_and_the_figures_of_a_kernel_are_told() -> None:
    net = Net()
    proto = net.model(net.bn(net.conv(x(net), 4)))
    _, outcome = fold(proto)
    (kernel,) = outcome.facts["kernels"].values()
    conv, norm = (", ".join(n.input[1:]) for n in proto.graph.node)
    assert kernel["formula"] == f"batch_norm({norm}) * conv({conv})"
    assert kernel["macs_before"] == kernel["macs_after"] > 0
    assert kernel["range_before"] >= 1.0
    assert kernel["range_after"] >= 1.0


def test_a_map_runs_over_torch() -> None:
    torch = pytest.importorskip("torch")
    from graphopt.analysis import Analyses
    from graphopt.analysis.affine import Affine
    from graphopt.ops.affine import evaluate

    net = Net()
    i = x(net)
    model = Model.load(net.model(net.op("Add", net.bn(net.conv(i, 4, pad=1)), i)))
    span = Analyses(model).get(Affine()).spans["t2"][-1]
    wanted, found = evaluate(span.map), evaluate(span.map, torch)
    assert np.allclose(wanted.weight, found.weight.numpy(), atol=1e-12)
    assert np.allclose(wanted.bias, found.bias.numpy(), atol=1e-12)


def test_an_approximate_border_is_told_and_not_called_exact() -> None:
    net = Net()
    proto = net.model(linear_block(net, pad_first=False, skip=False))
    result = graphopt.run(proto, "fold:border=approx", timing=False)
    (record,) = result.report.passes
    assert record.kind == "lossy"
    assert record.verification.status == "measured"
    assert any(note.startswith("NOT EXACT") for note in record.notes)
    assert ops_of(result.model.proto()) == ["Conv"]


def test_border_approx_changes_nothing_where_all_is_exact() -> None:
    net = Net()
    proto = net.model(linear_block(net))
    model = Model.load(proto)
    outcome = Fold(border="approx").run(model, Context(model.copy()))
    assert not outcome.approximate
    assert outcome.notes == []


def test_explain_lists_every_rewrite_and_every_refusal() -> None:
    from graphopt.report import to_text

    net = Net()
    y = net.bn(net.conv(x(net), 4))
    proto = net.model(net.conv(net.op("Relu", net.conv(net.conv(y, 4, 3, group=4), 8, 1)), 4))
    report = graphopt.run(proto, "fold", timing=False).report
    text = to_text(report, width=400, explain=True)
    (record,) = report.passes
    assert record.refusals
    assert record.rewrites
    for where, words in [
        *((r.where, r.what) for r in record.rewrites),
        *((r.where, f"{r.code}: {r.why}") for r in record.refusals),
    ]:
        assert f"{where}: {words}" in text
