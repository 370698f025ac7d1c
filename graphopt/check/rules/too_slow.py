"""Slower than the reference, beyond doubt.

What: The model takes more than `max-latency-ratio` times the time of the reference (`--against`). Both are timed in turns on
    this machine; the median of the ratios of such pairs has a confidence interval, and only an interval that lies above the
    limit as a whole is a finding.

Why: A time in milliseconds depends on the machine and on what else it does; the ratio of two models in alternation does not.

Example: `max-latency-ratio = 1.05`, and a new activation has no fast kernel.

Remedy: See by `graphopt inspect` and a profile of the runtime which operator it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject

LIMIT = "max-latency-ratio"


def check(subject: Subject) -> Iterator[Finding]:
    """Time both."""
    most = subject.budget(LIMIT)
    ratio = subject.latency
    if ratio.low > most:
        why = f"{ratio.median:.2f} times the reference's time ({ratio.low:.2f} to {ratio.high:.2f}); the limit is {most:g}"
        yield RULE.found("", why, ratio=ratio.median, low=ratio.low, high=ratio.high, limit=most)


RULE = Rule("GO415", "too-slow", Level.ERROR, check, stage=Stage.REFERENCE)
