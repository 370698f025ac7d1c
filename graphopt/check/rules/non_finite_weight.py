"""A weight is NaN or infinite.

What: A constant holds NaN; or it holds an infinity, and a node multiplies or normalises by it.

Why: One NaN in a weight makes every output NaN. Infinities are legitimate in masks that are added, and only there.

Example: A batch norm whose running variance became NaN in training.

Remedy: Train or export again; look for the step at which the loss became NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    known: dict[int, str] = {}
    told: set[int] = set()
    for node, tensor in subject.constants_read():
        if id(tensor) not in known:
            known[id(tensor)] = _odd(subject.model.value(tensor))
        what = known[id(tensor)]
        if id(tensor) not in told and (what == "NaN" or (what and node.op in MULTIPLIES)):
            told.add(id(tensor))
            yield RULE.found(f"'{tensor.name}'", f"holds {what}, and {node_label(node)} reads it", key=node_key(node))


def _odd(value: NDArray[Any] | None) -> str:
    """What a constant holds that is no number; "" if it is sound."""
    if value is None or finite(value):
        return ""
    wide = value if value.dtype.kind == "c" else value.astype(np.float64)
    return "NaN" if np.isnan(wide).any() else "infinity"


RULE = Rule("GO053", "non-finite-weight", Level.ERROR, check)
