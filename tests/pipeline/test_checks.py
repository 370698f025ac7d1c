"""Equality of outputs that are nearly constant: their range is no measure, the runtime's own rounding is."""

from __future__ import annotations

import pytest

from graphopt.model import Model
from graphopt.pipeline import checks
from graphopt.pipeline.checks import Checker
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
    checker = Checker(model, generated(model), Silent())
    monkeypatch.setattr(checks, "compare_recorded", lambda *_: drift(noise, 1.0))
    assert checker._is_rounding(found, model, Recording(model, checker.sample)) is expected
