"""Arithmetic on constants.

What: A node computes the same value in every run: its inputs are constants, or sizes that are known.

Why: It is computed in every run, or by every runtime at every start; and weights behind it are none for whoever looks for
    constants (quantizers, compilers).

Example: `Shape -> Gather -> Concat -> Reshape` for a size that is fixed.

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
    for node in rewritten(subject, "constant", "computed-shape"):
        if node.key:
            yield RULE.found(node.label, f"simplify would compute it: {node.what}", key=node.key)


RULE = Rule("GO107", "unfolded-constant", Level.WARNING, check, fix="simplify")
