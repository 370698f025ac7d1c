"""An initializer that nothing reads.

What: A constant is stored that no node reads and no output gives.

Why: It is shipped and loaded for nothing.

Example: The weights of a head that was cut off.

Remedy: `graphopt run MODEL --passes simplify -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.anchor import of_text
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask simplify."""
    for rewrite in subject.simplified:
        if rewrite.code == "unread-initializer":
            constant = subject.model.constants().get(rewrite.where.strip("'"))
            form = "" if constant is None else f"{tuple(constant._values.shape)} {constant._values.dtype}"
            yield RULE.found(rewrite.where, "nothing reads it", anchor=of_text(RULE.name, form))


RULE = Rule("GO113", "unread-initializer", Level.WARNING, check, fix="simplify")
