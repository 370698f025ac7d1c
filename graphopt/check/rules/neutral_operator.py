"""Arithmetic that changes nothing.

What: An operator whose output equals its input for any input: `x * 1`, `x + 0`, a Concat of one, a pool of one pixel.

Why: It reads and writes the whole tensor.

Example: `x * 1.0` where a learned scale was switched off.

Remedy: `graphopt run MODEL --passes simplify -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject

NAMED = frozenset(
    ("Identity", "Dropout", "Cast", "CastLike", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Slice", "Pad")
)
"""Those have rules of their own."""


def check(subject: Subject) -> Iterator[Finding]:
    """Ask simplify."""
    for rewrite in subject.simplified:
        label, key = subject.node_of(rewrite.where)
        op = subject.op_of(key)
        if rewrite.code == "neutral" and op not in NAMED and key:
            yield RULE.found(label, "its output is its input", key=key)


RULE = Rule("GO112", "neutral-operator", Level.ERROR, check, fix="simplify")
