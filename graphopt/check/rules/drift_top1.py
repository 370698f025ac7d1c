"""The agreement of the greatest score below the limit.

What: The agreement of the greatest score of an output against the reference (`--against`) is below `min-top1`, on the
    samples of `--data` or on generated inputs.

Why: The share of samples for which both models name the same class: what a user of a classifier notices.

Example: `min-top1 = 0.99`.

Remedy: As for the signal-to-noise ratio; more samples make the figure surer.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject

LIMIT = "min-top1"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare every output that has the figure."""
    least = subject.budget(LIMIT)
    for output in subject.drift.outputs:
        if output.top1 is not None and output.top1 < least:
            why = f"output '{output.name}': {output.top1:.4f}, less than the limit of {least:g}"
            yield RULE.found("", why, output=output.name, value=output.top1, limit=least)


RULE = Rule("GO512", "drift-top1", Level.ERROR, check, stage=Stage.REFERENCE)
