"""More multiply-accumulates than allowed.

What: The model has more than `max-macs` allows.

Why: Arithmetic is what inference mostly costs. What cannot be counted is told as not checked, never as within the limit.

Example: `max-macs = 5e8`, and the resolution of the export was doubled.

Remedy: Fold, prune, or raise the limit on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.budgets import over
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import NotAsked, Subject

LIMIT = "max-macs"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare with the limit."""
    most = subject.budget(LIMIT)
    count = subject.cost.macs
    if count > most:
        yield RULE.found("", over(count, most, "multiply-accumulates"), count=count, limit=most)
    elif subject.cost.unknown:
        raise NotAsked(
            f"the multiply-accumulates of {len(subject.cost.unknown)} nodes are not known; the others are within {LIMIT}"
        )


RULE = Rule("GO411", "too-many-macs", Level.ERROR, check)
