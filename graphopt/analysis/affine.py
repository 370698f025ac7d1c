"""The affine regions of a graph: for each tensor, the earlier tensors of which it is one affine map.

A span (root, top) says that ``top`` is an affine map of ``root`` and of nothing else that varies: ``root`` dominates ``top``
within the affine operators. Spans are found forwards. If t = A(x), the spans of t are A itself and A composed with every span of
x; if t is a weighted sum, its roots are the roots that all summands have in common, a summand counting as its own root.
Sequences, branches, skips and nestings of them are all the same two rules.

A span is closed if nothing outside of it reads a tensor inside of it: only then can one operator take its place. Which of its
tensors are read from outside is known from the spans that it extends: another operator in a row reads only the last of them, so
it lets no other in; a sum looks again at what its summands left open, since one may read inside another.

At most ``LIMIT`` roots are followed for one tensor, and a span holds at most ``NODES`` operators, so the work is linear in nodes
and the nesting of a map is bounded; longer chains and wider sums fold in several rounds. A span in a row holds nothing but the one
it extends: the positions of its operators are collected when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_graphsurgeon as gs

from graphopt.analysis.manager import Analyses, Analysis
from graphopt.analysis.shapes import Shapes, ShapeTable
from graphopt.model import Model, node_label
from graphopt.ops import lookup
from graphopt.ops.affine import AffineMap, Form, Linear, Refused, Sum, Term, identity_of
from graphopt.ops.affine.form import Sizes, interior
from graphopt.ops.affine.maps import composed, summed

LIMIT = 24
NODES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """``top`` is ``map`` of ``root``.

    Attributes:
        last: position in ``graph.nodes`` of the operator that makes ``top``.
        count: how many operators lie between root and top.
        open: positions of those whose result is read from outside, or is a graph output; ``top`` does not count.
        inner: the span that the last operator extends; None for a sum or a single operator, which hold their positions in ``held``.
    """

    root: gs.Tensor
    top: gs.Tensor
    map: AffineMap
    last: int
    count: int
    open: frozenset[int] = frozenset()
    inner: Span | None = None
    held: frozenset[int] = frozenset()

    @property
    def nodes(self) -> frozenset[int]:
        """Positions of its operators in ``graph.nodes``."""
        row: list[int] = []
        span = self
        while span.inner is not None:
            row.append(span.last)
            span = span.inner
        return span.held.union(row) if row else span.held


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why two affine operators are not one: ``where`` names the later of them. Where only the border stands in the way, ``form`` is
    what they would be and ``nodes`` what it would replace.
    """

    where: str
    refused: Refused
    top: str = ""
    form: Form | None = None
    nodes: frozenset[int] = frozenset()


@dataclass(slots=True)
class AffineTable:
    """Terms by node position, spans by the name of their top (nearest root first), and what stood in the way."""

    terms: dict[int, Term] = field(default_factory=dict[int, Term])
    spans: dict[str, tuple[Span, ...]] = field(default_factory=dict[str, tuple[Span, ...]])
    obstacles: list[Obstacle] = field(default_factory=list[Obstacle])


@dataclass(frozen=True, slots=True)
class Affine(Analysis[AffineTable]):
    """All spans of the main graph, from shapes that hold for every input (never from a sample's)."""

    def compute(self, analyses: Analyses) -> AffineTable:
        """One forward walk over the nodes, which must be in topological order."""
        return _Walk(analyses.model, analyses.get(Shapes())).run()


class _Walk:
    def __init__(self, model: Model, facts: ShapeTable) -> None:
        self.model = model
        self.facts = facts
        self.table = AffineTable()
        self._positions = {id(n): i for i, n in enumerate(model.graph.nodes)}
        self._outputs = {id(t) for t in model.graph.outputs}
        self._axes: dict[int, int] = {}
        self._spatial: dict[tuple[int, int], Sizes] = {}

    def run(self) -> AffineTable:
        for index, node in enumerate(self.model.graph.nodes):
            row = lookup(node, self.facts)
            if row is None or row.affine is None or not node.outputs or not node.outputs[0].name:
                continue
            term = row.affine(node, self.facts)
            if isinstance(term, Refused):
                self.table.obstacles.append(Obstacle(node_label(node), term))
            elif term is not None:
                self.table.terms[index] = term
                spans = self._linear(index, node, term) if isinstance(term, Linear) else self._sum(index, node, term)
                self.table.spans[node.outputs[0].name] = tuple(spans[:LIMIT])
        return self.table

    def _linear(self, index: int, node: gs.Node, term: Linear) -> list[Span]:
        source, top = node.inputs[term.source], node.outputs[0]
        own = frozenset({index})
        inside = frozenset[int]() if self._read_only_by(node.outputs[1:], own) else own
        spans = [Span(source, top, term.map, index, 1, inside, held=own)]
        before = self.table.spans.get(source.name, ())
        if before and not self._read_only_by([source], own):
            inside |= {before[0].last}
        for number, inner in enumerate(before):
            if inner.count >= NODES or len(spans) == LIMIT:
                continue
            whole = composed(term.map, inner.map, self._sizes(inner.root, inner.map))
            if not isinstance(whole, Refused):
                left = inner.open | inside if inside else inner.open
                spans.append(Span(inner.root, top, whole, index, inner.count + 1, left, inner))
            elif number == 0:
                would = interior(term.map.form, inner.map.form)
                form = would if isinstance(would, Form) else None
                self.table.obstacles.append(Obstacle(node_label(node), whole, top.name, form, inner.nodes | own))
        return spans

    def _sum(self, index: int, node: gs.Node, term: Sum) -> list[Span]:
        options = [dict(self._branches(node.inputs[i])) for i, _ in term.parts]
        own = frozenset({index})
        spans: list[Span] = []
        told = False
        for name in options[0]:
            if not all(name in o for o in options):
                continue
            branches = [o[name] for o in options]
            nodes = own.union(*{id(b): b.nodes for b in branches if b.count}.values())
            if len(nodes) > NODES:
                continue
            root, top = branches[0].root, node.outputs[0]
            parts = [(b.map, factor) for b, (_, factor) in zip(branches, term.parts, strict=True)]
            whole = summed(parts, self._sizes(root, branches[0].map))
            if isinstance(whole, Refused):
                if not told:
                    self.table.obstacles.append(Obstacle(node_label(node), whole))
                told = True
                continue
            suspects = own.union(*(b.open for b in branches), (b.last for b in branches if b.count))
            spans.append(Span(root, top, whole, index, len(nodes), self._still_open(suspects, nodes, top), held=nodes))
        return sorted(spans, key=lambda s: s.count)

    def _still_open(self, suspects: frozenset[int], nodes: frozenset[int], top: gs.Tensor) -> frozenset[int]:
        """The operators among ``suspects`` whose results, ``top`` apart, are read outside of ``nodes``."""
        made = {i: [t for t in self.model.graph.nodes[i].outputs if t is not top] for i in suspects}
        return frozenset(i for i, tensors in made.items() if not self._read_only_by(tensors, nodes))

    def _read_only_by(self, tensors: Sequence[gs.Tensor], nodes: frozenset[int]) -> bool:
        """Whether nobody but the operators at the positions ``nodes`` needs ``tensors``."""
        return all(
            id(t) not in self._outputs and all(self._positions.get(id(reader)) in nodes for reader in t.outputs)
            for t in tensors
            if t.name
        )

    def _branches(self, tensor: gs.Tensor) -> Iterator[tuple[str, Span]]:
        """A summand as a map of its roots, and of itself."""
        spans = self.table.spans.get(tensor.name, ())
        for shape in self._layouts(tensor, spans):
            yield tensor.name, Span(tensor, tensor, identity_of(*shape), -1, 0)
        yield from ((s.root.name, s) for s in spans)

    def _layouts(self, tensor: gs.Tensor, spans: Sequence[Span]) -> list[tuple[int, int, int]]:
        """Rank, channel axis and channels of the identity on ``tensor``: as its producer has it, else channels first."""
        if spans:
            form = spans[0].map.form
            return [(form.rank, form.axis, form.c_out)]
        shape = self.facts.shape(tensor)
        if shape is None or len(shape) < 2:
            return []
        axis = self._reader_axis(tensor, len(shape))
        channels = shape[axis]
        return [(len(shape), axis, channels)] if isinstance(channels, int) else []

    def _reader_axis(self, tensor: gs.Tensor, rank: int) -> int:
        """Matrix products read channels from the last axis, everything else from axis 1."""
        axis = self._axes.get(id(tensor))
        if axis is None:
            axis = self._axes[id(tensor)] = rank - 1 if any(n.op == "MatMul" for n in tensor.outputs) else 1
        return axis

    def _sizes(self, root: gs.Tensor, inner: AffineMap) -> Sizes:
        n = len(inner.form.extent)
        known = self._spatial.get((id(root), n))
        if known is None:
            shape = self.facts.shape(root)
            fits = shape is not None and len(shape) == n + 2
            known = tuple(d if isinstance(d, int) else None for d in shape[2:]) if shape is not None and fits else (None,) * n
            self._spatial[id(root), n] = known
        return known


def leak(model: Model, span: Span) -> Refused | None:
    """Why a span is not closed; None if it is."""
    if not span.open:
        return None
    first = model.graph.nodes[min(span.open)]
    names = [t.name for t in first.outputs if t is not span.top and t.name]
    returned = next((t.name for t in first.outputs if t.name in names and model.is_output(t)), None)
    if returned is not None:
        return Refused("graph-output", f"'{returned}' inside is an output of the graph")
    return Refused("extra-consumer", f"'{names[0]}' inside is read from outside")
