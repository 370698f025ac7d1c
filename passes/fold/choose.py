"""The cheapest exact cover of affine regions, by dynamic programming over nested spans.

For a tensor t and a tensor R that dominates it within its region, f(t, R) is the least cost of computing t from R:

    f(R, R) = 0
    f(t, R) = min( cost of one operator for (r, t) + f(r, R)          over the closed spans (r, t) that have a kernel,
                   cost of t's own operator + f(its input, R)          t = A(x),
                   cost of the addition + sum of f(summand, r) + f(r, R)   t a sum whose summands have the common root r )

A cost is the multiply-accumulates plus the elements written, at the shapes of a sample where the graph's are dynamic. The regions
are visited from the outputs backwards, each node once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import onnx_graphsurgeon as gs

from graphopt.analysis import Cost, Shapes
from graphopt.analysis.affine import Affine, Obstacle, Span, leak
from graphopt.analysis.manager import Analyses
from graphopt.analysis.patterns import Fused
from graphopt.analysis.shapes import InputShapes
from graphopt.model import node_label
from graphopt.ops.affine import Form, Linear, Refused
from graphopt.ops.facts import elements, static
from graphopt.passes.fold.emit import KERNELS, operators


@dataclass(frozen=True, slots=True)
class Choice:
    """A span to replace by one operator, with the cost of its nodes as they are and of the operator."""

    span: Span
    macs_before: int
    macs_after: int


@dataclass(frozen=True, slots=True)
class _Best:
    """A cost, and the spans that are replaced and the nodes that are left as they are to reach it."""

    cost: float
    replaced: tuple[Span, ...] = ()
    kept: frozenset[int] = frozenset()

    def then(self, other: _Best) -> _Best:
        return _Best(self.cost + other.cost, self.replaced + other.replaced, self.kept | other.kept)


@dataclass(slots=True)
class Plan:
    """What to fold, and what stood in the way elsewhere."""

    choices: list[Choice] = field(default_factory=list[Choice])
    obstacles: list[Obstacle] = field(default_factory=list[Obstacle])


def choose(analyses: Analyses, inputs: InputShapes, max_growth: float, fusions: tuple[str, ...] = ()) -> Plan:
    """Cover every affine region of the model. ``max_growth``: cost of a folded operator over that of its nodes, at most.
    ``fusions``: patterns that the target's runtime fuses by itself; no part of them is taken.
    """
    return _Chooser(analyses, inputs, max_growth, fusions).plan()


class _Chooser:
    def __init__(self, analyses: Analyses, inputs: InputShapes, max_growth: float, fusions: tuple[str, ...]) -> None:
        self.fused = analyses.get(Fused(fusions))
        self.model = analyses.model
        self.nodes = analyses.model.graph.nodes
        self.table = analyses.get(Affine())
        self.shapes = analyses.get(Shapes(inputs))
        self.costs = analyses.get(Cost(inputs))
        self.growth = max_growth
        self.positions = {id(n): i for i, n in enumerate(self.nodes)}
        self.made_by = {t.name: i for i, n in enumerate(self.nodes) for t in n.outputs if t.name}
        self.memo: dict[tuple[str, str], _Best] = {}
        self.usable: dict[str, tuple[Span, ...]] = {}
        self.found = Plan(obstacles=[self._weighed(o) for o in self.table.obstacles])

    def plan(self) -> Plan:
        covered: set[int] = set()
        taken: set[int] = set()
        for index in reversed(range(len(self.nodes))):
            if index in covered or index not in self.table.terms:
                continue
            top = self.nodes[index].outputs[0]
            spans = self.table.spans.get(top.name, ())
            if not spans:
                continue
            best = self._best(top, spans[-1].root)
            for span in best.replaced:
                covered |= span.nodes
                if span.nodes & taken:  # what feeds several regions is met once from each
                    continue
                taken |= span.nodes
                self.found.choices.append(Choice(span, self._macs_before(span.nodes), self._macs_after(span) or 0))
            covered |= best.kept
        return self.found

    def _best(self, top: gs.Tensor, root: gs.Tensor) -> _Best:
        if top is root:
            return _Best(0.0)
        key = (top.name, root.name)
        known = self.memo.get(key)
        if known is None:
            known = self.memo[key] = min(self._ways(top, root), key=lambda b: b.cost)
        return known

    def _ways(self, top: gs.Tensor, root: gs.Tensor) -> list[_Best]:
        """All ways to compute ``top`` from ``root``; leaving its operator as it is comes first, so that it wins a tie."""
        ways = [self._keep(top, root)]
        dominators = self._dominators(top)
        for span in self._closed(top):
            if root.name in dominators[span.root.name]:
                cost = self._emitted(span)
                if cost is not None:
                    ways.append(_Best(cost, (span,)).then(self._best(span.root, root)))
        return ways

    def _dominators(self, top: gs.Tensor) -> dict[str, set[str]]:
        """For each root of ``top``: the roots that lie at or before it."""
        names = [s.root.name for s in self.table.spans.get(top.name, ())]
        return {name: set(names[i:]) for i, name in enumerate(names)}

    def _keep(self, top: gs.Tensor, root: gs.Tensor) -> _Best:
        index = self.made_by[top.name]
        node, term = self.nodes[index], self.table.terms[index]
        own = _Best(self._cost(index), kept=frozenset({index}))
        if isinstance(term, Linear):
            return own.then(self._best(node.inputs[term.source], root))
        common = self.table.spans[top.name][0].root
        for source in {node.inputs[i].name: node.inputs[i] for i, _ in term.parts}.values():
            own = own.then(self._best(source, common))
        return own.then(self._best(common, root))

    def _closed(self, top: gs.Tensor) -> tuple[Span, ...]:
        """The spans to ``top`` that fewer operators may replace."""
        known = self.usable.get(top.name)
        if known is None:
            known = self.usable[top.name] = tuple(s for s in self.table.spans[top.name] if self._replaceable(s))
        return known

    def _replaceable(self, span: Span) -> bool:
        written = operators(self.model, span)
        if written is None or written >= len(span.nodes):
            return False
        refused = leak(self.model, span, self.positions)
        if span.nodes & self.fused:
            refused = Refused("fused-by-runtime", "a part of it belongs to a kernel that the target's runtime makes by itself")
        if refused is not None and sum(self.nodes[i].op in KERNELS for i in span.nodes) > 0:
            obstacle = Obstacle(self._label(span), refused, span.top.name, span.map.form, span.nodes)
            self.found.obstacles.append(self._weighed(obstacle))
        return refused is None

    def _emitted(self, span: Span) -> float | None:
        """Cost of one operator for a span; None if it is dearer than its nodes by more than is allowed."""
        macs, size = self._macs_after(span), elements(self.shapes.shape(span.top))
        if macs is None or size is None:
            self.found.obstacles.append(
                Obstacle(self._label(span), Refused("unknown-size", "its cost is not known without a sample input"))
            )
            return None
        written = (operators(self.model, span) or 1) * size
        before = sum(self._cost(i) for i in span.nodes)
        if macs + written > before * self.growth:
            if macs > self._macs_before(span.nodes):
                self.found.obstacles.append(Obstacle(self._label(span), _dearer(macs, self._macs_before(span.nodes))))
            return None
        return (macs + written) / self.growth

    def _weighed(self, obstacle: Obstacle) -> Obstacle:
        """What would not pay is refused for its cost, whatever else stands in its way."""
        if obstacle.form is None or obstacle.form.transposed:
            return obstacle
        before = self._macs_before(obstacle.nodes)
        after = self._macs(obstacle.form, self.nodes[self.made_by[obstacle.top]].outputs[0])
        return replace(obstacle, refused=_dearer(after, before)) if after is not None and after > before else obstacle

    def _macs_after(self, span: Span) -> int | None:
        form = span.map.form
        if form.diagonal and not any(self.nodes[i].op in KERNELS for i in span.nodes):
            return 0
        return self._macs(form, span.root if form.transposed else span.top)

    def _macs(self, form: Form, counted: gs.Tensor) -> int | None:
        """Multiply-accumulates of a map at the positions of ``counted``: its output, or the input of a transposed one."""
        shape = static(self.shapes.shape(counted))
        return None if shape is None else form.weights * (math.prod(shape) // max(shape[form.axis], 1))

    def _macs_before(self, nodes: frozenset[int]) -> int:
        costs = [self.costs.of(self.nodes[i]) for i in nodes]
        return sum(c.macs or 0 for c in costs if c is not None)

    def _cost(self, index: int) -> float:
        cost = self.costs.of(self.nodes[index])
        size = elements(self.shapes.shape(self.nodes[index].outputs[0]))
        return ((cost.macs or 0) if cost is not None else 0) + (size or 0)

    def _label(self, span: Span) -> str:
        return node_label(self.nodes[self.made_by[span.top.name]])


def _dearer(after: int, before: int) -> Refused:
    return Refused("cost", f"one operator would take {after:,} multiply-accumulates instead of {before:,}")
