"""More nodes than allowed.

What: The model has more nodes than `max-nodes` allows; those in the bodies of If, Loop and Scan count too.

Why: Each node costs a start on every device; a number that jumps means that an export fell apart into small operators.

Example: `max-nodes = 120`, and an activation was exported as seven operators.

Remedy: Simplify and fold, or mend the export.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.budgets import over
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject

LIMIT = "max-nodes"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare with the limit."""
    most = subject.budget(LIMIT)
    count = subject.model.count()
    if count > most:
        yield RULE.found("", over(count, most, "nodes"), count=count, limit=most)


RULE = Rule("GO414", "too-many-nodes", Level.ERROR, check)
