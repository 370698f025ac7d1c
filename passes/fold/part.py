"""A convolution of which several parts are read, each by itself: as many convolutions, if they cost no more.

Behind a convolution with two Slices no span is closed, since each reads what the other one does. Together they are: if nothing but
selections reads the convolution, each can compute the rows that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_graphsurgeon as gs

from graphopt.analysis.affine import AffineTable, Obstacle, Span
from graphopt.model import Model, node_label
from graphopt.ops.affine import Refused
from graphopt.ops.kernels import KERNELS
from graphopt.passes.fold.recipes import Recipe, Recipes

Part = tuple[Span, Recipe]

_PARTS = Refused("parts-cost", "several parts of it are read, each by itself, and a convolution for each costs more")


def parts(
    model: Model,
    table: AffineTable,
    shape_of: Callable[[Span], tuple[int, ...] | None],
    recipes: Recipes,
    cost: Callable[[int], float],
) -> tuple[list[list[Part]], list[Obstacle]]:
    """Kernels whose readers are selections and nothing else: for each the spans that can take its place."""
    found: list[list[Part]] = []
    obstacles: list[Obstacle] = []
    for index, readers, spans in _shared(model, table):
        ways = [
            (s, min(recipes.of(s, shape_of(s), kernel=True, transposed=False), key=lambda w: w.cost, default=None)) for s in spans
        ]
        known = [(s, w) for s, w in ways if w is not None and shape_of(s) is not None]
        if len(known) < len(spans):
            continue
        nodes = {index, *readers}
        before = sum(cost(i) for i in nodes)
        if sum(w.operators for _, w in known) <= len(nodes) and sum(w.cost for _, w in known) <= before:
            found.append(known)
        else:
            obstacles.append(Obstacle(node_label(model.graph.nodes[index]), _PARTS))
    return found, obstacles


def _shared(model: Model, table: AffineTable) -> Iterator[tuple[int, set[int], list[Span]]]:
    """Position of a kernel, of its readers, and the spans from its input to each part."""
    positions = {id(n): i for i, n in enumerate(model.graph.nodes)}
    for index, node in enumerate(model.graph.nodes):
        middle = node.outputs[0]
        made = table.made.get(middle.name)
        if node.op not in KERNELS or made is None or model.is_output(middle):
            continue
        readers = {positions.get(id(r), -1) for r in middle.outputs}
        tops = [t for i in readers if i >= 0 for t in model.graph.nodes[i].outputs if t.name]
        spans = [s for t in tops if (s := _whole(table, t, made.sources[0], index)) is not None]
        if -1 not in readers and len(tops) > 1 and len(spans) == len(tops):
            yield index, readers, spans


def _whole(table: AffineTable, top: gs.Tensor, root: gs.Tensor, kernel: int) -> Span | None:
    """The span from ``root`` to ``top`` over ``kernel`` and one selection."""
    own = next((s for s in table.spans.get(top.name, ()) if s.count == 1), None)
    if own is None or own.map.form.select is None:
        return None
    return next((s for s in table.spans[top.name] if s.root is root and s.count == 2 and kernel in s.nodes), None)
