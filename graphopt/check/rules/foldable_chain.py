"""Linear operators in a row that could be one.

What: A chain of convolutions, matrix products, scales and moves of data that fold would compose into fewer operators,
    exactly and at no higher cost.

Why: An expansion that helps training (SESR, ECB, a 1x1 before a 3x3) multiplies the arithmetic of inference.

Example: A 1x1 convolution from 16 to 256 channels, then one back to 16: 16 times the multiply-accumulates of one 1x1.

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
    return foldable(RULE, subject, "chain")


RULE = Rule("GO102", "foldable-chain", Level.ERROR, check, fix="fold")
