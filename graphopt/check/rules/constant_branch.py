"""An If whose condition is known.

What: The condition of an If is constant, so that one of its branches never runs.

Why: The other branch is shipped; and what stands in a body is seen by no fusion and no pass.

Example: A traced `if self.training`.

Remedy: `graphopt run MODEL --passes simplify -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import rewritten
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask simplify."""
    for node in rewritten(subject, "constant-branch"):
        yield RULE.found(node.label, node.what, key=node.key)


RULE = Rule("GO114", "constant-branch", Level.ERROR, check, fix="simplify")
