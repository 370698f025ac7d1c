"""A node computes what another one computed.

What: Two nodes have the same operator, attributes and inputs.

Why: The work is done twice.

Example: Two heads that each resize the same feature map.

Remedy: `graphopt run MODEL --passes simplify -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask simplify."""
    for rewrite in subject.simplified:
        label, key = subject.node_of(rewrite.where)
        if rewrite.code == "duplicate-node":
            yield RULE.found(label, rewrite.what, key=key)


RULE = Rule("GO111", "duplicate-node", Level.ERROR, check, fix="simplify")
