"""An operator set that the target does not promise to run.

What: The version of the default operator set is outside of the range that the target states; without one, outside of 7 to
    the newest that the installed onnx knows.

Why: onnxruntime tests operator sets from 7 on; what is newer than onnx itself can be neither checked nor inferred.

Example: A model of 2017 with opset 5.

Remedy: Convert it: `onnx.version_converter.convert_version(model, 17)`.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import defs

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject

OLDEST = 7
"""The oldest that onnxruntime supports: its documentation, "ONNX Runtime compatibility"."""


def check(subject: Subject) -> Iterator[Finding]:
    """Compare with the target's range, or with what is known of onnxruntime."""
    low, high = subject.asked.target.opsets or (OLDEST, defs.onnx_opset_version())
    opset = subject.model.opset
    if not low <= opset <= high:
        yield RULE.found("", f"opset {opset}, and {subject.asked.target.name} takes {low} to {high}", opset=opset)


RULE = Rule("GO054", "opset-out-of-range", Level.WARNING, check)
