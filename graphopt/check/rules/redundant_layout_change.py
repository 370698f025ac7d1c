"""A change of layout or type that changes nothing, or is undone at once.

What: A Transpose, Reshape, Cast, Squeeze or the like whose output equals its input, or that could be one with the operator
    of its kind before it.

Why: Each moves the whole tensor through memory for nothing, and hides from fusions what stands on either side.

Example: `Transpose(0, 2, 3, 1)` and `Transpose(0, 3, 1, 2)`, left by a conversion from another layout.

Remedy: `graphopt run MODEL --passes simplify -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import rewritten
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject

LAYOUT = frozenset(("Cast", "CastLike", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Slice", "Pad"))


def check(subject: Subject) -> Iterator[Finding]:
    """Ask simplify."""
    for node in rewritten(subject, "redundant-pair", "neutral"):
        if node.code == "redundant-pair" or node.op in LAYOUT:
            yield RULE.found(node.label, f"simplify would do without it: {node.what}", key=node.key)


RULE = Rule("GO105", "redundant-layout-change", Level.ERROR, check, fix="simplify")
