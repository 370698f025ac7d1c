"""Arithmetic that changes nothing.

What: An operator whose output equals its input for any input: `x * 1`, `x + 0`, a Concat of one, a pool of one pixel.

Why: It reads and writes the whole tensor.

Example: `x * 1.0` where a learned scale was switched off.

Remedy: `graphopt run MODEL --passes simplify -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import rewritten
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.rules.redundant_layout_change import LAYOUT
from graphopt.check.subject import Subject

NAMED = LAYOUT | {"Identity", "Dropout"}
"""Those have rules of their own."""


def check(subject: Subject) -> Iterator[Finding]:
    """Ask simplify."""
    for node in rewritten(subject, "neutral"):
        if node.op not in NAMED and node.key:
            yield RULE.found(node.label, "its output is its input", key=node.key)


RULE = Rule("GO112", "neutral-operator", Level.ERROR, check, fix="simplify")
