"""The cosine below the limit.

What: The cosine of an output against the reference (`--against`) is below `min-cosine`, on the samples of `--data` or on
    generated inputs.

Why: sum r c / sqrt(sum r^2 sum c^2): blind to scale, for embeddings that are compared by angle.

Example: `min-cosine = 0.999`.

Remedy: As for the signal-to-noise ratio.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import too_low
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject

LIMIT = "min-cosine"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare every output that has the figure."""
    return too_low(RULE, subject, LIMIT, lambda output: output.cosine, "{:.5f}")


RULE = Rule("GO513", "drift-cosine", Level.ERROR, check, stage=Stage.REFERENCE)
