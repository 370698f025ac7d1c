"""A skip connection around linear operators, which could be in their weights.

What: A sum of a tensor and a linear map of it, that fold would compose into one operator.

Why: Adding the input is adding an identity kernel. Left alone it keeps the input in memory over the branch and costs an
    addition of the whole tensor.

Example: `x + Conv3x3(x)`, as RepVGG trains.

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
    return foldable(RULE, subject, "skip")


RULE = Rule("GO104", "foldable-skip", Level.ERROR, check, fix="fold")
