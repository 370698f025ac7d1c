"""Where a graph holds expressions that a runtime recognises and replaces by one kernel of its own.

A pattern is an expression over operators, as a target's file writes it:

    (Mul (Mul x (Add (Erf (Div x c)) c)) c)

An operator's name begins with a capital; ``c``, ``c1``, ``c2`` ... stand for any constant, other names for a tensor, the same one
wherever the name stands. Operands of Add and Mul match in either order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphopt.analysis.manager import Analyses, Analysis
from graphopt.model import Model

Expression = str | tuple["Expression", ...]
Binding = dict[str, str]
Match = tuple[Binding, frozenset[int]]

_COMMUTATIVE = frozenset({"Add", "Mul"})
_CONSTANT = re.compile(r"c\d*")


def parse_pattern(text: str) -> Expression:
    """The nested form of a pattern. Raises ValueError for unbalanced or empty text."""
    parts = re.findall(r"[()]|[^\s()]+", text)
    stack: list[list[Expression]] = [[]]
    for part in parts:
        if part == "(":
            stack.append([])
        elif part == ")":
            if len(stack) < 2 or not stack[-1]:
                raise ValueError(f"unbalanced parentheses in '{text}'")
            inner = tuple(stack.pop())
            stack[-1].append(inner)
        else:
            stack[-1].append(part)
    if len(stack) != 1 or len(stack[0]) != 1 or isinstance(stack[0][0], str):
        raise ValueError(f"'{text}' is not one expression in parentheses")
    return stack[0][0]


@dataclass(frozen=True, slots=True)
class Fused(Analysis[frozenset[int]]):
    """Positions in ``graph.nodes`` of the nodes that belong to any occurrence of ``patterns``."""

    patterns: tuple[str, ...]

    def compute(self, analyses: Analyses) -> frozenset[int]:
        """Try every pattern at every node of its outermost operator."""
        matcher = _Matcher(analyses.model)
        expressions = [parse_pattern(p) for p in self.patterns]
        found: set[int] = set()
        for node in analyses.model.graph.nodes:
            for expression in expressions:
                if node.op == expression[0] and node.outputs:
                    match = next(matcher.match(node.outputs[0], expression, {}), None)
                    found |= match[1] if match is not None else frozenset()
        return frozenset(found)


class _Matcher:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.positions = {id(n): i for i, n in enumerate(model.graph.nodes)}

    def match(self, tensor: gs.Tensor, expression: Expression, bound: Binding) -> Iterator[Match]:
        """All ways in which ``tensor`` is ``expression``, given the names bound so far."""
        if isinstance(expression, str):
            if _CONSTANT.fullmatch(expression):
                if self.model.value(tensor) is not None:
                    yield bound, frozenset()
            elif bound.get(expression, tensor.name) == tensor.name:
                yield {**bound, expression: tensor.name}, frozenset()
            return
        node = self.model.producer(tensor)
        index = self.positions.get(id(node)) if node is not None else None
        if node is None or index is None or node.op != expression[0]:
            return
        given, wanted = [t for t in node.inputs if t.name], expression[1:]
        if len(given) < len(wanted):
            return
        orders = [given[: len(wanted)]]
        if node.op in _COMMUTATIVE and len(wanted) == 2:
            orders.append(given[1::-1])
        for order in orders:
            for binding, nodes in self._all(order, wanted, bound):
                yield binding, nodes | {index}

    def _all(self, tensors: list[gs.Tensor], expressions: tuple[Expression, ...], bound: Binding) -> Iterator[Match]:
        if not expressions:
            yield bound, frozenset()
            return
        for binding, nodes in self.match(tensors[0], expressions[0], bound):
            for rest, more in self._all(tensors[1:], expressions[1:], binding):
                yield rest, nodes | more
