"""What the formats share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from graphopt.check import Checked, Finding, Level, State
from graphopt.check.codes import CODES, Status
from graphopt.check.registry import load
from graphopt.check.subject import NO_CLAIM, NO_LIMIT, NO_REFERENCE


def name_of(code: str) -> str:
    """A rule's name."""
    return CODES[code].name if code in CODES else load(code).name


def new(checked: Checked) -> list[Finding]:
    """The findings that count."""
    return [f for f in checked.findings if f.state is State.NEW]


def message(finding: Finding) -> str:
    """Place and reason."""
    return f"{finding.where}: {finding.why}" if finding.where else finding.why


def plural(count: int, word: str) -> str:
    """``1 error``, ``2 errors``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def totals(results: Sequence[Checked]) -> str:
    """One line on everything."""
    counts = Counter(f.level for checked in results for f in new(checked))
    parts = [plural(counts[level], level.value) for level in Level if counts[level]]
    states = Counter(f.state for checked in results for f in checked.findings)
    more = [
        f"{states[state]} {words}"
        for state, words in ((State.BASELINE, "in the baseline"), (State.SUPPRESSED, "suppressed"))
        if states[state]
    ]
    line = f"{plural(len(results), 'model')}: {', '.join(parts) or 'nothing found'}"
    return f"{line} ({', '.join(more)})" if more else line


def not_asked(checked: Checked) -> Mapping[str, str]:
    """The rules that could not be asked; a limit, a reference or a claim of the target that nobody gave is no news."""
    quiet = (NO_REFERENCE, NO_LIMIT.split("{", maxsplit=1)[0], NO_CLAIM)
    return {code: why for code, why in checked.skipped.items() if not why.startswith(quiet)}


def is_preview(code: str) -> bool:
    """Whether what the rule looks for may still change."""
    return code in CODES and CODES[code].status is Status.PREVIEW
