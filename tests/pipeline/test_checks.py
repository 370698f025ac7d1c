"""Equality of outputs: at what tolerance, and where outputs are nearly constant, so that their range is no measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.analysis import Analyses
from graphopt.model import Model
from graphopt.pipeline import checks
from graphopt.pipeline.checks import Checker, tolerance_for
from graphopt.pipeline.context import Silent
from graphopt.runtime import generated
from graphopt.verify import Drift, OutputDrift, Recording
from tests.nets import Net


def drift(off: float, span: float, failure: str | None = None) -> Drift:
    output = OutputDrift("y", "tensor", max_abs=off, range=span, rel=off / span, sqnr_db=None, cosine=None, failure=failure)
    return Drift((output,), runs=1)


@pytest.mark.parametrize(
    ("found", "noise", "expected"),
    [
        (drift(3e-7, 2e-5), 1e-7, True),
        (drift(5e-7, 2e-5), 1e-7, False),
        (drift(1e-9, 2e-5), 0.0, True),
        (drift(3e-7, 2e-5, "another shape"), 1e-7, False),
    ],
)
def test_off_by_the_runtimes_own_rounding_is_equal(
    monkeypatch: pytest.MonkeyPatch, found: Drift, noise: float, expected: bool
) -> None:
    net = Net()
    model = Model.load(net.model(net.op("Relu", net.input(1, 2, name="x"))))
    checker = Checker(Analyses(model), generated(model), Silent())
    monkeypatch.setattr(checks, "compare_recorded", lambda *_: drift(noise, 1.0))
    assert checker._is_rounding(found, model, Recording(model, checker.sample)) is expected


def halves(dtype: Any) -> Model:
    net = Net(dtype=dtype)
    y = net.op("MatMul", net.op("MatMul", net.input(2, 5, 8), net.const(net.random(8, 6))), net.const(net.random(6, 4)))
    return Model.load(net.model(net.op("Add", y, net.const(net.random(4)))))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-4), (np.float16, 4 * 2.0**-10)])
def test_equal_means_to_the_rounding_of_the_type(dtype: Any, tolerance: float) -> None:
    assert tolerance_for(Analyses(halves(dtype))) == tolerance
    (record,) = graphopt.run(halves(dtype), "fold", timing=False).report.passes
    assert record.verification.status == "held"
    assert record.verification.tolerance == tolerance


def test_weights_that_are_only_stored_in_half_precision_are_computed_with_in_full() -> None:
    net = Net()
    weight = net.op("Cast", net.const(net.random(8, 4).astype(np.float16), exact=True), to=onnx.TensorProto.FLOAT)
    assert tolerance_for(Analyses(Model.load(net.model(net.op("MatMul", net.input(2, 8), weight))))) == 1e-4
