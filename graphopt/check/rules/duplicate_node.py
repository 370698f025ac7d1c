"""A node computes what another one computed.

What: Two nodes have the same operator, attributes and inputs.

Why: The work is done twice.

Example: Two heads that each resize the same feature map.

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
    for node in rewritten(subject, "duplicate-node"):
        yield RULE.found(node.label, node.what, key=node.key)


RULE = Rule("GO111", "duplicate-node", Level.ERROR, check, fix="simplify")
