"""The ``Channels`` analysis and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels.groups import Group, build, columns_of, rows_of
from graphopt.analysis.channels.propagate import Flow, analyse
from graphopt.analysis.cost import Cost, CostTable
from graphopt.analysis.manager import Analyses, Analysis
from graphopt.analysis.shapes import InputShapes, Shapes
from graphopt.model import Model, node_key, node_label
from graphopt.ops import attrs
from graphopt.ops.channels import Labels, Mixer
from graphopt.ops.channels.layout import product


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The channels of one model: labels of every tensor, groups, and their shares of the cost.

    Attributes:
        groups: all groups, frozen ones too.
        flow: the layouts and labels behind them.
        cost: the model's cost, by which shares are counted.
        nodes: the nodes by id.
    """

    model: Model
    flow: Flow
    groups: tuple[Group, ...]
    cost: CostTable
    nodes: dict[str, gs.Node]

    @property
    def prunable(self) -> tuple[Group, ...]:
        """The groups that are not frozen."""
        return tuple(g for g in self.groups if g.frozen is None)

    @property
    def prunable_share_of_macs(self) -> float:
        """The share of all multiply-accumulates that belong to operators which read or make a prunable channel."""
        free = np.zeros(len(self.flow.table), bool)
        for group in self.prunable:
            free[group.units] = True
        found = 0.0
        for macs, classes in self.factors():
            found += macs if any(free[c].any() for c in classes) else 0
        return found / self.cost.macs if self.cost.macs else 0.0

    def factors(self) -> Iterator[tuple[float, tuple[Labels, ...]]]:
        """Multiply-accumulates of all that mixes, each with the classes along the axes that they are proportional to.

        Of what mixes nothing that could go (an Einsum on the graph's input) they are proportional to what it makes.
        """
        weights = Counter[str]()
        for mixer in self.flow.mixers:
            weights[mixer.node] += self._elements(mixer)
        for mixer in self.flow.mixers:
            node = self.nodes[mixer.node]
            share = self._elements(mixer) / max(1, weights[mixer.node])
            yield self._macs(mixer.node) * share, (rows_of(self.flow, node, mixer), columns_of(self.flow, node, mixer))
        for one in self.flow.products:
            yield self._macs(one.node), self._classes(one.labels, *self._made(one.node))
        known = {m.node for m in self.flow.mixers} | {p.node for p in self.flow.products}
        for name in (n for n in self.nodes if n not in known):
            if self._macs(name) > 0 and self._made(name):
                yield self._macs(name), self._classes(*self._made(name))

    def weight(self, mixer: Mixer) -> NDArray[Any] | None:
        """The weight of a mixer, dequantized if it is kept in integers; None if it is not constant."""
        tensor = self.nodes[mixer.node].inputs[mixer.weight]
        value, producer = self.model.value(tensor), self.model.producer(tensor)
        if value is not None or producer is None or producer.op != "DequantizeLinear":
            return value
        known = [self.model.value(t) for t in producer.inputs]
        data = known[0]
        if data is None or any(v is None or v.ndim > 1 for v in known[1:]):
            return None
        axis = attrs.int_(producer, "axis", 1)
        shape = [-1 if a == axis % max(1, data.ndim) else 1 for a in range(data.ndim)]
        scale, zero = (
            v.astype(np.float64).reshape(shape if v.size > 1 else ()) for v in [*known[1:], np.zeros(())][:2] if v is not None
        )
        return ((data - zero) * scale).astype(np.float32)

    def _made(self, node: str) -> list[Labels]:
        """The labels of what a node makes."""
        layout = self.flow.tensors.get(node)
        return [] if layout is None else [f.labels for f in layout.fields]

    def _classes(self, *labels: Labels) -> tuple[Labels, ...]:
        return tuple(self.flow.table.find(x.reshape(-1)) for x in labels if x.size)

    def _macs(self, node: str) -> float:
        cost = self.cost.of(self.nodes[node])
        return float(cost.macs) if cost is not None and cost.macs is not None else 0.0

    def _elements(self, mixer: Mixer) -> int:
        layout = self.flow.operand(self.nodes[mixer.node], mixer.weight)
        return 1 if layout is None else product(layout.factors) or 1

    def graph(self) -> nx.Graph[tuple[str, int]]:
        """Nodes are (tensor id, axis) with the ids of their groups; edges carry the operator that ties the two."""
        made: nx.Graph[tuple[str, int]] = nx.Graph()
        group_of = {int(u): g.id for g in self.groups for u in g.units}
        classes: dict[str, list[tuple[int, set[int]]]] = {}
        for name, layout, _ in self.flow.layouts():
            rows = classes.setdefault(name, [])
            for axis in range(layout.rank):
                found = set(self.flow.table.find(layout.labels(axis)).tolist())
                if found:
                    rows.append((axis, found))
                    known = set(made.nodes[name, axis]["groups"]) if (name, axis) in made else set[str]()
                    made.add_node((name, axis), groups=tuple(sorted({group_of[c] for c in found if c in group_of} | known)))
        for node in self.model.graph.nodes:
            _edges(made, node, classes)
        return made

    def to_json(self) -> dict[str, Any]:
        """The groups as plain data."""
        return {
            "prunable_share_of_macs": self.prunable_share_of_macs,
            "groups": [
                {
                    "id": g.id,
                    "tensor": g.tensor,
                    "units": g.size,
                    "places": [
                        {"tensor": p.tensor, "axes": list(p.axes), "elements_per_unit": p.count, "constant": p.constant}
                        for p in g.places
                    ],
                    "operators": list(g.operators),
                    "macs": g.macs,
                    "constraints": list(g.constraints),
                    "frozen": g.frozen,
                }
                for g in self.groups
            ],
        }


def _edges(made: nx.Graph[tuple[str, int]], node: gs.Node, classes: dict[str, list[tuple[int, set[int]]]]) -> None:
    for source in node.inputs:
        for target in node.outputs:
            for axis, mine in classes.get(source.name, ()):
                for other, theirs in classes.get(target.name, ()):
                    if mine & theirs:
                        made.add_edge((source.name, axis), (target.name, other), operator=node_label(node))


@dataclass(frozen=True, slots=True)
class Channels(Analysis[ChannelGraph]):
    """Label the channels of a model.

    Attributes:
        inputs: shapes for dynamic inputs, for the cost only.
        heads: whether attention loses whole heads rather than dimensions of every head.
        lossy_norm: whether channels may go that a normalisation averages over; what is left is then not exact.
    """

    inputs: InputShapes = ()
    heads: bool = False
    lossy_norm: bool = False

    def compute(self, analyses: Analyses) -> ChannelGraph:
        """Labels come from the shapes as declared (symbolic where dynamic), so that groups hold for every input size."""
        model = analyses.model
        flow = analyse(model, analyses.get(Shapes()), heads=self.heads, lossy=self.lossy_norm)
        cost = analyses.get(Cost(self.inputs))
        nodes = {node_key(n): n for n in model.graph.nodes}
        return ChannelGraph(model, flow, build(model, flow, nodes, cost), cost, nodes)
