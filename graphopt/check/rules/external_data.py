"""Weights lie in other files.

What: Tensors keep their values as external data.

Why: The model is more than one file: whoever copies the .onnx alone has none. Above 2 GiB there is no other way.

Example: `model.onnx` with `model.onnx.data` beside it.

Remedy: Where the model is small, save it as one file: `onnx.save(onnx.load(path), out)`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Count them."""
    stored = [c for c in subject.model.constants().values() if getattr(c._values, "external", False)]
    if stored:
        size = sum(c._values.nbytes for c in stored)
        yield RULE.found("", f"{len(stored)} tensors, {size:,} bytes, lie in other files", tensors=len(stored), bytes=size)


RULE = Rule("GO052", "external-data", Level.NOTE, check)
