"""The backend models of the onnx package go through unharmed: a seeded sample always, all of them under the marker ``slow``."""

from __future__ import annotations

import numpy as np
import pytest

from tests.differential.backend import misses, sample, survey, table
from tests.differential.cases import all_cases, file_cases
from tests.differential.checks import Verdict, mismatch

SEED = 20
ROUND_TRIPS, RUNS = 2000, 1750
"""At least so many models (of onnx 1.21 and later) have to be there, and to be run by onnxruntime: or the test tests nothing."""


@pytest.mark.parametrize("check", ["roundtrip", "decorated", "outputs"])
def test_a_sample(check: str) -> None:
    verdicts = survey(check, sample(100, SEED))
    assert len(verdicts) == 100
    assert misses(check, verdicts) == {}, "\n".join(table(check, verdicts))
    assert sum(v.kind == "same" for v in verdicts.values()) > 70


@pytest.mark.slow
@pytest.mark.parametrize(("check", "least"), [("roundtrip", ROUND_TRIPS), ("decorated", ROUND_TRIPS), ("outputs", RUNS)])
def test_all(check: str, least: int) -> None:
    verdicts = survey(check, all_cases())
    assert misses(check, verdicts) == {}, "\n".join(table(check, verdicts))
    assert sum(v.kind == "same" for v in verdicts.values()) >= least


def test_files_have_inputs() -> None:
    cases = [c for c in file_cases() if c.kind == "pytorch-operator"]
    assert len(cases) > 30
    assert all(feed for case in cases[:5] for feed in case.feeds())


@pytest.mark.parametrize(
    ("a", "b", "fine"),
    [
        ([1.0, np.nan], [1.0005, np.nan], True),
        ([1.0], [1.002], False),
        ([1.0], [np.nan], False),
        ([np.inf], [-np.inf], False),
        ([[1.0]], [1.0], False),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        ([True], [False], False),
    ],
)
def test_the_tolerance(a: list[object], b: list[object], fine: bool) -> None:
    assert (mismatch(np.array(a), np.array(b)) == "") is fine


def test_types_and_sequences_count() -> None:
    one = np.ones(1, np.float32)
    assert mismatch(one, one.astype(np.float64))
    assert mismatch([one, one], [one])
    assert not mismatch([one, None], [one, None])
    assert mismatch(one, None)


def test_a_table_names_each_miss() -> None:
    lines = list(table("outputs", {"node/a": Verdict("same", rewrites=1), "node/b": Verdict("outputs", "1 of 2 differ")}))
    assert lines == [
        "outputs: 1 of 2 the same (1 of them rewritten), 0 skipped",
        "  node/b: outputs: 1 of 2 differ",
    ]
