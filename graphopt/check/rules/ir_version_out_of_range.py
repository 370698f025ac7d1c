"""A version of the file format that readers may not know.

What: `ir_version` is below 3, or above that of the installed onnx.

Why: Runtimes refuse files of a newer format than they know; below 3 there were no operator sets.

Example: A model exported by a nightly onnx.

Remedy: Write the file with the version that the runtime knows: `model.ir_version = 10`.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject

OLDEST = 3


def check(subject: Subject) -> Iterator[Finding]:
    """Compare with onnx's own."""
    version, newest = subject.model.ir_version, int(onnx.IR_VERSION)
    if not OLDEST <= version <= newest:
        yield RULE.found("", f"IR version {version}; known are {OLDEST} to {newest}", ir_version=version)


RULE = Rule("GO055", "ir-version-out-of-range", Level.WARNING, check)
