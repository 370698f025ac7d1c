"""A float model, of which the target could run much in integers.

What: The model has no quantizers, and quant would run some of its convolutions or matrix products in 8-bit integers on the
    target.

Why: Integer kernels are two to four times as fast where the device has them, and the file is a quarter as large. A model
    that is meant to be float says so by `graphopt.ignore = GO200`.

Example: A float32 classifier checked for a target with integer kernels.

Remedy: `graphopt run MODEL --passes fold,quant --data CALIB --target T -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.ops.kernels import KERNELS


def check(subject: Subject) -> Iterator[Finding]:
    """Ask quant."""
    if subject.quantizers.present:
        return
    plan = subject.integer_plan
    kernels = [key for key in plan if subject.op_of(key) in KERNELS]
    if kernels:
        total = sum(1 for op in subject.ops.values() if op in KERNELS)
        yield RULE.found("", f"quant would run {len(kernels)} of {total} kernels in int8", kernels=len(kernels), of=total)


RULE = Rule("GO200", "float-model", Level.WARNING, check)
