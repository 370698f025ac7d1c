"""A tensor's declared type or shape is not the computed one.

What: `value_info` or an output describes an inner tensor otherwise than inference computes it.

Why: Tools that trust the description plan the wrong memory or refuse the model; it is a sign that a script edited the graph
    and left the rest.

Example: A batch norm was folded and the shapes of the branch were left as they had been.

Remedy: `graphopt run MODEL --passes simplify -o OUT` writes what is computed.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask simplify which descriptions it mends."""
    for rewrite in subject.simplified:
        if rewrite.code == "wrong-description":
            key = subject.makers.get(rewrite.where.strip("'"), "")
            yield RULE.found(rewrite.where, "its declared type or shape is not what the nodes compute", key=key)


RULE = Rule("GO050", "wrong-description", Level.WARNING, check, fix="simplify")
