"""An input or an output is gone, new, or at another place.

What: The names of inputs or outputs, or their order, are not those of the reference.

Why: Whoever feeds the model by the old interface gets an error, or worse, another result.

Example: The output `logits` became `output`.

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


RULE = Rule("GO026", "inputs-or-outputs-changed", Level.ERROR, check, stage=Stage.REFERENCE)
