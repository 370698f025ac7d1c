"""Damaged models in the normal suite: a sample of every room, one corpus in all that is whole behind the marker ``slow``.

The oracle is tested too: it must see what it is there to see.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.damage import oracle
from tests.damage.bases import BASES, base
from tests.damage.compare import disagreement, loads
from tests.damage.corpus import EXACT, LOSSY, Case, corpus
from tests.damage.draft import KINDS, Allowed
from tests.damage.process import Run
from tests.damage.survey import failures, survey

SAMPLE = 38
QUICK_BOMBS = ("constant of 8 gib", "concats that double")
"""The room of bombs is for the whole corpus: what a deadline ends takes the deadline."""

LEAST = 600
"""Models that the corpus has at least."""


def sample() -> list[Case]:
    """One case of every so many kinds: all rooms are in it."""
    kinds = [name for name, kind in KINDS.items() if kind.room != "bombs"]
    chosen = {kinds[index * len(kinds) // SAMPLE] for index in range(SAMPLE)}.union(QUICK_BOMBS)
    first: dict[str, Case] = {}
    for case in corpus(extra=False):
        if case.kind in chosen:
            first.setdefault(case.kind, case)
    return list(first.values())


def test_a_sample() -> None:
    cases = sample()
    assert len(cases) == SAMPLE + len(QUICK_BOMBS)
    assert failures(survey(cases)) == []


@pytest.mark.slow
def test_all() -> None:
    verdicts = survey(corpus())
    assert failures(verdicts) == []
    assert len({(c.kind, c.base, c.seed) for c in verdicts}) >= LEAST


def test_the_corpus_is_large_and_the_same_each_time() -> None:
    cases = corpus(extra=False)
    assert len(cases) >= LEAST
    assert len({case.id for case in cases}) == len(cases)
    assert {case.kind for case in cases} == set(KINDS)
    for case in cases[::97]:
        assert case.draft().bytes() == case.draft().bytes()


@pytest.mark.parametrize("name", BASES)
def test_the_bases_are_sound(name: str) -> None:
    proto, files = base(name)
    if not files:
        onnx.checker.check_model(proto, full_check=True)


CASE = Case("nothing", "conv", 0)
REFUSED = Case("no graph", "conv", 0)


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (Run(0, "fine", "", 0, 1.0), ""),
        (Run(-11, "", "", 0, 1.0), "signal"),
        (Run(3, "", "error[GO999]: graphopt: internal error\n", 0, 1.0), "internal"),
        (Run(1, "", "Traceback (most recent call last):\n", 0, 1.0), "traceback"),
        (Run(-9, "", "", 0, 60.0, "timeout"), "timeout"),
        (Run(0, "fine", "", 2 << 30, 1.0), "memory"),
    ],
)
def test_the_oracle_sees_what_no_run_may_do(done: Run, why: str) -> None:
    assert oracle._broken(done, 1000).partition(":")[0] == why


@pytest.mark.parametrize(
    ("done", "code"),
    [
        (Run(2, "", "error[GO003]: m.onnx: a cycle\n", 0, 1.0), "GO003"),
        (Run(2, "", "error[GO003]: m.onnx: a cycle\n  help: look\n", 0, 1.0), "GO003"),
        (Run(2, "", "error[GO003]: m.onnx: a cycle\nand more\n", 0, 1.0), ""),
        (Run(2, "", "error: a cycle\n", 0, 1.0), ""),
        (Run(2, "a table\n", "error[GO003]: m.onnx: a cycle\n", 0, 1.0), ""),
        (Run(1, "", "error[GO503]: m.onnx: fold: other outputs\n", 0, 1.0), ""),
        (Run(0, "", "error[GO003]: m.onnx: a cycle\n", 0, 1.0), ""),
    ],
)
def test_the_oracle_knows_a_clean_error(done: Run, code: str) -> None:
    assert oracle._refusal(done, CASE) == code


def test_a_budget_that_is_not_met_is_clean_where_one_was_asked_for() -> None:
    done = Run(1, "", "error[GO401]: m.onnx: the budget is not met\n", 0, 1.0)
    assert oracle._refusal(done, Case("nothing", "conv", 0, LOSSY)) == "GO401"
    assert oracle._refusal(done, Case("nothing", "conv", 0, EXACT)) == ""


def test_the_oracle_sees_a_wrong_result(tmp_path: Path) -> None:
    proto, _ = base("conv")
    before, after = tmp_path / "a.onnx", tmp_path / "b.onnx"
    before.write_bytes(proto.SerializeToString())
    after.write_bytes(proto.SerializeToString())
    assert disagreement(before, after) == ""
    raw = bytearray(proto.graph.initializer[0].raw_data)
    raw[3] ^= 0x80  # the sign of one weight
    proto.graph.initializer[0].raw_data = bytes(raw)
    after.write_bytes(proto.SerializeToString())
    assert disagreement(before, after).startswith("output")
    after.write_bytes(b"no model")
    assert loads(after)


@pytest.mark.parametrize(
    ("written", "code", "why"),
    [
        ({"model/o.onnx": "x"}, 0, "accepted: this must be refused"),
        ({"model/o.onnx": "x", "model/junk": "y"}, 0, "wrote ['model/junk', 'model/o.onnx'] instead of ['model/o.onnx']"),
        ({}, 1, "exit 1"),
    ],
)
def test_the_oracle_sees_what_must_not_be_accepted(written: dict[str, str], code: int, why: str) -> None:
    assert REFUSED.allowed is Allowed.REFUSED
    done = Run(code, "", "", 0, 1.0)
    assert oracle._accepted(REFUSED, done, Path("m.onnx"), Path("o.onnx"), written).startswith(why)
