"""For a terminal: a line a finding, the models that have any one after the other, and one line on everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphopt.check import Checked, Level
from graphopt.errors import printable
from graphopt.report.checks.common import message, new, not_asked, totals

_COLOURS = {Level.ERROR: "31", Level.WARNING: "33", Level.NOTE: "36"}


def render(results: Sequence[Checked], *, colour: bool = False) -> str:
    """The report."""
    return "\n".join([*(line for checked in results for line in _model(checked, colour)), totals(results)])


def _model(checked: Checked, colour: bool) -> Iterator[str]:
    found, skipped = new(checked), not_asked(checked)
    if not found and not skipped:
        return
    yield printable(checked.model)
    for finding in found:
        level = finding.level.value
        mark = f"\033[1;{_COLOURS[finding.level]}m{level}\033[0m" if colour else level
        yield f"  {mark} {finding.code}: {printable(message(finding))}"
        if finding.hint:
            yield f"    help: {printable(finding.hint)}"
    by_reason: dict[str, list[str]] = {}
    for code, why in skipped.items():
        by_reason.setdefault(why, []).append(code)
    for why, codes in by_reason.items():
        listed = ", ".join(codes) if len(codes) <= 6 else f"{', '.join(codes[:5])} and {len(codes) - 5} more"
        yield f"  not asked: {listed}: {printable(why)}"
    yield ""
