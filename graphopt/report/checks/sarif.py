"""SARIF 2.1.0 (OASIS standard, 27 March 2020), which code hosts show beside the change that brought a finding.

A model has no lines, so a result has the file as its physical location and the node as a logical one (section 3.33), and is known
again by its partial fingerprint (section 3.27.17), the structural anchor. What the baseline or the model itself leaves out is there
as a suppressed result (section 3.35).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import graphopt
from graphopt.check import Checked, Finding, State
from graphopt.check.registry import doc, load, status
from graphopt.errors import UsageError
from graphopt.report.checks.common import message, name_of

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "graphopt/structure/v1"


def render(results: Sequence[Checked]) -> str:
    """The report: one run."""
    codes = sorted({f.code for checked in results for f in checked.findings})
    places = {code: index for index, code in enumerate(codes)}
    driver = {
        "name": "graphopt",
        "version": graphopt.__version__,
        "semanticVersion": graphopt.__version__,
        "rules": [_rule(code) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _notifications(results)}],
        "results": [_result(checked.model, finding, places) for checked in results for finding in checked.findings],
    }
    return json.dumps(_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}), indent=2)


def _text(value: Any) -> Any:
    """The same with what is no text (a lone surrogate, of a file name that is not UTF-8) escaped: readers refuse the whole log."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_text(key): _text(one) for key, one in cast("dict[str, Any]", value).items()}
    return list(map(_text, cast("Sequence[Any]", value))) if isinstance(value, list) else value


def _rule(code: str) -> dict[str, Any]:
    rule = load(code)
    described: dict[str, Any] = {
        "id": code,
        "name": "".join(word.capitalize() for word in name_of(code).split("-")),
        "defaultConfiguration": {"level": rule.level.value},
        "properties": {"status": status(code).value},
    }
    try:
        text = doc(rule)
    except UsageError:
        return described  # of another package, which says nothing of it; its findings are told all the same
    told = {"shortDescription": text.summary, "fullDescription": f"{text.sections['What']} {text.sections['Why']}"}
    return described | {name: {"text": one} for name, one in (told | {"help": text.sections["Remedy"]}).items()}


def _result(model: str, finding: Finding, places: dict[str, int]) -> dict[str, Any]:
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri(model)}}}
    if finding.where:
        full = f"{Path(model).name}#{finding.key or finding.where}"
        location["logicalLocations"] = [{"name": finding.where, "fullyQualifiedName": full, "kind": "object"}]
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": places[finding.code],
        "level": finding.level.value,
        "message": {"text": message(finding)},
        "locations": [location],
        "partialFingerprints": {FINGERPRINT: f"{finding.code}:{finding.anchor}"},
    }
    if finding.state is not State.NEW:
        inside = finding.state is State.SUPPRESSED
        result["suppressions"] = [{"kind": "inSource" if inside else "external"}]
    return result


def _notifications(results: Sequence[Checked]) -> list[dict[str, Any]]:
    """Rules that could not be asked."""
    return [
        {"level": "note", "message": {"text": f"{checked.model}: {code} was not asked: {why}"}}
        for checked in results
        for code, why in checked.skipped.items()
    ]


def uri(path: str) -> str:
    """A path as a URI reference: relative where the path is, a ``file:`` URI where it is absolute."""
    place = Path(path)
    return place.as_uri() if place.is_absolute() else quote(os.fsencode(place.as_posix()))
