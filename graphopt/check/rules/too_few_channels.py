"""Fewer channels than one step of the target.

What: A number of channels, of a group that could be given another one, below the step of the target.

Why: Most of each vector is empty: the layer costs as much as one with a whole step of channels, whose capacity would be
    free.

Example: 8 channels where the step is 16.

Remedy: Give the layer a whole step of channels when it is trained next.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.check.widths import widths


def check(subject: Subject) -> Iterator[Finding]:
    """Compare every width that could be another one with the step."""
    for width in widths(subject):
        if width.count < width.step:
            why = f"{width.count} channels of a step of {width.step}: {1 - width.count / width.step:.0%} is computed for nothing"
            yield RULE.found(width.label, why, key=width.key, channels=width.count, step=width.step)


RULE = Rule("GO302", "too-few-channels", Level.WARNING, check)
