"""Parallel branches that could be one operator.

What: Linear branches of one tensor that are added or concatenated, and that fold would compose into one.

Why: RepVGG, DBB, ACNet and MobileOne train with parallel convolutions; at inference each is a pass over the activations, and
    the sum another.

Example: `Conv3x3(x) + Conv1x1(x)`.

Remedy: `graphopt run MODEL --passes fold -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import foldable
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask fold which regions it would compose, and take those of this kind."""
    return foldable(RULE, subject, "branch")


RULE = Rule("GO103", "foldable-branch", Level.ERROR, check, fix="fold")
