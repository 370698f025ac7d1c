"""For programs: everything, with ``schema`` to tell versions apart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.check import Checked, Finding, Level, State
from graphopt.check.finding import Fact
from graphopt.report.checks.common import name_of

SCHEMA = 1


def render(results: Sequence[Checked]) -> str:
    """The report."""
    failed = any(checked.failed for checked in results)
    return json.dumps({"schema": SCHEMA, "failed": failed, "models": [_model(one) for one in results]}, indent=2, allow_nan=False)


def parse(text: str) -> list[Checked]:
    """The results of a report that ``render`` made."""
    return [
        Checked(
            model["model"],
            tuple(_parsed(entry) for entry in model["findings"]),
            tuple(model["ran"]),
            model["skipped"],
            model["facts"],
            model["seconds"],
        )
        for model in json.loads(text)["models"]
    ]


def _parsed(entry: dict[str, Any]) -> Finding:
    return Finding(
        entry["code"],
        entry["where"],
        entry["why"],
        entry["hint"],
        entry["node"],
        entry["anchor"],
        entry["facts"],
        Level(entry["level"]),
        State(entry["state"]),
    )


def _model(checked: Checked) -> dict[str, Any]:
    return {
        "model": checked.model,
        "failed": checked.failed,
        "counts": {level.value: checked.count(level) for level in Level},
        "facts": _finite(checked.facts),
        "findings": [_finding(finding) for finding in checked.findings],
        "ran": list(checked.ran),
        "skipped": dict(checked.skipped),
        "seconds": round(checked.seconds, 3),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": name_of(finding.code),
        "level": finding.level.value,
        "state": finding.state.value,
        "where": finding.where,
        "why": finding.why,
        "hint": finding.hint,
        "node": finding.key,
        "anchor": finding.anchor,
        "facts": _finite(finding.facts),
    }


def _finite(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """JSON has no NaN and no infinity; as text they are still told."""
    return {name: str(v) if isinstance(v, float) and not math.isfinite(v) else v for name, v in facts.items()}
