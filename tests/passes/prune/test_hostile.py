"""Options, data and weights that make no sense: a coded error or a refusal that names what is wrong, never a bad model."""

from __future__ import annotations

import math

import onnx
import pytest
from onnx import numpy_helper

from graphopt.errors import BudgetError, UsageError
from tests.passes.prune.test_prune import check_exact, classifier, images, run

NAN, INF = math.nan, math.inf

NO_SHARE = [(metric, value) for metric in ("macs", "params", "size") for value in (0.0, -1.0, 1.5, NAN, INF)]
NO_TIME = [("latency", text) for text in ("0", "-1", "1.5", "nan", "x", "0ms", "-1ms", "nanms", "infms")]
OTHERS = [
    ("ratio", 1.0), ("ratio", -0.1), ("ratio", NAN), ("multiple", 0), ("multiple", -3), ("ridge", 0.0), ("ridge", -1.0),
    ("ridge", NAN), ("ridge", INF),
]  # fmt: skip


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize(("option", "value"), [*NO_SHARE, *NO_TIME, *OTHERS])
def test_refused(option: str, value: object, calibrated: bool) -> None:
    with pytest.raises(UsageError, match="GO940"):
        run(classifier(width=8), images(8) if calibrated else None, **{option: value})


@pytest.mark.parametrize("options", [{"macs": 1.0}, {"ratio": 0.5, "multiple": 10**9}, {"ratio": 0.001}])
@pytest.mark.parametrize("calibrated", [False, True])
def test_nothing_to_do(options: dict[str, float], calibrated: bool) -> None:
    _, outcome = run(classifier(width=8), images(8) if calibrated else None, **options)
    assert not outcome.rewrites
    assert "macs" in options or any("nothing was removed" in n for n in outcome.notes)


@pytest.mark.parametrize("calibrated", [False, True])
def test_almost_everything(calibrated: bool) -> None:
    model, outcome = run(classifier(width=8), images(8) if calibrated else None, ratio=0.999, multiple=1)
    check_exact(model, outcome)


def with_weight(value: float, name: str) -> onnx.ModelProto:
    """The classifier with one number of the constant ``name`` replaced."""
    proto = classifier(width=8)
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array.reshape(-1)[1] = value
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return proto


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(("node", "slot"), [("Conv", 1), ("Conv", 2), ("BatchNormalization", 1), ("Gemm", 2)])
def test_weights_that_are_not_finite_are_named(value: float, node: str, slot: int) -> None:
    name = next(n for n in classifier(width=8).graph.node if n.op_type == node).input[slot]
    proto = with_weight(value, name)
    model, outcome = run(proto, ratio=0.5, multiple=1)
    assert [(r.where, r.code) for r in outcome.refusals if r.code != "frozen-channels"] == [(f"'{name}'", "non-finite-weights")]
    assert not outcome.rewrites
    assert len(model.graph.nodes) == len(proto.graph.node)
    with pytest.raises(BudgetError, match=name):
        run(proto, macs=0.5)
