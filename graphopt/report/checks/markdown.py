"""For a job summary or a comment: a table a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from graphopt.check import Checked
from graphopt.errors import printable
from graphopt.report.checks.common import name_of, new, not_asked, totals

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@-])")
MOST_ROWS = 100
"""Of one model; a job summary is cut off at 1 MiB."""


def render(results: Sequence[Checked]) -> str:
    """The report."""
    return "\n".join(["## graphopt check", "", totals(results), *(line for checked in results for line in _model(checked))])


def _model(checked: Checked) -> Iterator[str]:
    found, skipped = new(checked), not_asked(checked)
    if not found and not skipped:
        return
    yield from ("", f"### {escape(checked.model)}", "")
    if found:
        yield from ("| | rule | where | what |", "|---|---|---|---|")
    for finding in found[:MOST_ROWS]:
        rule = f"{finding.code} {name_of(finding.code)}"
        yield f"| {finding.level} | {escape(rule)} | {escape(finding.where)} | {escape(finding.why)} |"
    if len(found) > MOST_ROWS:
        yield from ("", f"and {len(found) - MOST_ROWS} more")
    if skipped:
        yield from ("", "Not asked: " + "; ".join(f"{code}: {escape(why)}" for code, why in skipped.items()))


def escape(text: str) -> str:
    """``text`` as it is, whatever it holds: names come from model files."""
    return _SPECIAL.sub(r"\\\1", printable(text))
