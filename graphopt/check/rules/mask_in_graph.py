"""A pruning mask that still multiplies.

What: A tensor is multiplied by a constant with one number for each channel, some of which are zero.

Why: The masked channels are computed and thrown away; the mask was meant to be taken for what it says.

Example: A model exported during pruning, with `torch.nn.utils.prune` still attached.

Remedy: `graphopt run MODEL --passes prune:ratio=0 -o OUT` removes the channels, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label


def check(subject: Subject) -> Iterator[Finding]:
    """Look at every product with a constant."""
    for node in subject.model.graph.nodes:
        values = [subject.model.value(t) for t in node.inputs] if node.op == "Mul" else []
        for value in [v for v in values if v is not None]:
            along = [d for d in value.shape if d > 1]
            if len(along) == 1 and len(values) - sum(v is not None for v in values) == 1 and _is_mask(value):
                gone = int(np.count_nonzero(value == 0))
                yield RULE.found(
                    node_label(node), f"masks {gone} of {value.size} channels", key=node_key(node), masked=gone, of=int(value.size)
                )


def _is_mask(value: NDArray[Any]) -> bool:
    """Gates that were learned have zeros too, beside other numbers."""
    return bool((value == 0).any()) and bool(value.any())


RULE = Rule("GO304", "mask-in-graph", Level.ERROR, check, fix="prune:ratio=0")
