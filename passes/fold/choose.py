"""The cheapest exact cover of affine regions, by dynamic programming over nested spans.

For a tensor t and a tensor R that dominates it within its region, f(t, R) is the least cost of computing t from R:

    f(R, R) = 0
    f(t, R) = min( cost of one operator for (r, t) + f(r, R)          over the closed spans (r, t) that have a kernel,
                   cost of t's own operator + f(its input, R)          t = A(x),
                   cost of the addition + sum of f(summand, r) + f(r, R)   t a sum whose summands have the common root r )

A cost is the multiply-accumulates plus the elements written, at the shapes of a sample where the graph's are dynamic. The regions
are visited from the outputs backwards, each node once. What a span costs as it is comes from the span that it extends, so the work
for a node does not grow with the length of the spans that end there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import onnx_graphsurgeon as gs

from graphopt.analysis import Cost, Shapes
from graphopt.analysis.affine import Affine, Obstacle, Span, leak
from graphopt.analysis.cost import CostTable
from graphopt.analysis.manager import Analyses
from graphopt.analysis.patterns import Fused
from graphopt.analysis.shapes import InputShapes
from graphopt.model import Model, node_label
from graphopt.ops.affine import Form, Linear, Refused
from graphopt.ops.facts import elements, static
from graphopt.passes.fold.emit import KERNELS, Factors, operators


@dataclass(frozen=True, slots=True)
class Choice:
    """A span to replace by one operator, with the cost of its nodes as they are and of the operator."""

    span: Span
    macs_before: int
    macs_after: int


@dataclass(frozen=True, slots=True, eq=False)
class _Cover:
    """A way to compute a tensor: one operator for ``span``, or the one at position ``kept`` as it is, after all of ``before``."""

    cost: float
    span: Span | None = None
    kept: int = -1
    before: tuple[_Cover, ...] = ()

    def pieces(self) -> Iterator[_Cover]:
        """This and all that come before it, each once."""
        stack: list[_Cover] = [self]
        seen = {id(self)}
        while stack:
            one = stack.pop()
            yield one
            fresh = [c for c in one.before if id(c) not in seen]
            seen.update(map(id, fresh))
            stack.extend(reversed(fresh))


class _Present(NamedTuple):
    """Operators as they are: multiply-accumulates, cost, how many are kernels, how many belong to a kernel of the runtime's."""

    macs: int
    cost: int
    kernels: int
    fused: int


@dataclass(slots=True)
class Plan:
    """What to fold, and what stood in the way elsewhere: one obstacle for each place and reason."""

    choices: list[Choice] = field(default_factory=list[Choice])
    obstacles: dict[tuple[str, str], Obstacle] = field(default_factory=dict[tuple[str, str], Obstacle])

    def refuse(self, obstacle: Obstacle) -> None:
        """Note an obstacle; the last one counts."""
        self.obstacles[obstacle.where, obstacle.refused.code] = obstacle


def choose(analyses: Analyses, inputs: InputShapes, max_growth: float, fusions: tuple[str, ...] = ()) -> Plan:
    """Cover every affine region of the model. ``max_growth``: cost of a folded operator over that of its nodes, at most.
    ``fusions``: patterns that the target's runtime fuses by itself; no part of them is taken.
    """
    return _Chooser(analyses, _needed(analyses.model, inputs), max_growth, fusions).plan()


def _needed(model: Model, inputs: InputShapes) -> InputShapes:
    """The shapes of a sample, where they say more than the graph."""
    known = all(static(None if t.shape is None else tuple(t.shape)) is not None for t in model.graph.inputs)
    return () if known else inputs


class _Chooser:
    def __init__(self, analyses: Analyses, inputs: InputShapes, max_growth: float, fusions: tuple[str, ...]) -> None:
        self.model = analyses.model
        self.nodes = analyses.model.graph.nodes
        self.table = analyses.get(Affine())
        self.shapes = analyses.get(Shapes(inputs))
        self.growth = max_growth
        self.made_by = {t.name: i for i, n in enumerate(self.nodes) for t in n.outputs if t.name}
        self.present = self._list_present(analyses.get(Cost(inputs)), analyses.get(Fused(fusions)))
        self.sizes: dict[str, tuple[int, ...] | None] = {}
        self.best: dict[tuple[str, str], _Cover] = {}
        self.usable: dict[str, tuple[Span, ...]] = {}
        self.roots: dict[str, dict[str, int]] = {}
        self.emitted: dict[int, float | None] = {}
        self.totals: dict[int, _Present] = {}
        self.factors: Factors = {}
        self.opset = analyses.model.opset
        self.found = Plan()
        for obstacle in self.table.obstacles:
            self.found.refuse(self._weighed(obstacle))

    def _list_present(self, costs: CostTable, fused: frozenset[int]) -> list[_Present]:
        """Each node by itself."""
        listed: list[_Present] = []
        for index, node in enumerate(self.nodes):
            cost = costs.of(node)
            macs = (cost.macs or 0) if cost is not None else 0
            size = (elements(self.shapes.shape(node.outputs[0])) or 0) if node.outputs else 0
            listed.append(_Present(macs, macs + size, node.op in KERNELS, index in fused))
        return listed

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
            for piece in self._best(top, spans[-1].root).pieces():
                if piece.span is None:
                    covered.add(piece.kept)
                    continue
                nodes = piece.span.nodes
                covered |= nodes
                if not nodes & taken:  # what feeds several regions is met once from each
                    taken |= nodes
                    before, after = self._total(piece.span).macs, self._macs_after(piece.span) or 0
                    self.found.choices.append(Choice(piece.span, before, after))
            self.factors.clear()  # the next region has others
        return self.found

    def _best(self, top: gs.Tensor, root: gs.Tensor) -> _Cover:
        """The cheapest way from ``root`` to ``top``; leaving its operator as it is comes first, so that it wins a tie."""
        if top is root:
            return _NOTHING
        key = (top.name, root.name)
        known = self.best.get(key)
        if known is None:
            known = self._keep(top, root)
            order = self._order(top)
            last = order.get(root.name, -1)
            for span in self._closed(top):
                if order[span.root.name] > last:
                    break
                cost = self._emitted(span)
                if cost is None:
                    continue
                rest = self._best(span.root, root)
                if cost + rest.cost < known.cost:
                    known = _Cover(cost + rest.cost, span, before=(rest,))
            self.best[key] = known
        return known

    def _order(self, top: gs.Tensor) -> dict[str, int]:
        """The roots of ``top``, nearest first: each dominates those with a smaller number."""
        known = self.roots.get(top.name)
        if known is None:
            spans = self.table.spans.get(top.name, ())
            known = self.roots[top.name] = {s.root.name: i for i, s in enumerate(spans)}
        return known

    def _keep(self, top: gs.Tensor, root: gs.Tensor) -> _Cover:
        index = self.made_by[top.name]
        node, term = self.nodes[index], self.table.terms[index]
        if isinstance(term, Linear):
            before = [self._best(node.inputs[term.source], root)]
        else:
            common = self.table.spans[top.name][0].root
            summands = {node.inputs[i].name: node.inputs[i] for i, _ in term.parts}
            before = [*(self._best(t, common) for t in summands.values()), self._best(common, root)]
        cost: float = self.present[index].cost
        for part in before:
            cost += part.cost
        return _Cover(cost, kept=index, before=tuple(before))

    def _closed(self, top: gs.Tensor) -> tuple[Span, ...]:
        """The spans to ``top`` that fewer operators may replace."""
        known = self.usable.get(top.name)
        if known is None:
            known = self.usable[top.name] = tuple(s for s in self.table.spans[top.name] if self._replaceable(s))
        return known

    def _replaceable(self, span: Span) -> bool:
        present = self._total(span)
        written = operators(span.map, present.kernels > 0, self.opset, self.factors)
        if written is None or written >= span.count:
            return False
        refused = leak(self.model, span)
        if present.fused:
            refused = Refused("fused-by-runtime", "a part of it belongs to a kernel that the target's runtime makes by itself")
        if refused is not None and present.kernels:
            dearer = self._dearer(span.map.form, span.top, present.macs)
            self.found.refuse(Obstacle(self._label(span), dearer or refused))
        return refused is None

    def _total(self, span: Span) -> _Present:
        """What the operators of a span are together."""
        row: list[Span] = []
        known = self.totals.get(id(span))
        while known is None and span.inner is not None:
            row.append(span)
            span = span.inner
            known = self.totals.get(id(span))
        if known is None:
            known = self.totals[id(span)] = _sum_of([self.present[i] for i in span.held])
        for longer in reversed(row):
            one = self.present[longer.last]
            known = self.totals[id(longer)] = _Present(
                known.macs + one.macs, known.cost + one.cost, known.kernels + one.kernels, known.fused + one.fused
            )
        return known

    def _emitted(self, span: Span) -> float | None:
        """Cost of one operator for a span; None if it is dearer than its nodes by more than is allowed."""
        if id(span) not in self.emitted:
            self.emitted[id(span)] = self._cost_of_one(span)
        return self.emitted[id(span)]

    def _cost_of_one(self, span: Span) -> float | None:
        macs, shape = self._macs_after(span), self._shape(span.top)
        if macs is None or shape is None:
            unknown = Refused("unknown-size", "its cost is not known without a sample input")
            self.found.refuse(Obstacle(self._label(span), unknown))
            return None
        present = self._total(span)
        written = (operators(span.map, present.kernels > 0, self.opset, self.factors) or 1) * math.prod(shape)
        if macs + written > present.cost * self.growth:
            if macs > present.macs:
                self.found.refuse(Obstacle(self._label(span), _dearer(macs, present.macs)))
            return None
        return (macs + written) / self.growth

    def _weighed(self, obstacle: Obstacle) -> Obstacle:
        """What would not pay is refused for its cost, whatever else stands in its way."""
        if obstacle.form is None:
            return obstacle
        top = self.nodes[self.made_by[obstacle.top]].outputs[0]
        refused = self._dearer(obstacle.form, top, sum(self.present[i].macs for i in obstacle.nodes))
        return obstacle if refused is None else replace(obstacle, refused=refused)

    def _dearer(self, form: Form, top: gs.Tensor, before: int) -> Refused | None:
        """That one operator for ``form`` would take more multiply-accumulates than there are ``before``, if it would."""
        after = None if form.transposed else self._macs(form, top)
        return _dearer(after, before) if after is not None and after > before else None

    def _macs_after(self, span: Span) -> int | None:
        form = span.map.form
        if form.diagonal and not self._total(span).kernels:
            return 0
        return self._macs(form, span.root if form.transposed else span.top)

    def _macs(self, form: Form, counted: gs.Tensor) -> int | None:
        """Multiply-accumulates of a map at the positions of ``counted``: its output, or the input of a transposed one."""
        shape = self._shape(counted)
        return None if shape is None else form.weights * (math.prod(shape) // max(shape[form.axis], 1))

    def _shape(self, tensor: gs.Tensor) -> tuple[int, ...] | None:
        """The shape if it is a known one, for the sample at least."""
        if tensor.name not in self.sizes:
            self.sizes[tensor.name] = static(self.shapes.shape(tensor))
        return self.sizes[tensor.name]

    def _label(self, span: Span) -> str:
        return node_label(self.nodes[span.last])


_NOTHING = _Cover(0.0)


def _sum_of(listed: list[_Present]) -> _Present:
    macs, costs, kernels, fused = zip(*listed, strict=True) if listed else ((), (), (), ())
    return _Present(sum(macs), sum(costs), sum(kernels), sum(fused))


def _dearer(after: int, before: int) -> Refused:
    return Refused("cost", f"one operator would take {after:,} multiply-accumulates instead of {before:,}")
