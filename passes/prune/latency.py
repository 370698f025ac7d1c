"""Time by widths: what a device's latency table says of a model, and of what is left of it.

The time of a model is that of its convolutions and matrix products, looked up by shape and widths, and of everything else, which is
taken as proportional to the elements that it makes. Times are no products of widths, they are staircases; a change of one group's
width changes the operators that make or read it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import ChannelGraph, Group, columns_of, rows_of
from graphopt.model import Model, node_key
from graphopt.ops import Facts, attrs
from graphopt.ops.facts import elements, static
from graphopt.ops.kernels import KERNELS
from graphopt.passes.prune.costs import Floats, Products, Term, owners, shares
from graphopt.pipeline import InputShapes
from graphopt.target.latency import LatencyTable, ShapeKey


@dataclass(frozen=True, slots=True)
class Sized:
    """An operator with its shape and its widths."""

    node: gs.Node
    key: ShapeKey
    inputs: int
    outputs: int


def sized(model: Model, facts: Facts) -> Iterator[Sized]:
    """The operators of a model that a table may know: with constant weights, of known sizes."""
    for node in model.graph.nodes:
        if node.op not in KERNELS or node.domain not in (None, "") or len(node.inputs) < 2:
            continue
        weight, data, made = (facts.shape(t) for t in (node.inputs[1], node.inputs[0], node.outputs[0]))
        constant = model.value(node.inputs[1]) is not None
        dims, sizes, result = static(weight), static(data), static(made)
        if constant and dims is not None and sizes is not None and result is not None:
            found = _sized(node, dims, sizes, result)
            if found is not None:
                yield found


def _sized(node: gs.Node, weight: tuple[int, ...], data: tuple[int, ...], result: tuple[int, ...]) -> Sized | None:
    if node.op in ("Gemm", "MatMul"):
        if len(weight) != 2:
            return None
        outputs = result[-1]
        inputs = int(np.prod(weight, dtype=np.int64)) // max(outputs, 1)
        rows = int(np.prod(result[:-1], dtype=np.int64))
        return Sized(node, ShapeKey(node.op, size=(rows,)), inputs, outputs)
    if len(weight) < 3 or len(data) != len(weight):
        return None
    n, groups = len(weight) - 2, attrs.int_(node, "group", 1)
    inputs, outputs = data[1], result[1]
    grouping = "dense" if groups == 1 else "depthwise" if groups == inputs else "grouped"
    strides, dilations = attrs.ints(node, "strides", (1,) * n), attrs.ints(node, "dilations", (1,) * n)
    blocks = 1 if grouping == "depthwise" else groups
    return Sized(node, ShapeKey(node.op, weight[2:], strides, dilations, grouping, blocks, data[2:]), inputs, outputs)


def others(model: Model, facts: Facts, known: set[str]) -> Iterator[tuple[gs.Node, int]]:
    """The rest of the operators, with the elements that each makes; constants are made once and count nothing."""
    for node in model.graph.nodes:
        if node_key(node) not in known and node.outputs and model.value(node.outputs[0]) is None:
            yield node, sum(elements(facts.shape(t)) or 0 for t in node.outputs if t.name)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A predicted time in milliseconds, and by how many operators the table was left."""

    ms: float
    known: int
    guessed: int


def predicted(model: Model, table: LatencyTable, shapes: InputShapes) -> Estimate:
    """The time of a model by a table."""
    facts = Analyses(model).get(Shapes(shapes))
    found = list(sized(model, facts))
    times = [table.time(s.key, s.inputs, s.outputs) for s in found]
    rest = sum(count for _, count in others(model, facts, {node_key(s.node) for s in found}))
    us = sum(t for t, _ in times) + table.rest * rest / 1e3
    return Estimate(table.scale * us / 1e3, sum(k for _, k in times), sum(not k for _, k in times))


class Latency:
    """Milliseconds by numbers of removed units."""

    def __init__(self, graph: ChannelGraph, groups: Sequence[Group], table: LatencyTable, shapes: InputShapes) -> None:
        facts = Analyses(graph.model).get(Shapes(shapes))
        owner = owners(groups)
        self._table = table
        mixers = {m.node: m for m in graph.flow.mixers}
        found = list(sized(graph.model, facts))
        self._operators: list[tuple[Sized, tuple[tuple[int, float], ...], tuple[tuple[int, float], ...]]] = []
        for one in found:
            mixer = mixers.get(node_key(one.node))
            sides = [] if mixer is None else [columns_of(graph.flow, one.node, mixer), rows_of(graph.flow, one.node, mixer)]
            both = [shares(s.tolist(), owner) for s in sides] or [(), ()]
            self._operators.append((one, both[0], both[1]))
        self._rest = Products(*_rest(graph, facts, owner, table, {node_key(s.node) for s in found}), len(groups))
        self._of: list[list[int]] = [[] for _ in groups]
        for place, (_, columns, rows) in enumerate(self._operators):
            for g in {g for g, _ in (*columns, *rows)}:
                self._of[g].append(place)
        self._near = [
            self._rest.near(g).union(*({h for h, _ in (*self._operators[k][1], *self._operators[k][2])} for k in places))
            for g, places in enumerate(self._of)
        ]
        self._total = self.count([0] * len(groups))

    @property
    def total(self) -> float:
        return self._total

    def count(self, removed: Sequence[int]) -> float:
        us = sum(self._time(k, removed) for k in range(len(self._operators))) + self._rest.count(removed)
        return self._table.scale * us / 1e3

    def change(self, removed: Sequence[int], group: int, units: int) -> float:
        then = list(removed)
        then[group] += units
        us = sum(self._time(k, removed) - self._time(k, then) for k in self._of[group])
        return self._table.scale * (us + self._rest.change(removed, group, units)) / 1e3

    def changes(self, removed: Sequence[int], group: int, units: Sequence[int]) -> Floats:
        return np.asarray([self.change(removed, group, n) for n in units])

    def near(self, group: int) -> frozenset[int]:
        return self._near[group]

    def _time(self, place: int, removed: Sequence[int]) -> float:
        one, columns, rows = self._operators[place]
        lost_in, lost_out = (sum(share * removed[g] for g, share in side) for side in (columns, rows))
        outputs = max(1, round(one.outputs * (1 - lost_out)))
        inputs = outputs if one.key.grouping == "depthwise" else max(1, round(one.inputs * (1 - lost_in)))
        return self._table.time(one.key, inputs, outputs)[0]


def _rest(
    graph: ChannelGraph, facts: Facts, owner: Mapping[int, int], table: LatencyTable, known: set[str]
) -> tuple[float, list[Term]]:
    """The time of what is no convolution, in microseconds, and how it shrinks."""
    total, terms = 0.0, list[Term]()
    for node, count in others(graph.model, facts, known):
        us = table.rest * count / 1e3
        total += us
        layout = graph.flow.tensors.get(node.outputs[0].name)
        fields = () if layout is None else layout.fields
        terms.append(Term(us, tuple(shares(graph.flow.table.find(f.labels.reshape(-1)).tolist(), owner) for f in fields)))
    return total, terms
