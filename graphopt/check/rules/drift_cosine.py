"""The cosine below the limit.

What: The cosine of an output against the reference (`--against`) is below `min-cosine`, on the samples of `--data` or on
    generated inputs.

Why: sum r c / sqrt(sum r^2 sum c^2): blind to scale, for embeddings that are compared by angle.

Example: `min-cosine = 0.999`.

Remedy: As for the signal-to-noise ratio.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject

LIMIT = "min-cosine"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare every output that has the figure."""
    least = subject.budget(LIMIT)
    for output in subject.drift.outputs:
        if output.cosine is not None and output.cosine < least:
            why = f"output '{output.name}': {output.cosine:.5f}, less than the limit of {least:g}"
            yield RULE.found("", why, output=output.name, value=output.cosine, limit=least)


RULE = Rule("GO513", "drift-cosine", Level.ERROR, check, stage=Stage.REFERENCE)
