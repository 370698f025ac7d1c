"""A width that is no multiple of the target's channel step.

What: A number of channels, of a group that could be given another one, that the kernels of the target round up.

Why: Kernels compute whole vectors: 33 channels cost as much as 48 where the step is 16, and take 1.5 to 2.4 times the time
    of 32 on x86.

Example: A width of 33 after pruning without `multiple=`; a width multiplier of 0.35.

Remedy: Go down to the step below (`graphopt run MODEL --passes prune:multiple=16`), or up to the one above: it costs nothing
    more.
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
        below = width.count // width.step * width.step
        if below and below != width.count:
            above = below + width.step
            wasted = 1 - width.count / above
            why = (
                f"{width.count} channels in steps of {width.step}: {above} are computed, {wasted:.0%} of it for nothing; "
                f"{below} would cost {1 - below / above:.0%} less"
            )
            gain = 1 - below / above
            yield RULE.found(width.label, why, key=width.key, channels=width.count, step=width.step, waste=wasted, gain=gain)


RULE = Rule("GO301", "width-off-step", Level.ERROR, check)
