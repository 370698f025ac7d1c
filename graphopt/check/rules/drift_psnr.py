"""The peak signal-to-noise ratio below the limit.

What: The peak signal-to-noise ratio of an output against the reference (`--against`) is below `min-psnr-db`, on the samples
    of `--data` or on generated inputs.

Why: 10 log10(range^2 / mean (r - c)^2), for outputs that are images: what super-resolution and denoising are judged by.

Example: `min-psnr-db = 45`.

Remedy: As for the signal-to-noise ratio.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import too_low
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Subject

LIMIT = "min-psnr-db"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare every output that has the figure."""
    return too_low(RULE, subject, LIMIT, lambda output: output.psnr_db, "{:.1f} dB")


RULE = Rule("GO511", "drift-psnr", Level.ERROR, check, stage=Stage.REFERENCE)
