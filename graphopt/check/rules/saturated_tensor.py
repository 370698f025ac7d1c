"""A quantized weight that clips.

What: More than one weight in a hundred lies at an end of the integer range, beyond the one or two of each channel that a
    range by maximum brings.

Why: Values at the ends stand for larger ones that were cut off; the error is largest where the weights are.

Example: A scale from another checkpoint; per-tensor ranges learned for a smaller network.

Remedy: Take the range of the weights from the weights: largest magnitude of each channel over 127.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label

SHARE = 0.01


def check(subject: Subject) -> Iterator[Finding]:
    """Count the weights at the ends."""
    for node in subject.quantizers.nodes("DequantizeLinear"):
        value = subject.model.value(node.inputs[0])
        scale = subject.quantizers.scale(node)
        if value is None or scale is None or value.dtype.name not in ("int8", "uint8") or value.ndim < 2:
            continue
        ends = np.iinfo(value.dtype.name)
        low = ends.min + 1 if value.dtype.name == "int8" else ends.min
        count = int(np.count_nonzero((value <= low) | (value >= ends.max)))
        if count > 2 * scale.scale.size + SHARE * value.size:
            share = count / value.size
            yield RULE.found(
                node_label(node), f"{share:.1%} of the weights lie at an end of the range", key=node_key(node), share=share
            )


RULE = Rule("GO207", "saturated-tensor", Level.WARNING, check)
