"""The cheapest exact cover of affine regions, by dynamic programming over nested spans.

For a tensor t and a tensor R that dominates it within its region, f(t, R) is the least cost of computing t from R:

    f(R, R) = 0
    f(t, R) = min( cost of the operators for (r, t) + f(r, R)      over the closed spans (r, t) that can be written,
                   cost of t's own operator + f(its input, R)      t = A(x),
                   cost of the addition + sum of f(summand, r) + f(r, R)   t a sum whose summands have the common root r )

A cost is the multiply-accumulates plus the elements written plus the weights read, at the shapes of a sample where the graph's are
dynamic. No more operators and no more multiply-accumulates are written than there were; as many operators only where that is
cheaper. The regions are visited from the outputs backwards, each tensor once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import onnx_graphsurgeon as gs

from graphopt.analysis import Cost, Shapes
from graphopt.analysis.affine import Affine, Obstacle, Span, leak
from graphopt.analysis.manager import Analyses
from graphopt.analysis.patterns import Fused
from graphopt.analysis.shapes import InputShapes
from graphopt.model import node_label
from graphopt.ops.affine import Refused
from graphopt.ops.facts import elements, static
from graphopt.passes.fold.part import parts
from graphopt.passes.fold.recipes import KERNELS, Recipe, recipes, weigh


@dataclass(frozen=True, slots=True)
class Choice:
    """A span to replace in the way of ``recipe``, with the multiply-accumulates of its nodes as they are."""

    span: Span
    recipe: Recipe
    macs_before: int


@dataclass(frozen=True, slots=True)
class _Best:
    """A cost, and the spans that are replaced and the tensors that are computed as they are to reach it."""

    cost: float
    replaced: tuple[Choice, ...] = ()
    kept: frozenset[str] = frozenset()

    def then(self, other: _Best) -> _Best:
        return _Best(self.cost + other.cost, self.replaced + other.replaced, self.kept | other.kept)


@dataclass(slots=True)
class Plan:
    """What to fold, and what stood in the way elsewhere."""

    choices: list[Choice] = field(default_factory=list[Choice])
    obstacles: list[Obstacle] = field(default_factory=list[Obstacle])


@dataclass(frozen=True, slots=True)
class Rules:
    """``max_growth``: cost of folded operators over that of the operators that they replace, at most. ``fusions``: patterns that
    the target's runtime fuses by itself; no part of them is taken. ``approximate``: take what is not exact at the border.
    """

    max_growth: float = 1.0
    fusions: tuple[str, ...] = ()
    approximate: bool = False


def choose(analyses: Analyses, inputs: InputShapes, rules: Rules) -> Plan:
    """Cover every affine region of the model."""
    return _Chooser(analyses, inputs, rules).plan()


class _Chooser:
    def __init__(self, analyses: Analyses, inputs: InputShapes, rules: Rules) -> None:
        self.fused = analyses.get(Fused(rules.fusions))
        self.model = analyses.model
        self.nodes = analyses.model.graph.nodes
        self.table = analyses.get(Affine(rules.approximate))
        self.facts = analyses.get(Shapes())
        self.shapes = analyses.get(Shapes(inputs))
        self.costs = analyses.get(Cost(inputs))
        self.growth = rules.max_growth
        self.positions = {id(n): i for i, n in enumerate(self.nodes)}
        self.made_by = {t.name: i for i, n in enumerate(self.nodes) for t in n.outputs if t.name}
        self.memo: dict[tuple[str, str], _Best] = {}
        self.usable: dict[str, tuple[tuple[Choice, float], ...]] = {}
        self.found = Plan(obstacles=[self._weighed(o) for o in self.table.obstacles])

    def plan(self) -> Plan:
        covered: set[str] = set()
        taken: set[int] = set()
        for index in reversed(range(len(self.nodes))):
            for top in self.nodes[index].outputs:
                spans = self.table.spans.get(top.name, ())
                if top.name in covered or not spans:
                    continue
                best = self._best(top, spans[-1].root)
                for choice in best.replaced:
                    covered |= {t.name for i in choice.span.nodes for t in self.nodes[i].outputs}
                    if choice.span.nodes & taken:  # what feeds several regions is met once from each
                        continue
                    taken |= choice.span.nodes
                    self.found.choices.append(choice)
                covered |= best.kept
        self._part(taken)
        return self.found

    def _part(self, taken: set[int]) -> None:
        """Kernels of which several selections read parts, where nothing else was done to them."""
        found, obstacles = parts(self.model, self.table, self._root_shape, self._cost)
        self.found.obstacles += obstacles
        for group in found:
            nodes = frozenset[int]().union(*(span.nodes for span, _ in group))
            if nodes & (taken | self.fused):
                continue
            taken |= nodes
            share = self._macs_before(nodes) // len(group)
            self.found.choices += [Choice(span, recipe, share) for span, recipe in group]

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
        for choice, cost in self._closed(top):
            start = choice.span.root
            if root.name in dominators[start.name]:
                ways.append(_Best(cost, (choice,)).then(self._best(start, root)))
        return ways

    def _dominators(self, top: gs.Tensor) -> dict[str, set[str]]:
        """For each root of ``top``: the roots that lie at or before it."""
        names = [s.root.name for s in self.table.spans.get(top.name, ())]
        return {name: set(names[i:]) for i, name in enumerate(names)}

    def _keep(self, top: gs.Tensor, root: gs.Tensor) -> _Best:
        made = self.table.made[top.name]
        # What a root before this one offers is looked at when the tensor is visited by itself.
        farthest = self.table.spans[top.name][-1].root is root
        cost = sum(self._cost(i) / max(len(self.nodes[i].outputs), 1) for i in made.nodes)
        own = _Best(cost, kept=frozenset({top.name}) if farthest else frozenset())
        if len(made.sources) == 1:
            return own.then(self._best(made.sources[0], root))
        common = self.table.spans[top.name][0].root
        for source in made.sources:
            own = own.then(self._best(source, common))
        return own.then(self._best(common, root))

    def _closed(self, top: gs.Tensor) -> tuple[tuple[Choice, float], ...]:
        """The spans to ``top`` that can be replaced, with the cost that counts for them."""
        known = self.usable.get(top.name)
        if known is None:
            found = [(s, self._choice(s)) for s in self.table.spans[top.name]]
            known = tuple((c, c.recipe.cost / self.growth) for _, c in found if c is not None)
            self.usable[top.name] = known
        return known

    def _choice(self, span: Span) -> Choice | None:
        """The cheapest way to write a span; None if there is none, or not one that pays."""
        ways = recipes(self.model, span, self._root_shape(span))
        ways = [w for w in ways if w.operators <= len(span.nodes)]
        if not ways:
            return None
        kernels = sum(self.nodes[i].op in KERNELS for i in span.nodes)
        refused = leak(self.model, span, self.positions)
        if span.nodes & self.fused:
            refused = Refused("fused-by-runtime", "a part of it belongs to a kernel that the target's runtime makes by itself")
        if refused is None and self._root_shape(span) is None:
            refused = Refused("unknown-size", "its cost is not known without a sample input")
        if refused is not None:
            if kernels and min(w.operators for w in ways) < len(span.nodes):
                self._refuse(span, refused)
            return None
        best = min(ways, key=lambda w: (w.cost, w.operators))
        return self._paying(span, best)

    def _paying(self, span: Span, best: Recipe) -> Choice | None:
        macs = self._macs_before(span.nodes)
        before = sum(self._cost(i) for i in span.nodes)
        dearer = best.macs > macs * self.growth or best.cost > before * self.growth
        if span.map.form.border:
            # What the files would grow by is never worth it: the constant has one element for each of the output.
            dearer = dearer or best.params > sum(self._params(i) for i in span.nodes)
        if not dearer and (best.operators < len(span.nodes) or best.cost < before):
            return Choice(span, best, macs)
        if best.macs > macs:
            self._refuse(span, _dearer(best.macs, macs))
        elif span.map.form.border:
            self._refuse(span, _BORDER)
        return None

    def _refuse(self, span: Span, refused: Refused) -> None:
        label = node_label(self.nodes[self.made_by[span.top.name]])
        self.found.obstacles.append(self._weighed(Obstacle(label, refused, span.top.name, span.map.form, span.nodes)))

    def _weighed(self, obstacle: Obstacle) -> Obstacle:
        """What would not pay is refused for its cost, whatever else stands in its way."""
        if obstacle.form is None or obstacle.refused.code == "cost":
            return obstacle
        before = self._macs_before(obstacle.nodes)
        after = weigh(obstacle.form, static(self.shapes.shape(self.nodes[self.made_by[obstacle.top]].outputs[0])))
        return replace(obstacle, refused=_dearer(after, before)) if after is not None and after > before else obstacle

    def _root_shape(self, span: Span) -> tuple[int, ...] | None:
        return static(self.shapes.shape(span.root))

    def _macs_before(self, nodes: frozenset[int]) -> int:
        costs = [self.costs.of(self.nodes[i]) for i in nodes]
        return sum(c.macs or 0 for c in costs if c is not None)

    def _params(self, index: int) -> int:
        cost = self.costs.of(self.nodes[index])
        return 0 if cost is None else cost.params

    def _cost(self, index: int) -> float:
        """Of a node as it is, in the terms of ``Recipe.cost``."""
        cost = self.costs.of(self.nodes[index])
        written = sum(elements(self.shapes.shape(t)) or 0 for t in self.nodes[index].outputs if t.name)
        return ((cost.macs or 0) + cost.params if cost is not None else 0) + written


_BORDER = Refused("border-map", "a bias lies before zero padding, and the constant that makes up for it at the border does not pay")


def _dearer(after: int, before: int) -> Refused:
    return Refused("cost", f"one operator would take {after:,} multiply-accumulates instead of {before:,}")
