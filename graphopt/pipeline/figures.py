"""A model's figures: nodes, parameters, MACs and bytes."""

from __future__ import annotations

from graphopt.analysis import Analyses, Cost
from graphopt.model import Model
from graphopt.pipeline.context import InputShapes
from graphopt.pipeline.record import Figures


def figures(facts: Analyses, shapes: InputShapes) -> Figures:
    """The figures of the model that ``facts`` are about, for one run on inputs of these shapes."""
    model, cost = facts.model, facts.get(Cost(inputs=shapes))
    return Figures(
        nodes=model.count(),
        params=cost.params,
        macs=cost.macs,
        bytes=size(model),
        unknown=tuple(cost.unknown),
    )


def size(model: Model) -> int:
    """Bytes of the serialised model, weights included wherever they are stored."""
    return model.size()
