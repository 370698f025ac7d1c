"""Where two models part: the first inner tensor, in the order of the reference's graph, that they compute differently.

Rewrites keep the names of the tensors that they still compute, so tensors of one name are taken for the same one. A
tensor that has another shape in the candidate (a pruned width) says nothing and is passed over, as is one that only one
of them has. A difference of rounding grows on its way; hence "first" means first beyond the tolerance.

A tensor that is asked for is an output, and onnxruntime does not fuse across outputs. What is found is a place to look
at, not a proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx

from graphopt.errors import ModelError
from graphopt.runtime.prefix import prefix
from graphopt.runtime.session import Array, Feed, Runnable, Session, as_proto
from graphopt.runtime.stream import tensor_groups
from graphopt.verify.measures import Measure, OutputDrift

_BUDGET = 2**27


@dataclass(frozen=True, slots=True)
class Difference:
    """The first tensor that differs.

    Attributes:
        tensor: its name.
        node: the node of the reference that computes it, as a person would name it.
        drift: how far apart the two values are.
        compared: how many tensors before it (and with it) were compared.
    """

    tensor: str
    node: str
    drift: OutputDrift
    compared: int

    def __str__(self) -> str:
        how = self.drift.failure or f"by {self.drift.rel:.1e} of its range"
        return f"they first differ at '{self.tensor}' ({self.node}), {how}"


def first_difference(reference: Runnable, candidate: Runnable, feed: Feed, relative: float) -> Difference | None:
    """The first tensor whose difference is over ``relative`` of its range; None if there is none, or a model does not run."""
    first, second = as_proto(reference), as_proto(candidate)
    nodes = {name: node for node in first.graph.node if node.op_type != "Constant" for name in node.output if name}
    common = {name for node in second.graph.node for name in node.output} & set(nodes)
    # Where the candidate computes a tensor by other means its operators need not look alike; only names count.
    compared = 0
    for names in tensor_groups(first, [name for name in nodes if name in common], feed, _BUDGET):
        try:
            expected = Session(prefix(first, names)).run(feed)
            got = Session(prefix(second, names)).run(feed)
        except ModelError:
            return None
        for name in names:
            if _another_shape(expected, got, name):
                continue
            compared += 1
            measure = Measure(name)
            measure.update(expected[name], got[name], 0)
            drift = measure.result()
            if drift.rel > relative:
                return Difference(name, _label(nodes[name]), drift, compared)
    return None


def _another_shape(expected: Mapping[str, object], got: Mapping[str, object], name: str) -> bool:
    one, other = expected[name], got[name]
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return False
    return cast(Array, one).shape != cast(Array, other).shape


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node.name}'" if node.name else node.op_type
