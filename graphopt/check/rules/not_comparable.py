"""The outputs cannot be compared with the reference at all.

What: The model lacks an output of the reference, fails on its inputs, or gives another shape or type, or NaN where the
    reference has numbers.

Why: Whatever the limits of drift are, they cannot be held.

Example: The reference has two outputs and the model one.

Remedy: Export with the same interface.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask the comparison."""
    if subject.drift.failure is not None:
        yield RULE.found("", subject.drift.failure)
    for output in subject.drift.outputs:
        if output.failure is not None:
            yield RULE.found("", f"output '{output.name}': {output.failure}", output=output.name)


RULE = Rule("GO514", "not-comparable", Level.ERROR, check, stage=Stage.REFERENCE)
