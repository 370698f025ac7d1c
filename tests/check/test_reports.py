"""Every format is what its readers expect, whatever names a model has."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from graphopt.check import Checked, Finding, Level, State
from graphopt.report.checks import github, junit, markdown, sarif, text
from graphopt.report.checks import json as as_json
from tests.check.grammars import GITHUB, junit_faults, sarif_faults

EVIL = "a,b:c%d|`e`\r\n::error::forged\n\x1b[31m\x00\ud800 <&>\"'é"
"""Everything that some format takes for more than text."""


def finding(code: str = "GO101", where: str = "BatchNormalization 'bn'", **more: object) -> Finding:
    return replace(Finding(code, where, "fold would put it into Conv 'c'", key="y", anchor="0123"), **more)  # type: ignore[arg-type]


RESULTS = [
    Checked(
        "models/my net.onnx",
        (
            finding(),
            finding(state=State.BASELINE),
            finding(state=State.SUPPRESSED),
            finding("GO302", level=Level.WARNING),
            finding("GO058", "", level=Level.NOTE),
            finding("GO410", "", facts={"ratio": float("inf"), "count": 3}),
        ),
        ("GO101", "GO302", "GO058", "GO410", "GO053"),
        {"GO201": "quant: no", "GO411": "no limit was set (max-macs)"},
        {"macs": 12},
        0.25,
    ),
    Checked("/abs/clean.onnx", (), ("GO101",), {}, {}, 1.0),
]
HOSTILE = [Checked("evil.onnx", (finding(where=EVIL, why=EVIL, hint=EVIL, key=EVIL),), ("GO101",), {"GO201": EVIL}, {}, 0.0)]


@pytest.mark.parametrize("results", [RESULTS, HOSTILE, []], ids=["usual", "hostile", "none"])
def test_sarif_holds_to_its_schema(results: list[Checked]) -> None:
    assert not list(sarif_faults(json.loads(sarif.render(results))))


@pytest.mark.parametrize("results", [RESULTS, HOSTILE, []], ids=["usual", "hostile", "none"])
def test_sarif_holds_to_the_schema_as_published(results: list[Checked]) -> None:
    log = json.loads(sarif.render(results))
    published = pytest.importorskip("fluidattacks_core.sarif", reason="it is one of the development dependencies")
    published.SarifLog.model_validate(log)
    for change in ({"surprise": 1}, {"results": [{"level": "fatal", "message": {"text": "x"}}]}, {"results": [{}]}):
        log["runs"][0] |= change
        with pytest.raises(ValueError, match="validation error"):
            published.SarifLog.model_validate(log)


def test_sarif_says_what_and_where() -> None:
    (run,) = json.loads(sarif.render(RESULTS))["runs"]
    first = run["results"][0]
    rule = run["tool"]["driver"]["rules"][first["ruleIndex"]]
    assert rule["id"] == first["ruleId"] == "GO101"
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/my%20net.onnx"
    assert first["locations"][0]["logicalLocations"][0]["name"] == "BatchNormalization 'bn'"
    assert first["partialFingerprints"] == {sarif.FINGERPRINT: "GO101:0123"}
    assert [r.get("suppressions", [{"kind": None}])[0]["kind"] for r in run["results"][:3]] == [None, "external", "inSource"]


def test_the_schema_check_can_fail() -> None:
    log = json.loads(sarif.render(RESULTS))
    log["runs"][0]["results"][0]["level"] = "fatal"
    log["runs"][0]["surprise"] = 1
    del log["version"]
    assert len(list(sarif_faults(log))) == 3


@pytest.mark.parametrize("results", [RESULTS, HOSTILE, []], ids=["usual", "hostile", "none"])
def test_junit_holds_to_its_schema(results: list[Checked]) -> None:
    assert not list(junit_faults(ET.fromstring(junit.render(results).encode("utf-8"))))


def test_junit_has_a_case_a_model_and_rule() -> None:
    root = ET.fromstring(junit.render(RESULTS))
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("7", "2", "2")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["GO101 unfolded-batch-norm", "GO410 too-many-parameters"]
    assert root.get("tests") == "8"


@pytest.mark.parametrize("results", [RESULTS, HOSTILE], ids=["usual", "hostile"])
def test_github_annotations_hold_to_their_grammar(results: list[Checked]) -> None:
    *commands, total = github.render(results).split("\n")
    assert commands
    assert all(GITHUB.fullmatch(line) for line in commands)
    assert not total.startswith("::")


def test_a_name_forges_no_annotation() -> None:
    assert sum(line.startswith("::") for line in github.render(HOSTILE).splitlines()) == 1


def test_markdown_shows_names_as_they_are() -> None:
    rows = [line for line in markdown.render(HOSTILE).splitlines() if line.startswith("| error")]
    assert len(rows) == 1
    assert rows[0].count("|") - rows[0].count("\\|") == 5  # the borders of the table alone


def test_text_is_a_line_a_finding() -> None:
    lines = text.render(RESULTS).splitlines()
    assert lines[0] == "models/my net.onnx"
    assert lines[1] == "  error GO101: BatchNormalization 'bn': fold would put it into Conv 'c'"
    assert "  not asked: GO201: quant: no" in lines
    assert not any("GO411" in line for line in lines)  # nobody set a limit
    assert lines[-1] == "2 models: 2 errors, 1 warning, 1 note (1 in the baseline, 1 suppressed)"


def test_text_keeps_control_characters_out_of_the_terminal() -> None:
    assert "\x1b" not in text.render(HOSTILE)
    assert sum("forged" in line for line in text.render(HOSTILE).splitlines()) <= 3


def test_json_has_everything() -> None:
    data = json.loads(as_json.render(RESULTS))
    assert data["failed"] is True
    assert [m["failed"] for m in data["models"]] == [True, False]
    assert data["models"][0]["findings"][-1]["facts"] == {"ratio": "inf", "count": 3}
    assert data["models"][0]["counts"] == {"error": 2, "warning": 1, "note": 1}
