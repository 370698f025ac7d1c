"""An Identity.

What: An Identity node that simplify would take out.

Why: It copies a tensor; exporters leave it where a module did nothing.

Example: `torch.nn.Identity` in place of a layer that was removed.

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
    for node in rewritten(subject, "neutral"):
        if node.op == "Identity":
            yield RULE.found(node.label, "its output is its input", key=node.key)


RULE = Rule("GO108", "identity", Level.ERROR, check, fix="simplify")
