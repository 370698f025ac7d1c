"""Reports as text and JSON: from hand-made records, so that each figure's form is seen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphopt.pipeline import Refusal, Rewrite
from graphopt.pipeline.record import Accuracy, Figures, PassRecord, Report, Verification
from graphopt.report import to_json, to_text
from graphopt.report.text import distance, si, size
from graphopt.runtime import Timing
from graphopt.verify import Drift, OutputDrift

BEFORE = Figures(nodes=103, params=614_000, macs=39_600_000, bytes=2_484_450)
AFTER = Figures(nodes=26, params=338_000, macs=12_700_000, bytes=372_801, unknown=("Mystery 'm'",))


def drift(rel: float, sqnr: float = math.inf, top1: float | None = None) -> Drift:
    return Drift((OutputDrift("logits", "classes", rel, 1.0, rel, sqnr, 1.0, top1=top1),), runs=64)


def record(name: str = "fold", **changes: object) -> PassRecord:
    made = PassRecord(
        text=f"{name}:multiple=8",
        name=name,
        kind="exact",
        changed=True,
        figures=AFTER,
        verification=Verification("held", "the pass's input", 1e-4, 2e-7, 64),
        drift=drift(2e-7),
        timing=Timing(2.0, 1.0, 2.0, 1.9, 2.1, 100),
        accuracy=None,
        seconds=1.5,
        rewrites=(Rewrite("Conv 'a'", "folded", 100),),
        refusals=(),
        notes=(),
        facts={},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def report(*passes: PassRecord, **changes: object) -> Report:
    made = Report("net.onnx", "fold", "ort-x86-vnni", "calib.npz", True, 0, BEFORE, passes=list(passes))
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_table_as_text() -> None:
    quant = record(
        "quant",
        verification=Verification("measured", "the input model", samples=64),
        drift=drift(0.03, 32.2, 0.969),
        timing=Timing(2.0, 0.3, 6.1, 6.0, 6.2, 100),
    )
    golden = Path(__file__).with_name("report.txt")
    text = to_text(report(record(), quant))
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_text_keeps_to_its_width(width: int) -> None:
    refusals = tuple(Refusal(f"Conv 'a very long name of a node, number {n}'", "padded-bias", "why " * 30) for n in range(9))
    text = to_text(report(record(refusals=refusals, notes=("note " * 40,)), accuracy=Accuracy(9, 10)), width=width)
    assert max(len(line) for line in text.splitlines()) <= width


def test_refusals_are_grouped_by_code() -> None:
    refusals = [Refusal(f"Conv 'c{n}'", "padded-bias", "the border differs") for n in range(5)]
    text = to_text(report(record(refusals=(*refusals, Refusal("Add 'a'", "cost", "dearer")))))
    assert "5 x padded-bias: the border differs" in text
    assert "at Conv 'c0', Conv 'c1', Conv 'c2' and 2 more" in text
    assert "1 x cost: dearer" in text


def test_notes_are_loud() -> None:
    text = to_text(report(record(notes=("GENERATED INPUTS",)), notes=["NOT VERIFIED: because"]))
    assert "note: NOT VERIFIED: because" in text
    assert "note: fold: GENERATED INPUTS" in text


def test_unknown_costs_are_said() -> None:
    text = to_text(report(record()))
    assert "12.7 M+" in text
    assert "Mystery 'm'" in text


def test_markup_in_names_is_left_alone() -> None:
    text = to_text(report(record(refusals=(Refusal("Conv '[bold]x[/bold]'", "cost", ":smile:"),))))
    assert "[bold]x[/bold]" in text
    assert ":smile:" in text


def test_colour_only_when_asked_for() -> None:
    made = report(record(notes=("loud",)))
    assert "\x1b[" not in to_text(made)
    assert "\x1b[" in to_text(made, colour=True)


NUMBERS = [
    (si, 0, "0"),
    (si, 999, "999"),
    (si, 1000, "1.00 k"),
    (si, 999_500, "1.00 M"),
    (si, 12_684_480, "12.7 M"),
    (si, 2.5e12, "2.50 T"),
    (size, 1023, "1.00 KiB"),
    (size, 512, "512 B"),
    (size, 372_801, "364 KiB"),
]


@pytest.mark.parametrize(("form", "number", "text"), NUMBERS)
def test_numbers(form: object, number: float, text: str) -> None:
    assert form(number) == text  # type: ignore[operator]


DISTANCES = [
    (drift(0.0), "0"),
    (drift(1.4e-7), "1e-07"),
    (drift(0.03, 32.24), "32.2 dB"),
    (drift(0.03, 32.24, 0.96875), "32.2 dB, 96.9%"),
    (drift(math.inf, math.inf), "inf"),
]


@pytest.mark.parametrize(("found", "text"), DISTANCES)
def test_distances(found: Drift, text: str) -> None:
    assert distance(found) == text


STATEMENTS = [
    (Verification("unchanged"), "nothing changed"),
    (Verification("unverified"), "NOT VERIFIED"),
    (Verification("measured", "the input model", samples=8), "no equality promised"),
    (Verification("held", "the pass's input", 1e-4, 2e-7, 8), "within 1e-04 of the range, 2.0e-07 found on 8 samples"),
]


@pytest.mark.parametrize(("found", "words"), STATEMENTS, ids=[found.status for found, _ in STATEMENTS])
def test_statements(found: Verification, words: str) -> None:
    assert words in str(found)


def test_json_has_what_the_schema_says() -> None:
    data = json.loads(to_json(report(record(accuracy=Accuracy(9, 10)), accuracy=Accuracy(10, 10), notes=["loud"])))
    top = "schema graphopt model pipeline target seed seconds data input result accuracy notes passes"
    assert set(data) == set(top.split())
    fields = "pass name kind changed figures accuracy seconds notes facts verification drift latency rewrites refusals"
    assert set(data["passes"][0]) == set(fields.split())
    assert data["schema"] == 1
    assert data["accuracy"] == {"input": 1.0, "result": 0.9, "count": 10}
    assert data["result"]["unknown"] == ["Mystery 'm'"]
    assert data["passes"][0]["rewrites"] == [{"where": "Conv 'a'", "what": "folded", "macs_saved": 100}]


def test_json_takes_what_json_cannot_carry() -> None:
    facts = {"inf": math.inf, "nan": math.nan, "scalar": np.float32(0.5), "array": np.arange(3), "path": Path("a")}
    data = json.loads(to_json(report(record(facts=facts, drift=drift(math.inf, -math.inf)))), parse_constant=pytest.fail)
    assert data["passes"][0]["facts"] == {"inf": "inf", "nan": None, "scalar": 0.5, "array": [0, 1, 2], "path": "a"}
    assert data["passes"][0]["drift"]["worst_rel"] == "inf"
    assert data["passes"][0]["drift"]["sqnr_db"] == "-inf"
