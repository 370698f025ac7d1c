"""The cheapest exact cover of affine regions, by dynamic programming over nested spans.

For a tensor t and a tensor R that dominates it within its region, f(t, R) is the least cost of computing t from R:

    f(R, R) = 0
    f(t, R) = min( cost of the operators for (r, t) + f(r, R)      over the closed spans (r, t) that can be written,
                   cost of t's own operator + f(its input, R)      t = A(x),
                   cost of the addition + sum of f(summand, r) + f(r, R)   t a sum whose summands have the common root r )

Costs are those of ``price``, at the shapes of a sample where the graph's are dynamic. No more operators and no more
multiply-accumulates are written than there were; as many operators only where that is cheaper; and no kernel whose weights are out
of proportion to what it replaces. The regions are visited from the outputs backwards, each tensor once. What a span costs as it is
comes from the span that it extends, so the work for a node does not grow with the length of the spans that end there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import onnx_graphsurgeon as gs

from graphopt.analysis import Cost, Shapes
from graphopt.analysis.affine import Affine, Obstacle, Span, leak
from graphopt.analysis.manager import Analyses
from graphopt.analysis.patterns import Fused
from graphopt.analysis.shapes import InputShapes
from graphopt.guard.garbage import keeping
from graphopt.model import Model, node_label
from graphopt.ops.affine import Form, Refused
from graphopt.ops.facts import static
from graphopt.passes.fold.beside import side_by_side
from graphopt.passes.fold.part import parts
from graphopt.passes.fold.present import Present, present, total
from graphopt.passes.fold.price import price
from graphopt.passes.fold.recipes import Recipe, Recipes, weigh
from graphopt.target import Target


@dataclass(frozen=True, slots=True)
class Choice:
    """A span to replace in the way of ``recipe``, with the multiply-accumulates of its nodes as they are. ``gathered``: what is to
    be put side by side to make its root, where that does not exist yet.
    """

    span: Span
    recipe: Recipe
    macs_before: int
    gathered: tuple[gs.Tensor, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Cover:
    """A way to compute a tensor: the operators of ``choice``, or ``kept`` as it is, after all of ``before``."""

    cost: float
    choice: Choice | None = None
    kept: str = ""
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


_NOTHING = _Cover(0.0)
_NOWHERE = Target("nowhere")


@dataclass(slots=True)
class Plan:
    """What to fold, and what stood in the way elsewhere: one obstacle for each place and reason."""

    choices: list[Choice] = field(default_factory=list[Choice])
    obstacles: dict[tuple[str, str], Obstacle] = field(default_factory=dict[tuple[str, str], Obstacle])

    def refuse(self, obstacle: Obstacle) -> None:
        """Note an obstacle; the last one counts."""
        self.obstacles[obstacle.where, obstacle.refused.code] = obstacle


@dataclass(frozen=True, slots=True)
class Rules:
    """``max_growth``: cost of folded operators over that of the operators that they replace, at most. ``target``: what operators
    cost, and which patterns its runtime fuses by itself; no part of them is taken. ``approximate``: take what is not exact at the
    border.
    """

    max_growth: float = 1.0
    target: Target = _NOWHERE
    approximate: bool = False


def choose(analyses: Analyses, inputs: InputShapes, rules: Rules) -> Plan:
    """Cover every affine region of the model."""
    with keeping():
        return _Chooser(analyses, _needed(analyses.model, inputs), rules).plan()


def _needed(model: Model, inputs: InputShapes) -> InputShapes:
    """The shapes of a sample, where they say more than the graph."""
    known = all(static(None if t.shape is None else tuple(t.shape)) is not None for t in model.graph.inputs)
    return () if known else inputs


class _Chooser:
    def __init__(self, analyses: Analyses, inputs: InputShapes, rules: Rules) -> None:
        self.analyses = analyses
        self.model = analyses.model
        self.nodes = analyses.model.graph.nodes
        self.table = analyses.get(Affine(rules.approximate))
        self.shapes = analyses.get(Shapes(inputs))
        self.growth = rules.max_growth
        self.made_by = {t.name: i for i, n in enumerate(self.nodes) for t in n.outputs if t.name}
        self.price = price(rules.target, {n.op for n in self.nodes})
        fused = analyses.get(Fused(rules.target.fusions))
        self.present = present(self.model, self.shapes, analyses.get(Cost(inputs)), fused, self.price)
        self.recipes = Recipes(self.model.opset, self.price)
        self.sizes: dict[str, tuple[int, ...] | None] = {}
        self.best: dict[tuple[str, str], _Cover] = {}
        self.usable: dict[str, tuple[Choice, ...]] = {}
        self.roots: dict[str, dict[str, int]] = {}
        self.totals: dict[int, Present] = {}
        self.found = Plan()
        for obstacle in self.table.obstacles:
            self.found.refuse(self._weighed(obstacle))

    def plan(self) -> Plan:
        covered: set[str] = set()
        taken: set[int] = set()
        for index in reversed(range(len(self.nodes))):
            for top in self.nodes[index].outputs:
                spans = self.table.spans.get(top.name, ())
                if top.name in covered or not spans:
                    continue
                for piece in self._best(top, spans[-1].root).pieces():
                    self._take(piece, covered, taken)
        self._part(taken)
        if not self.found.choices:
            self._beside()
        return self.found

    def _take(self, piece: _Cover, covered: set[str], taken: set[int]) -> None:
        if piece.choice is None:
            covered.add(piece.kept)
            return
        nodes = piece.choice.span.nodes
        covered |= {t.name for i in nodes for t in self.nodes[i].outputs}
        if not nodes & taken:  # what feeds several regions is met once from each
            taken |= nodes
            self.found.choices.append(piece.choice)

    def _part(self, taken: set[int]) -> None:
        """Kernels of which several selections read parts, where nothing else was done to them."""
        found, obstacles = parts(self.model, self.table, self._root_shape, self.recipes, lambda i: self.present[i].cost)
        for obstacle in obstacles:
            self.found.refuse(obstacle)
        for group in found:
            nodes = frozenset[int]().union(*(span.nodes for span, _ in group))
            if nodes & taken or any(self.present[i].fused for i in nodes):
                continue
            taken |= nodes
            share = sum(self.present[i].macs for i in nodes) // len(group)
            self.found.choices += [Choice(span, recipe, share) for span, recipe in group]

    def _beside(self) -> None:
        """Sums of convolutions of different tensors, where there is nothing else to do."""
        facts = self.analyses.get(Shapes())
        for one in side_by_side(self.model, self.table, facts, self.shapes, self.recipes, self.price, self.present):
            before = sum(self.present[i].macs for i in one.span.nodes)
            self.found.choices.append(Choice(one.span, one.recipe, before, one.gathered))
            self.found.obstacles.pop((node_label(self.nodes[self.made_by[one.span.top.name]]), "different-roots"), None)

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
            for choice in self._closed(top):
                start = choice.span.root
                if order[start.name] > last:
                    break
                cost, rest = choice.recipe.cost / self.growth, self._best(start, root)
                if cost + rest.cost < known.cost:
                    known = _Cover(cost + rest.cost, choice, before=(rest,))
            self.best[key] = known
        return known

    def _order(self, top: gs.Tensor) -> dict[str, int]:
        """The roots of ``top``, nearest first: each dominates those with a smaller number."""
        known = self.roots.get(top.name)
        if known is None:
            known = self.roots[top.name] = {s.root.name: i for i, s in enumerate(self.table.spans.get(top.name, ()))}
        return known

    def _keep(self, top: gs.Tensor, root: gs.Tensor) -> _Cover:
        made = self.table.made[top.name]
        # What a root before this one offers is looked at when the tensor is visited by itself.
        kept = top.name if self.table.spans[top.name][-1].root is root else ""
        if len(made.sources) == 1:
            before = [self._best(made.sources[0], root)]
        else:
            common = self.table.spans[top.name][0].root
            before = [*(self._best(t, common) for t in made.sources), self._best(common, root)]
        cost = sum(self.present[i].cost / max(len(self.nodes[i].outputs), 1) for i in made.nodes)
        for part in before:
            cost += part.cost
        return _Cover(cost, kept=kept, before=tuple(before))

    def _closed(self, top: gs.Tensor) -> tuple[Choice, ...]:
        """The spans to ``top`` that can be replaced."""
        known = self.usable.get(top.name)
        if known is None:
            found = [self._choice(s) for s in self.table.spans[top.name]]
            known = self.usable[top.name] = tuple(c for c in found if c is not None)
        return known

    def _choice(self, span: Span) -> Choice | None:
        """The cheapest way to write a span; None if there is none, or not one that pays."""
        if span.count == 1:
            return None  # as plain as it can be
        now, shape = self._total(span), self._root_shape(span)
        ways = self.recipes.of(span, shape, kernel=now.kernels > 0, transposed=now.transposed > 0)
        ways = [w for w in ways if w.operators <= span.count]
        if not ways:
            return None
        refused = leak(self.model, span)
        if now.fused:
            refused = Refused("fused-by-runtime", "a part of it belongs to a kernel that the target's runtime makes by itself")
        if refused is None and shape is None:
            refused = Refused("unknown-size", "its cost is not known without a sample input")
        if refused is not None:
            if now.kernels and any(w.operators < span.count or w.cost < now.cost for w in ways):
                self._refuse(span, refused)
            return None
        return self._paying(span, now, ways)

    def _paying(self, span: Span, now: Present, ways: list[Recipe]) -> Choice | None:
        """The cheapest of those ways that take no more than what is there."""
        light = [w for w in ways if w.macs <= now.macs * self.growth and not self._heavy(w, now)]
        best = min(light or ways, key=lambda w: (w.cost, w.operators))
        dearer = not light or best.cost > now.cost * self.growth
        if span.map.form.border:
            # What the files would grow by is never worth it: the constant has one element for each of the output.
            dearer = dearer or best.params > now.params
        # A bias of zeros that goes is no reason to write the same operators again.
        less = best.cost < now.cost and best.macs + best.written < now.macs + now.written
        if not dearer and (best.operators < span.count or less):
            return Choice(span, best, now.macs)
        if best.macs > now.macs:
            self._refuse(span, _dearer(best.macs, now.macs))
        elif self._heavy(best, now):
            self._refuse(span, Refused("cost", f"one operator would take {best.params:,} weights instead of {now.params:,}"))
        elif span.map.form.border:
            self._refuse(span, _BORDER)
        elif dearer and best.operators < span.count:
            self._refuse(
                span, Refused("cost", f"by the target's times it would take {best.cost:,.0f} ns instead of {now.cost:,.0f}")
            )
        return None

    def _heavy(self, way: Recipe, now: Present) -> bool:
        """Whether the weights grow out of proportion: a kernel over a whole image may take fewer multiply-accumulates than what it
        is made of, and a thousand times its weights.
        """
        return way.params > self.growth * (_HEAVIER * now.params + now.written)

    def _total(self, span: Span) -> Present:
        """What the operators of a span are together."""
        known = self.totals.get(id(span))
        row: list[Span] = []
        one: Span | None = span
        while known is None and one is not None:
            row.append(one)
            one = one.inner
            known = self.totals.get(id(one))
        known = known or Present()
        for longer in reversed(row):
            known = self.totals[id(longer)] = total([known, *[self.present[i] for i in longer.own]])
        return known

    def _refuse(self, span: Span, refused: Refused) -> None:
        label = node_label(self.nodes[self.made_by[span.top.name]])
        dearer = self._dearer(span.map.form, span.top, self._total(span).macs) if refused.code != "cost" else None
        self.found.refuse(Obstacle(label, dearer or refused))

    def _weighed(self, obstacle: Obstacle) -> Obstacle:
        """What would not pay is refused for its cost, whatever else stands in its way."""
        if obstacle.form is None:
            return obstacle
        top = self.nodes[self.made_by[obstacle.top]].outputs[0]
        refused = self._dearer(obstacle.form, top, sum(self.present[i].macs for i in obstacle.nodes))
        return obstacle if refused is None else replace(obstacle, refused=refused)

    def _dearer(self, form: Form, top: gs.Tensor, before: int) -> Refused | None:
        """That one operator for ``form`` would take more multiply-accumulates than there are ``before``, if it would."""
        after = weigh(form, self._shape(top))
        return _dearer(after, before) if after is not None and after > before * self.growth else None

    def _root_shape(self, span: Span) -> tuple[int, ...] | None:
        return self._shape(span.root)

    def _shape(self, tensor: gs.Tensor) -> tuple[int, ...] | None:
        """The shape if it is a known one, for the sample at least."""
        if tensor.name not in self.sizes:
            self.sizes[tensor.name] = static(self.shapes.shape(tensor))
        return self.sizes[tensor.name]


_HEAVIER = 4
"""How much larger than before the weights of an operator may be, beside what was written between operators."""

_BORDER = Refused("border-map", "a bias lies before zero padding, and the constant that makes up for it at the border does not pay")


def _dearer(after: int, before: int) -> Refused:
    return Refused("cost", f"one operator would take {after:,} multiply-accumulates instead of {before:,}")
