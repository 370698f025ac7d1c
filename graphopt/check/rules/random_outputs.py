"""The model answers the same input differently.

What: Two runs on one input give different outputs.

Why: Nothing can be compared with what draws at random: no verification, no drift, no test.

Example: A RandomNormal, a Multinomial or a Dropout in training mode was exported.

Remedy: Take out what draws, or give it a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Run twice."""
    feed = subject.feeds.first()
    first, second = subject.session.run(feed), subject.session.run(feed)
    for name, value in first.items():
        if not _equal(value, second[name]):
            yield RULE.found("", f"output '{name}' differs between two runs on the same input")


def _equal(first: Any, second: Any) -> bool:
    """Arrays by value, NaN equal to NaN; sequences and maps by how they are shown."""
    if hasattr(first, "dtype") and hasattr(second, "dtype"):
        return np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
    return repr(first) == repr(second)


RULE = Rule("GO032", "random-outputs", Level.ERROR, check)
