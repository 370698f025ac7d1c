"""Parallel branches that could be one operator.

What: Linear branches of one tensor that are added or concatenated, and that fold would compose into one.

Why: RepVGG, DBB, ACNet and MobileOne train with parallel convolutions; at inference each is a pass over the activations, and
    the sum another.

Example: `Conv3x3(x) + Conv1x1(x)`.

Remedy: `graphopt run MODEL --passes fold -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.dryrun import describe, kind_of
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label


def check(subject: Subject) -> Iterator[Finding]:
    """Ask fold which regions it would compose, and take those of this kind."""
    for region in subject.regions:
        if kind_of(region) == "branch":
            yield RULE.found(
                node_label(region.nodes[-1]),
                f"fold would make one operator of {describe(region)}",
                key=node_key(region.nodes[-1]),
                macs_before=region.macs_before,
                macs_after=region.macs_after,
            )


RULE = Rule("GO103", "foldable-branch", Level.ERROR, check, fix="fold")
