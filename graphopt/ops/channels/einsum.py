"""Einsum of two operands that is a matrix product with named axes, such as exporters write for attention.

Letters of both operands and the result are batch axes, one letter of both operands alone is summed over, the others are of one
operand and the result. Brought into the order [batch, left, summed] x [batch, summed, right] it is MatMul.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphopt.model import node_label
from graphopt.ops.channels.layout import Layout, select
from graphopt.ops.channels.mixing import contraction
from graphopt.ops.channels.rule import View
from graphopt.ops.channels.ties import seal_inputs
from graphopt.ops.equation import spelled
from graphopt.ops.facts import Facts


@dataclass(frozen=True, slots=True)
class Equation:
    """The letters of both operands and of the result, and what they are."""

    first: str
    second: str
    result: str
    batch: str
    left: str
    summed: str
    right: str


def equation_of(node: gs.Node, facts: Facts) -> Equation | None:
    """The equation of a node, None if it is no matrix product."""
    named = spelled(node, facts)
    if named is None or len(named[0]) != 2:
        return None
    (first, second), result = named
    if not all(part.isalpha() and len(set(part)) == len(part) for part in (first, second, result)):
        return None
    batch = "".join(c for c in result if c in first and c in second)
    summed = "".join(c for c in first if c in second and c not in result)
    left, right = ("".join(c for c in part if c not in other) for part, other in ((first, second), (second, first)))
    if len(summed) != 1 or len(right) > 1 or set(result) != {*batch, *left, *right}:
        return None
    return Equation(first, second, result, batch, left, summed, right)


def is_product(node: gs.Node, facts: Facts) -> bool:
    """Whether a node is one that ``einsum`` knows."""
    return equation_of(node, facts) is not None


def einsum(view: View) -> Sequence[Layout | None]:
    """A product of two tensors, each brought into MatMul's order, the result into the order that is asked for."""
    why, named = node_label(view.node), equation_of(view.node, view.facts)
    first, second = view.layout(0), view.layout(1)
    if named is None or first is None or second is None or (first.rank, second.rank) != (len(named.first), len(named.second)):
        seal_inputs(view, f"{why}: its rank is not known")
        return [None]
    order = [
        *(named.first.index(c) for c in named.batch + named.left),
        *([] if named.left else [None]),
        named.first.index(named.summed),
    ]
    left = select(first, [() if a is None else a for a in order])
    spare = max(0, len(named.left) - 1)
    rows = [*(named.second.index(c) for c in named.batch), *[None] * spare, named.second.index(named.summed)]
    right = select(
        second,
        [*(() if a is None else a for a in rows), *(named.second.index(c) for c in named.right or ()), *[()] * (not named.right)],
    )
    made = contraction(view, left, right, why, order)
    letters = [*named.batch, *(named.left or " "), named.right or " "]
    return [select(made, [letters.index(c) for c in named.result])]
