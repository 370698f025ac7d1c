"""More parameters than allowed.

What: The model has more than `max-params` allows.

Why: Parameters are what is downloaded and held in memory.

Example: `max-params = 1e6`, and the model has 1.2 million.

Remedy: Prune, or raise the limit on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.budgets import over
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject

LIMIT = "max-params"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare with the limit."""
    most = subject.budget(LIMIT)
    count = subject.cost.params
    if count > most:
        yield RULE.found("", over(count, most, "parameters"), count=count, limit=most)


RULE = Rule("GO410", "too-many-parameters", Level.ERROR, check)
