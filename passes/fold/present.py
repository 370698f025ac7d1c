"""What operators are as they stand: what they cost, and of which kind they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphopt.analysis import CostTable, ShapeTable
from graphopt.model import Model
from graphopt.ops.kernels import KERNELS
from graphopt.passes.fold.price import Price, step_of


class Present(NamedTuple):
    """Multiply-accumulates, elements written, parameters, what they cost in the terms of ``Recipe.cost``; how many are kernels,
    transposed convolutions, and how many belong to a kernel of the runtime's.
    """

    macs: int = 0
    written: int = 0
    params: int = 0
    cost: float = 0.0
    kernels: int = 0
    transposed: int = 0
    fused: int = 0


def present(model: Model, shapes: ShapeTable, costs: CostTable, fused: frozenset[int], price: Price) -> list[Present]:
    """Each node by itself."""
    listed: list[Present] = []
    for index, node in enumerate(model.graph.nodes):
        cost = costs.of(node)
        macs, params = (cost.macs or 0, cost.params) if cost is not None else (0, 0)
        step = step_of(node, shapes, macs, params)
        kernel, transposed = node.op in KERNELS, node.op == "ConvTranspose"
        listed.append(Present(macs, step.written, params, price(step), kernel, transposed, index in fused))
    return listed


def total(listed: Sequence[Present]) -> Present:
    """All of them together."""
    macs, written, params, cost, kernels, transposed, fused = listed[0]
    for one in listed[1:]:
        macs += one.macs
        written += one.written
        params += one.params
        cost += one.cost
        kernels += one.kernels
        transposed += one.transposed
        fused += one.fused
    return Present(macs, written, params, cost, kernels, transposed, fused)
