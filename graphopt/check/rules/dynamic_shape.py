"""An input leaves sizes open.

What: A dimension of an input has no number.

Why: A runtime cannot plan memory ahead, most accelerators refuse the model, and rewrites that need the size are not made. A
    batch that is open on purpose is fine.

Example: `image: float32[N, 3, H, W]`.

Remedy: Export with fixed sizes, or fix them: `onnxruntime.tools.make_dynamic_shape_fixed`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Look at the inputs as declared."""
    for tensor in subject.model.graph.inputs:
        shape = tensor.shape
        if shape is None:
            yield RULE.found(f"'{tensor.name}'", "its rank is not known")
        elif any(not isinstance(d, int) or d < 0 for d in shape):
            shown = ", ".join("?" if d is None else str(d) for d in shape)
            yield RULE.found(f"'{tensor.name}'", f"its sizes are open: [{shown}]")


RULE = Rule("GO058", "dynamic-shape", Level.NOTE, check)
