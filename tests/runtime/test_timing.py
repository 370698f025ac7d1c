"""Timing: a model of many times the work is found slower; the same model is found equal; the sums are right."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from graphopt.errors import ModelError
from graphopt.runtime import Session, compare_time, measure_time, timing

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def net(times: int) -> bytes:
    nodes = " ".join(f"a{i + 1} = MatMul(a{i}, a{i})" for i in range(times))
    text = f"{HEAD}g (float[256,256] a0) => (float[256,256] a{times}) {{ {nodes} }}"
    raw: bytes = parser.parse_model(text).SerializeToString()
    return raw


FEED = {"a0": np.zeros((256, 256), np.float32)}


def test_twenty_times_the_work_takes_longer() -> None:
    found = compare_time(net(20), net(1), FEED, repeats=15, seconds=5.0)
    assert found.ratio > 2
    assert found.low <= found.ratio <= found.high
    assert found.a_ms > found.b_ms > 0


def test_sessions_are_taken_too() -> None:
    session = Session(net(1))
    assert compare_time(session, session, FEED, repeats=3, seconds=1.0).pairs == 3
    assert measure_time(session, FEED, repeats=3, seconds=1.0) > 0


def test_time_runs_out_but_not_before_three_pairs() -> None:
    assert compare_time(net(1), net(1), FEED, repeats=10_000, seconds=0.0).pairs == 3
    assert compare_time(net(1), net(1), FEED, repeats=2, seconds=0.0).pairs == 2


def test_a_disturbed_pair_does_not_count() -> None:
    steady = [1.0] * 9
    found = timing.summary([*steady, 50.0], [*[0.5] * 9, 0.5])
    assert found.ratio == pytest.approx(2.0)
    assert found.a_ms == pytest.approx(1000.0)


def test_what_does_not_run() -> None:
    with pytest.raises(ModelError, match="GO030"):
        compare_time(net(1), b"nothing", FEED, repeats=3, seconds=1.0)
