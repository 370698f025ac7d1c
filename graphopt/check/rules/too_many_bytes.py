"""A larger model than allowed.

What: The model has more than `max-bytes` allows.

Why: The file, with its external data, is what is shipped.

Example: `max-bytes = 4e6`, and someone exported in float32.

Remedy: Quantize, prune, or raise the limit on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.budgets import over
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject

LIMIT = "max-bytes"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare with the limit."""
    most = subject.budget(LIMIT)
    count = subject.model.size()
    if count > most:
        yield RULE.found("", over(count, most, "bytes"), count=count, limit=most)


RULE = Rule("GO412", "too-many-bytes", Level.ERROR, check)
