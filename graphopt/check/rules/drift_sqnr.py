"""The signal-to-noise ratio below the limit.

What: The signal-to-noise ratio of an output against the reference (`--against`) is below `min-sqnr-db`, on the samples of
    `--data` or on generated inputs.

Why: 10 log10(sum r^2 / sum (r - c)^2): how much of the output is still the reference's. A drift of 2 dB between two exports
    of one training is a fault of the export.

Example: `min-sqnr-db = 30`, and a quantized model gives 24.

Remedy: Calibrate on better data, keep sensitive layers in float, or see by `graphopt diff` where the models part.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import too_low
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject

LIMIT = "min-sqnr-db"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare every output that has the figure."""
    return too_low(RULE, subject, LIMIT, lambda output: output.sqnr_db, "{:.1f} dB")


RULE = Rule("GO510", "drift-sqnr", Level.ERROR, check, stage=Stage.REFERENCE)
