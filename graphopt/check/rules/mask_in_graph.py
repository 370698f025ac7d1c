"""A pruning mask that still multiplies.

What: A tensor is multiplied by a constant with one number for each channel, some of which are zero, and prune would remove
    channels of it at no loss.

Why: The masked channels are computed and thrown away; the mask was meant to be taken for what it says.

Example: A model exported during pruning, with `torch.nn.utils.prune` still attached.

Remedy: `graphopt run MODEL --passes prune:ratio=0 -o OUT` removes the channels, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels import Channels
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label


def check(subject: Subject) -> Iterator[Finding]:
    """Look at every product with a constant."""
    for node in subject.model.graph.nodes:
        values = [subject.model.value(t) for t in node.inputs] if node.op == "Mul" else []
        data = [t for t, v in zip(node.inputs, values, strict=bool(values)) if v is None]
        for value in [v for v in values if v is not None]:
            if len(data) == 1 and _is_mask(value) and _along_channels(value, data[0], subject):
                gone = int(np.count_nonzero(value == 0))
                yield RULE.found(
                    node_label(node), f"masks {gone} of {value.size} channels", key=node_key(node), masked=gone, of=int(value.size)
                )


def _is_mask(value: NDArray[Any]) -> bool:
    """Gates that were learned have zeros too, beside other numbers."""
    return sum(d > 1 for d in value.shape) == 1 and bool((value == 0).any()) and bool(value.any())


def _along_channels(value: NDArray[Any], data: gs.Tensor, subject: Subject) -> bool:
    """Whether the numbers are one for each channel of ``data`` of a group that prune would make narrower: a window is one for each
    place, and what is masked in one branch of a sum, or at an output, cannot go.
    """
    shape = subject.shapes.shape(data)
    along = next(i for i, d in enumerate(value.shape) if d > 1)
    axis = along - value.ndim + (0 if shape is None else len(shape))
    pruned = {rewrite.where.strip("'") for rewrite in subject.pruned}
    return any(
        any(place.tensor == data.name and axis in place.axes for place in group.places)
        for group in subject.analyses.get(Channels(subject.input_shapes)).prunable
        if any(place.tensor in pruned for place in group.places)
    )


RULE = Rule("GO304", "mask-in-graph", Level.ERROR, check, fix="prune:ratio=0")
