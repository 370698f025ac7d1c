"""A weight is NaN or infinite.

What: A constant holds NaN; or it holds an infinity, and a node multiplies or normalises by it.

Why: One NaN in a weight makes every output NaN. Infinities are legitimate in masks that are added, and only there.

Example: A batch norm whose running variance became NaN in training.

Remedy: Train or export again; look for the step at which the loss became NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject, finite
from graphopt.model import node_key, node_label

MULTIPLIES = frozenset(
    ("Conv", "ConvTranspose", "Gemm", "MatMul", "Mul", "Div", "BatchNormalization", "InstanceNormalization", "LayerNormalization",
     "GroupNormalization", "LSTM", "GRU", "RNN", "Einsum", "PRelu")
)  # fmt: skip


def check(subject: Subject) -> Iterator[Finding]:
    """Look at every constant that a node reads."""
    for node, _, tensor in subject.weights():
        value = subject.model.value(tensor)
        if value is None or finite(value):
            continue
        nan = bool(np.isnan(value.astype(np.float64)).any())
        if nan or node.op in MULTIPLIES:
            what = "NaN" if nan else "infinity"
            yield RULE.found(f"'{tensor.name}'", f"holds {what}, and {node_label(node)} reads it", key=node_key(node))


RULE = Rule("GO053", "non-finite-weight", Level.ERROR, check)
