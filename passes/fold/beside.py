"""Sums of convolutions of different tensors, as one convolution of both side by side.

    K a + L b = [K | L] (a; b)

The multiply-accumulates are the same. One output less is written and added up, and a copy of a and b is written instead; so it pays
where these have few channels together and the output has many. (In onnxruntime on x86, 1x1, 8 and 8 channels to 64 run twice as
fast, 64 and 64 to 256 as fast as before, and 32 and 32 to 32, which is refused, at 0.93.) The addition itself is not counted:
runtimes do it while they write the second convolution. A skip past a convolution, K a + b, is [K | I] (a; b), and never pays: the
identity would be multiplied out.

It is done last, when nothing else can be: the branches of one tensor are summed without any copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphopt.analysis import ShapeTable
from graphopt.analysis.affine import AffineTable, Span
from graphopt.model import Model
from graphopt.ops.affine import AffineMap, Refused
from graphopt.ops.affine.maps import composed, select, summed
from graphopt.ops.facts import Shape, static
from graphopt.passes.fold.present import Present
from graphopt.passes.fold.price import Price, Step
from graphopt.passes.fold.recipes import Recipe, Recipes


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """``span`` from a tensor that is yet to be made, ``gathered`` side by side, and the way to write it."""

    span: Span
    recipe: Recipe
    gathered: tuple[gs.Tensor, ...]


def side_by_side(
    model: Model,
    table: AffineTable,
    facts: ShapeTable,
    sizes: ShapeTable,
    recipes: Recipes,
    price: Price,
    present: Sequence[Present],
) -> Iterator[Beside]:
    """The sums for which it pays; no two of them share an operator. ``facts`` hold for every input, ``sizes`` for a sample's."""
    positions = {id(node): index for index, node in enumerate(model.graph.nodes)}
    for index, node in enumerate(model.graph.nodes):
        top = node.outputs[0] if node.outputs else None
        if node.op != "Add" or top is None or not top.name or table.spans.get(top.name):
            continue
        operands = [_convolution(model, table, tensor, node) for tensor in node.inputs]
        given = [s for s in operands if s is not None]
        if len(given) < len(operands) or given[0] is given[1] or len({s.map.form.c_out for s in given}) > 1:
            continue
        if not _alike(*(facts.shape(s.root) for s in given)):
            continue
        whole = _whole([s.map for s in given])
        shape = static(sizes.shape(given[0].root))
        if isinstance(whole, Refused) or shape is None:
            continue
        nodes = frozenset({index, *(positions[id(t.inputs[0])] for t in node.inputs)})
        root = gs.Variable(f"{top.name}.sources", top.dtype)
        span = Span(root, top, whole, nodes, len(nodes))
        copied = math.prod(shape) // shape[1] * whole.form.c_in
        ways = recipes.of(span, (shape[0], whole.form.c_in, *shape[2:]), kernel=True, transposed=False)
        now = [present[i] for i in nodes - {index}]
        for way in ways:
            cost = way.cost + price(Step("Concat", copied, read=copied))
            less = cost < sum(p.cost for p in now) and way.macs <= sum(p.macs for p in now) and copied < now[0].written
            if way.operators == 1 and less and not any(present[i].fused for i in nodes):
                yield Beside(span, way, tuple(s.root for s in given))
                break


def _convolution(model: Model, table: AffineTable, tensor: gs.Tensor, reader: gs.Node) -> Span | None:
    """The map of the one convolution that makes ``tensor``, which nothing but ``reader`` reads."""
    span = next((s for s in table.spans.get(tensor.name, ()) if s.count == 1), None)
    if span is None or tensor.inputs[0].op != "Conv" or model.is_output(tensor):
        return None
    return span if len(tensor.outputs) == 1 and tensor.outputs[0] is reader else None


def _alike(one: Shape | None, other: Shape | None) -> bool:
    """Whether two tensors are of one size but for their channels."""
    if one is None or other is None or len(one) != len(other):
        return False
    return all(a == b and a is not None for axis, (a, b) in enumerate(zip(one, other, strict=True)) if axis != 1)


def _whole(maps: Sequence[AffineMap]) -> AffineMap | Refused:
    """The sum of ``maps``, each of its own part of the channels."""
    total = sum(one.form.c_in for one in maps)
    open_sizes = (None,) * len(maps[0].form.axes)
    parts: list[tuple[AffineMap, float]] = []
    first = 0
    for one in maps:
        form = one.form
        part = composed(one, select(form.rank, form.axis, total, range(first, first + form.c_in)), open_sizes)
        if isinstance(part, Refused):
            return part
        parts.append((part, 1.0))
        first += form.c_in
    return summed(parts, open_sizes)
