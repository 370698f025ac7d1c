"""The agreement of the greatest score below the limit.

What: The agreement of the greatest score of an output against the reference (`--against`) is below `min-top1`, on the
    samples of `--data` or on generated inputs.

Why: The share of samples for which both models name the same class: what a user of a classifier notices.

Example: `min-top1 = 0.99`.

Remedy: As for the signal-to-noise ratio; more samples make the figure surer.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import too_low
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject

LIMIT = "min-top1"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare every output that has the figure."""
    return too_low(RULE, subject, LIMIT, lambda output: output.top1, "{:.4f}")


RULE = Rule("GO512", "drift-top1", Level.ERROR, check, stage=Stage.REFERENCE)
