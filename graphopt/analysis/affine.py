"""The affine regions of a graph: for each tensor, the earlier tensors of which it is one affine map.

A span (root, top) says that ``top`` is an affine map of ``root`` and of nothing else that varies: ``root`` dominates ``top``
within the affine operators. Spans are found forwards. If t = A(x), the spans of t are A itself and A composed with every span of
x; if t is a weighted sum, its roots are the roots that all summands have in common, a summand counting as its own root.
Sequences, branches, skips, concatenations and nestings of them are all the same two rules.

Operators that move elements to other axes (Reshape, Transpose) mean nothing by themselves. They are followed from the tensor that
they start at, and where the axes are those of a feature map again, the whole chain is one map of that tensor.

A span is closed if nothing outside of it reads a tensor inside of it: only then can one operator take its place. Which of its
tensors are read from outside is known from the spans that it extends: another operator in a row reads only the last of them, so
it lets no other in; a sum looks again at what its summands left open, since one may read inside another.

At most ``LIMIT`` roots are followed for one tensor, and a span holds at most ``NODES`` operators, so the work is linear in nodes
and the nesting of a map is bounded; longer chains and wider sums fold in several rounds. A span in a row holds nothing but what it
adds to the one that it extends: the positions of its operators are collected when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import onnx_graphsurgeon as gs

from graphopt.analysis.manager import Analyses, Analysis
from graphopt.analysis.shapes import Shapes, ShapeTable
from graphopt.model import Model, node_label
from graphopt.ops import lookup
from graphopt.ops.affine import (
    AffineMap,
    Form,
    Leaf,
    Linear,
    Move,
    Outputs,
    Refused,
    Relaid,
    Sizes,
    Sum,
    Term,
    identity_of,
)  # fmt: skip
from graphopt.ops.affine import views as axes
from graphopt.ops.affine.form import interior
from graphopt.ops.affine.maps import composed, select, summed, unbiased
from graphopt.ops.affine.terms import FLOATS, unit_of
from graphopt.ops.affine.views import View

_AXES_ONLY = frozenset({"Transpose", "Flatten", "Squeeze", "Unsqueeze"})
LIMIT = 24
NODES = 256


_ROOTS = Refused(
    "different-roots", "the summands come from different tensors: one convolution would have to read them side by side"
)


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """``top`` is ``map`` of ``root``.

    Attributes:
        own: positions in ``graph.nodes`` of the operators that it adds to ``inner``, or, where that is None, of all.
        count: how many operators lie between root and top.
        open: positions of those whose result is read from outside, or is a graph output; ``top`` does not count.
        inner: the span that it extends.
        moves: those operators that must be done to the root first: they put its other axes where the map has them.
    """

    root: gs.Tensor
    top: gs.Tensor
    map: AffineMap
    own: frozenset[int]
    count: int
    open: frozenset[int] = frozenset()
    inner: Span | None = None
    moves: tuple[int, ...] = ()

    @property
    def nodes(self) -> frozenset[int]:
        """Positions of its operators in ``graph.nodes``."""
        parts: list[frozenset[int]] = []
        span: Span | None = self
        while span is not None:
            parts.append(span.own)
            span = span.inner
        return frozenset[int]().union(*parts)


@dataclass(frozen=True, slots=True)
class Made:
    """How a tensor comes about: the positions of the operators, and the tensors that they read."""

    nodes: frozenset[int]
    sources: tuple[gs.Tensor, ...]


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
    """How tensors are made and their spans, nearest root first, by name; and what stood in the way."""

    made: dict[str, Made] = field(default_factory=dict[str, Made])
    spans: dict[str, tuple[Span, ...]] = field(default_factory=dict[str, tuple[Span, ...]])
    obstacles: list[Obstacle] = field(default_factory=list[Obstacle])


@dataclass(frozen=True, slots=True)
class Affine(Analysis[AffineTable]):
    """All spans of the main graph, from shapes that hold for every input (never from a sample's). ``approximate``: take maps that
    are not exact at the border, too.
    """

    approximate: bool = False

    def compute(self, analyses: Analyses) -> AffineTable:
        """One forward walk over the nodes, which must be in topological order."""
        return _Walk(analyses.model, analyses.get(Shapes()), self.approximate).run()


@dataclass(frozen=True, slots=True)
class _Moved:
    """A tensor as a view of ``base``, by the operators ``nodes``. ``replay``: these in their order, if they do the same to a tensor
    of other channels, which are the last axis throughout.
    """

    base: gs.Tensor
    view: View
    nodes: frozenset[int]
    replay: tuple[int, ...] | None = None


class _Walk:
    def __init__(self, model: Model, facts: ShapeTable, approximate: bool) -> None:
        self.model = model
        self.facts = facts
        self.approximate = approximate
        self.table = AffineTable()
        self.moved: dict[str, _Moved] = {}
        self._positions = {id(n): i for i, n in enumerate(model.graph.nodes)}
        self._outputs = {id(t) for t in model.graph.outputs}
        self._axes: dict[int, int] = {}
        self._spatial: dict[tuple[int, int, int], Sizes] = {}

    def run(self) -> AffineTable:
        for index, node in enumerate(self.model.graph.nodes):
            row = lookup(node, self.facts)
            if row is None or row.affine is None or not node.outputs:
                continue
            term = row.affine(node, self.facts)
            if isinstance(term, Refused):
                self.table.obstacles.append(Obstacle(node_label(node), term))
            elif isinstance(term, Outputs):
                for top, one in zip(node.outputs, term.terms, strict=True):
                    self._enter(index, node, top, one)
            else:
                self._enter(index, node, node.outputs[0], term)
        return self.table

    def _enter(self, index: int, node: gs.Node, top: gs.Tensor, term: Term | None) -> None:
        if not top.name or (isinstance(term, Linear) and not all(step.form.c_in for step in term.steps)):
            return  # of a tensor without channels there are no maps
        match term:
            case Linear():
                self._follow(index, node.inputs[term.source], top, term)
                self._linear(frozenset({index}), node.inputs[term.source], top, term.steps)
            case Sum():
                self._sum(index, node, top, term)
            case Move():
                self._move(index, node.inputs[term.source], top, term)
            case _:
                pass

    # -- one input ---------------------------------------------------------------------------------------------------------

    def _linear(self, own: frozenset[int], source: gs.Tensor, top: gs.Tensor, steps: Sequence[Leaf]) -> None:
        before = self.table.spans.get(source.name, ())
        spans: list[Span] = []
        first = self._chain(steps, None, source, top)
        inside = self._still_open(own, own, top)
        if not isinstance(first, Refused):
            spans.append(Span(source, top, first, own, len(own), inside))
        if before and not self._read_only_by([source], own):
            inside |= {max(self.table.made[source.name].nodes)}
        refused = first if isinstance(first, Refused) and not before else None
        form: Form | None = None
        for number, inner in enumerate(before):
            if inner.count + len(own) > NODES or len(spans) == LIMIT:
                continue
            whole = self._chain(steps, inner.map, inner.root, top)
            if not isinstance(whole, Refused):
                left = inner.open | inside if inside else inner.open
                spans.append(Span(inner.root, top, whole, own, inner.count + len(own), left, inner, inner.moves))
            elif number == 0:
                refused = whole
                would = interior(steps[-1].form, inner.map.form) if len(steps) == 1 else whole
                form = would if isinstance(would, Form) else None
        if refused is not None:
            nodes = before[0].nodes | own if before else own
            self.table.obstacles.append(Obstacle(self._label(own), refused, top.name, form, nodes))
        if spans:
            self.table.made[top.name] = Made(own, (source,))
            self.table.spans[top.name] = tuple(spans[:LIMIT])

    def _chain(self, steps: Sequence[Leaf], inner: AffineMap | None, root: gs.Tensor, top: gs.Tensor) -> AffineMap | Refused:
        """``steps``, one after the other, of a map of ``root``."""
        whole = inner
        for step in steps:
            found = step if whole is None else self._composed(step, whole, root, top)
            if isinstance(found, Refused):
                return found
            whole = found
        if whole is None:
            raise ValueError("a map of no steps")
        return whole

    def _composed(self, step: Leaf, whole: AffineMap, root: gs.Tensor, top: gs.Tensor) -> AffineMap | Refused:
        """``step`` after ``whole``; a bias that is nothing but rounding does not stand in its way."""
        sizes = self._sizes(root, whole.form)
        found = composed(step, whole, sizes, self.approximate)
        if not whole.form.biased or not step.form.padded:
            return found
        kind = self.facts.dtype(top)
        if kind not in FLOATS:
            return found
        settled = unbiased(whole, unit_of(kind))
        return found if settled is None else composed(step, settled, sizes, self.approximate)

    # -- other axes --------------------------------------------------------------------------------------------------------

    def _move(self, index: int, source: gs.Tensor, top: gs.Tensor, term: Move) -> None:
        known = self.moved.get(source.name) or self._unmoved(source)
        view = term.change(known.view) if known is not None else None
        if known is None or view is None or len(known.nodes) >= NODES:
            return
        nodes, place = known.nodes | {index}, len(view.dims) - 1
        alone = len(view.dims) > 1 and view.channels_at(place) is not None and self._repeatable(index)
        moved = _Moved(known.base, view, nodes, (*known.replay, index) if known.replay is not None and alone else None)
        self.moved[top.name] = moved
        steps = axes.as_steps(view)
        if steps is not None:
            self._linear(nodes, known.base, top, steps or (identity_of(len(view.shape), view.axis, _channels(view)),))
        elif moved.replay is not None and not view.steps and view.frame is None:
            self._relay(moved, top, place)

    def _repeatable(self, index: int) -> bool:
        """Whether an operator that moves axes can do the same to other channels."""
        node = self.model.graph.nodes[index]
        if node.op == "Reshape":
            return len(node.inputs) > 1 and self.facts.value(node.inputs[1]) is not None
        return node.op in _AXES_ONLY

    def _relay(self, moved: _Moved, top: gs.Tensor, place: int) -> None:
        """Maps that work on each position by itself do so whatever the other axes are: what moves them can also come first."""
        axis, rank = moved.view.channels_at(place), len(moved.view.dims)
        channels = moved.view.shape[axis] if axis is not None else None
        if axis is None or not isinstance(channels, int) or moved.replay is None:
            return
        here = identity_of(len(moved.view.shape), axis, channels)
        before = [Span(moved.base, moved.base, here, frozenset(), 0), *self.table.spans.get(moved.base.name, ())]
        inside = self._still_open(moved.nodes, moved.nodes, top)
        base = self.table.made.get(moved.base.name)
        outside = base is not None and not self._read_only_by([moved.base], moved.nodes)
        beyond = frozenset({max(base.nodes)}) if base is not None and outside else frozenset[int]()
        unit = identity_of(rank, place, 1).form
        spans: list[Span] = []
        for inner in before:
            form = inner.map.form
            if form.pointwise and form.axis == axis and inner.count + len(moved.nodes) <= NODES:
                whole = Relaid(replace(form, axis=place, axes=unit.axes), inner.map)
                left = inner.open | inside | (beyond if inner.count else frozenset[int]())
                count, moves = inner.count + len(moved.nodes), (*inner.moves, *moved.replay)
                spans.append(Span(inner.root, top, whole, moved.nodes, count, left, inner if inner.count else None, moves))
        self.table.made[top.name] = Made(moved.nodes, (moved.base,))
        self.table.spans[top.name] = tuple(spans[:LIMIT])

    def _unmoved(self, tensor: gs.Tensor) -> _Moved | None:
        shape = self.facts.shape(tensor)
        layouts = self._layouts(tensor, self.table.spans.get(tensor.name, ()))
        if shape is None or not layouts or layouts[0][0] != len(shape):
            return None
        spans = self.table.spans.get(tensor.name, ())
        padded = spans[0].map if spans else None
        if isinstance(padded, Leaf) and padded.label == "pad" and tensor.name in self.table.made:
            made, channels = self.table.made[tensor.name], padded.form.c_in
            widths = tuple(w for a in padded.form.axes for w in (a.begin, a.end))
            if min(widths) >= 0:
                frame = axes.Frame(widths, ((0.0,) * channels,) * len(widths))
                return _Moved(made.sources[0], axes.of(shape, 1, frame), made.nodes)
        return _Moved(tensor, axes.of(shape, layouts[0][1]), frozenset(), ())

    def _follow(self, index: int, source: gs.Tensor, top: gs.Tensor, term: Linear) -> None:
        """A map that works on each position by itself, where the axes stand in another order: it is one more step of the view."""
        known = self.moved.get(source.name)
        if known is None or len(term.steps) != 1 or len(known.nodes) >= NODES:
            return
        step = term.steps[0]
        after = known.view.then(step, step.form.axis) if step.form.pointwise else None
        if after is not None:
            self.moved[top.name] = _Moved(known.base, after, known.nodes | {index})

    # -- sums --------------------------------------------------------------------------------------------------------------

    def _sum(self, index: int, node: gs.Node, top: gs.Tensor, term: Sum) -> None:
        options = [dict(self._branches(node.inputs[part.source])) for part in term.parts]
        own = frozenset({index})
        spans: list[Span] = []
        embeds: dict[int, Leaf] = {}
        told = False
        for name in options[0]:
            if not all(name in o for o in options):
                continue
            branches = [o[name] for o in options]
            nodes = own.union(*{id(b): b.nodes for b in branches if b.count}.values())
            moves = {b.moves for b in branches}
            if len(nodes) > NODES or len(moves) > 1:
                continue
            whole = self._added(branches, term, embeds)
            if not isinstance(whole, Refused):
                ends = (max(self.table.made[b.top.name].nodes) for b in branches if b.count)
                suspects = own.union(*(b.open for b in branches), ends)
                left = self._still_open(suspects & nodes, nodes, top)
                spans.append(Span(branches[0].root, top, whole, nodes, len(nodes), left, None, moves.pop()))
            elif not told:
                self.table.obstacles.append(Obstacle(node_label(node), whole))
                told = True
        mixing = any(s and not s[0].map.form.diagonal for s in (self.table.spans.get(t.name, ()) for t in node.inputs))
        if not spans and not told and mixing and all(part.embed is None for part in term.parts):
            self.table.obstacles.append(Obstacle(node_label(node), _ROOTS))
        if spans:
            unique = {node.inputs[part.source].name: node.inputs[part.source] for part in term.parts}
            self.table.made[top.name] = Made(frozenset({index}), tuple(unique.values()))
            self.table.spans[top.name] = tuple(sorted(spans, key=lambda s: s.count)[:LIMIT])

    def _added(self, branches: Sequence[Span], term: Sum, embeds: dict[int, Leaf]) -> AffineMap | Refused:
        root = branches[0].root
        sizes = self._sizes(root, branches[0].map.form)
        parts: list[tuple[AffineMap, float]] = []
        widest = max(b.map.form.c_out for b in branches)
        for number, (branch, part) in enumerate(zip(branches, term.parts, strict=True)):
            one: AffineMap | Refused = branch.map
            if part.embed is not None:
                one = composed(embeds.get(number) or embeds.setdefault(number, part.embed()), branch.map, sizes)
            elif branch.map.form.c_out == 1 < widest:  # broadcast over the channels
                form = branch.map.form
                one = composed(select(form.rank, form.axis, 1, [0] * widest), branch.map, sizes)
            if isinstance(one, Refused):
                return one
            parts.append((one, part.factor))
        return summed(parts, sizes)

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
            yield tensor.name, Span(tensor, tensor, identity_of(*shape), frozenset(), 0)
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
        return [(len(shape), axis, channels)] if isinstance(channels, int) and channels else []

    def _reader_axis(self, tensor: gs.Tensor, rank: int) -> int:
        """Matrix products read channels from the last axis, everything else from axis 1."""
        axis = self._axes.get(id(tensor))
        if axis is None:
            axis = self._axes[id(tensor)] = rank - 1 if any(n.op == "MatMul" for n in tensor.outputs) else 1
        return axis

    def _sizes(self, root: gs.Tensor, form: Form) -> Sizes:
        key = (id(root), form.rank, form.axis)
        known = self._spatial.get(key)
        if known is None:
            shape = self.facts.shape(root)
            spatial = None if shape is None or len(shape) != form.rank else shape[2:] if form.axis == 1 else shape[1:-1]
            known = tuple(d if isinstance(d, int) else None for d in spatial) if spatial is not None else (None,) * (form.rank - 2)
            self._spatial[key] = known
        return known

    def _label(self, nodes: frozenset[int]) -> str:
        return node_label(self.model.graph.nodes[max(nodes)])


def _channels(view: View) -> int:
    channels = view.shape[view.axis]
    return channels if isinstance(channels, int) else 0


def leak(model: Model, span: Span) -> Refused | None:
    """Why a span is not closed; None if it is."""
    if not span.open:
        return None
    first = model.graph.nodes[min(span.open)]
    tensors = [t for t in first.outputs if t is not span.top and t.name]
    returned = next((t.name for t in tensors if model.is_output(t)), None)
    if returned is not None:
        return Refused("graph-output", f"'{returned}' inside is an output of the graph")
    return Refused("extra-consumer", f"'{tensors[0].name}' inside is read from outside")
