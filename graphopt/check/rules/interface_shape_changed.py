"""An input or an output has another shape than in the reference.

What: Rank, size or symbolic dimension of an input or an output is not that of the reference. What was open may become known;
    a dimension with a name may not become a number.

Why: Whoever feeds the model by the old interface gets an error, or worse, another result.

Example: A batch `N` was exported as 1.

Remedy: Export with the names, types and dynamic axes of before, or give the new interface a new version.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask the comparison of interfaces, and take what has this rule's code."""
    yield from (RULE.found("", fault.why) for fault in subject.interface if fault.code == RULE.code)


RULE = Rule("GO028", "interface-shape-changed", Level.ERROR, check, stage=Stage.REFERENCE)
