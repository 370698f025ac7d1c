"""The affine regions of a graph: for each tensor, the earlier tensors of which it is one affine map.

A span (root, top) says that ``top`` is an affine map of ``root`` and of nothing else that varies: ``root`` dominates ``top``
within the affine operators. Spans are found forwards. If t = A(x), the spans of t are A itself and A composed with every span of
x; if t is a weighted sum, its roots are the roots that all summands have in common, a summand counting as its own root.
Sequences, branches, skips and nestings of them are all the same two rules.

A span is closed if nothing outside of it reads a tensor inside of it: only then can one operator take its place.

At most ``LIMIT`` roots are followed for one tensor, and a span holds at most ``NODES`` operators, so the work is linear in nodes
and the nesting of a map is bounded; longer chains and wider sums fold in several rounds.
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


@dataclass(frozen=True, slots=True)
class Span:
    """``top`` is ``map`` of ``root``; ``nodes`` are the positions of the operators between them in ``graph.nodes``."""

    root: gs.Tensor
    top: gs.Tensor
    map: AffineMap
    nodes: frozenset[int]


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
        spans = [Span(source, top, term.map, frozenset({index}))]
        for number, inner in enumerate(self.table.spans.get(source.name, ())):
            if len(inner.nodes) >= NODES:
                continue
            whole = composed(term.map, inner.map, self._sizes(inner.root, inner.map))
            if not isinstance(whole, Refused):
                spans.append(Span(inner.root, top, whole, inner.nodes | {index}))
            elif number == 0:
                would = interior(term.map.form, inner.map.form)
                form = would if isinstance(would, Form) else None
                self.table.obstacles.append(Obstacle(node_label(node), whole, top.name, form, inner.nodes | {index}))
        return spans

    def _sum(self, index: int, node: gs.Node, term: Sum) -> list[Span]:
        options = [dict(self._branches(node.inputs[i])) for i, _ in term.parts]
        spans: list[Span] = []
        told = False
        for name in options[0]:
            if not all(name in o for o in options):
                continue
            branches = [o[name] for o in options]
            nodes = frozenset[int]().union(*(b.nodes for b in branches)) | {index}
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
            spans.append(Span(root, top, whole, nodes))
        return sorted(spans, key=lambda s: len(s.nodes))

    def _branches(self, tensor: gs.Tensor) -> Iterator[tuple[str, Span]]:
        """A summand as a map of its roots, and of itself."""
        spans = self.table.spans.get(tensor.name, ())
        for shape in self._layouts(tensor, spans):
            yield tensor.name, Span(tensor, tensor, identity_of(*shape), frozenset())
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
        return rank - 1 if any(n.op == "MatMul" for n in tensor.outputs) else 1

    def _sizes(self, root: gs.Tensor, inner: AffineMap) -> Sizes:
        n = len(inner.form.extent)
        shape = self.facts.shape(root)
        if shape is None or len(shape) != n + 2:
            return (None,) * n
        return tuple(d if isinstance(d, int) else None for d in shape[2:])


def leak(model: Model, span: Span, positions: dict[int, int]) -> Refused | None:
    """Why a span is not closed; None if it is. ``positions``: of nodes, by identity."""
    for index in span.nodes:
        for tensor in model.graph.nodes[index].outputs:
            if tensor is span.top or not tensor.name:
                continue
            if model.is_output(tensor):
                return Refused("graph-output", f"'{tensor.name}' inside is an output of the graph")
            if any(positions.get(id(reader)) not in span.nodes for reader in tensor.outputs):
                return Refused("extra-consumer", f"'{tensor.name}' inside is read from outside")
    return None
