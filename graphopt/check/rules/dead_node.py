"""A node that no output needs.

What: Nothing that leads to an output of the graph reads what the node computes.

Why: Some runtimes run it all the same, and its weights are shipped.

Example: An auxiliary head of training whose output was dropped.

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
    for node in rewritten(subject, "dead-node"):
        if node.key:
            yield RULE.found(node.label, "no output needs it", key=node.key)


RULE = Rule("GO106", "dead-node", Level.ERROR, check, fix="simplify")
