"""Which units run in integers: the cheapest choice, as a minimum cut.

Every unit u has a binary variable (integer or float) and a cost for each value; between the two domains a tensor must be quantized
(once, whoever reads it) or dequantized (once). The sum

    sum over u of cost_u(domain of u)
    + sum over tensors t of Q(t) [produced in float, read by an integer unit] + DQ(t) [produced in integers, read in float]

is minimised exactly by a cut of a network: the source's side is int8, the sink's side float; cutting (u, sink) pays the int8 cost,
cutting (source, u) the float cost. "Q(t) once" takes a vertex q_t ("an integer version of t exists") with infinite edges from
integer readers to it and an edge of capacity Q(t) from it to the producer; "DQ(t) once" likewise with a vertex f_t. (Kolmogorov and
Zabih, "What energy functions can be minimized via graph cuts?", 2004: all terms here are submodular.) A kernel that may give float
from integers (Gemm) has two vertices, one for how it computes and one for what it gives.

Elementwise and data-movement operators need no rules of their own: they follow their neighbours when that is cheaper, and a float
island appears where integers would cost more than its borders.

The table's costs are estimates. Since integer kernels are also what makes a model small and portable, ``auto`` has every
convolution and matrix product with constant weights in integers, unless leaving some in float saves more than the estimate's own
error; and but for the last ones, where floats cost next to nothing: no kernel behind them makes up for what is rounded there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import networkx as nx
import onnx_graphsurgeon as gs

from graphopt.model import Model
from graphopt.ops import Facts
from graphopt.ops.facts import elements, static
from graphopt.passes.quant.given import NONE_GIVEN, Given
from graphopt.passes.quant.units import Reason, Unit, captured
from graphopt.target import CostTable, Target
from graphopt.target.costs import Counts, Domain

Policy = Literal["auto", "kernels", "cost"]

TOLERANCE = 0.04
FLOOR_NS = 50_000.0
"""``auto`` takes a saving for real from this share of the whole and from this much time on."""

HEAD_SHARE = 0.01
"""Of the whole's time: what each of the last kernels may take in float, and what all of them may add to it."""

HEAD_TRIALS = 8
"""How many kernels are tried so at the most."""

UNKNOWN_ELEMENTS = 50_000
"""Taken for a tensor whose size nobody knows."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The choice.

    Attributes:
        int8: keys of the units that compute in integers.
        quantized: names of the tensors of which an integer version exists.
        float_result: keys of integer kernels that give their result in float.
        cost_ns, float_ns: the estimate for this choice, and for the model in float.
        policy: "kernels" or "cost", whichever it was.
    """

    int8: frozenset[str]
    quantized: frozenset[str]
    float_result: frozenset[str]
    cost_ns: float
    float_ns: float
    policy: str


@dataclass(eq=False, slots=True)
class _Edge:
    """A tensor between units."""

    tensor: gs.Tensor
    producer: Unit | None
    readers: list[Unit]
    leaves: bool
    """Whether it must exist in float: graph outputs and what subgraphs read."""


class Placer:
    """Builds and cuts the network for one model."""

    def __init__(
        self,
        model: Model,
        units: Sequence[Unit],
        facts: Facts,
        target: Target,
        *,
        float_head: bool,
        given: Given = NONE_GIVEN,
    ) -> None:
        self.units = units
        self.facts = facts
        self.target = target
        self.costs: CostTable = target.costs
        self.float_head = float_head
        self.given = given
        self.edges = _edges(model, units, given)
        owner = {id(n): u.key for u in units for n in u.nodes}
        self.followers = {u.key: [owner[id(n)] for t in u.outputs for n in model.users(t) if id(n) in owner] for u in units}
        inner = captured(model.graph)
        self.captured = {u.key for u in units if any(id(t) in inner for t in u.outputs)}

    def place(self, policy: Policy) -> Placement:
        """The best placement under a policy."""
        if policy != "auto":
            return self.solve(forced=policy == "kernels")
        best, whole = self.solve(forced=False), self.solve(forced=True)
        saved = whole.cost_ns - best.cost_ns
        trusted = saved > max(FLOOR_NS, TOLERANCE * whole.cost_ns) or whole.cost_ns >= whole.float_ns
        return self.spare_head(best if trusted else whole)

    def spare_head(self, placement: Placement) -> Placement:
        """The last kernels in float, as far as they take next to no time so; each of them gets the reason."""
        limit, best = HEAD_SHARE * placement.cost_ns, placement
        for unit in itertools.islice(self.last_kernels(placement), HEAD_TRIALS if self.float_head else 0):
            known = self.costs.row(unit.head.op, unit.kind) is not None
            if not known or self.cost(unit, "float") > limit or self.trained(unit):
                continue
            unit.reason = Reason("head", "the last kernels stay in float where that takes next to no time")
            found = self.solve(forced=placement.policy == "kernels")
            if found.cost_ns > placement.cost_ns + limit:
                unit.reason = None
            else:
                best = found
        return best

    def last_kernels(self, placement: Placement) -> Iterator[Unit]:
        """Integer kernels, the last one first, that no integer kernel and no arithmetic in integers is behind.

        A kernel whose reason was set when the next one is asked for counts as one in float.
        """
        before: set[str] = set()
        for unit in reversed(self.units):
            integer = unit.key in placement.int8 and unit.reason is None and not unit.same_scale
            behind = unit.key in self.captured or any(key in before for key in self.followers[unit.key])
            if integer and unit.kernel and not behind:
                yield unit
                integer = unit.reason is None
            if integer or behind:
                before.add(unit.key)

    # -- the network -----------------------------------------------------------------------------------------------------------

    def solve(self, *, forced: bool) -> Placement:
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(["source", "sink"])
        for unit in self.units:
            self.add_unit(graph, unit, forced)
        for edge in self.edges:
            self.add_tensor(graph, edge)
        cut: Any = nx.minimum_cut  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        value, (integer, _) = cut(graph, "source", "sink")
        int8 = frozenset(u.key for u in self.units if f"u:{u.key}" in integer)
        return Placement(
            int8,
            frozenset(e.tensor.name for e in self.edges if self.exists(e, integer) or e.tensor.name in self.given.activations),
            frozenset(u.key for u in self.units if u.key in int8 and f"o:{u.key}" not in integer),
            value / 1000.0,
            math.fsum(self.cost(u, "float") for u in self.units),
            "kernels" if forced else "cost",
        )

    @staticmethod
    def exists(edge: _Edge, integer: set[str]) -> bool:
        """Whether the tensor has an integer version: an integer producer, or an integer reader."""
        produced = edge.producer is not None and f"o:{edge.producer.key}" in integer
        return produced or any(f"u:{r.key}" in integer for r in edge.readers)

    def add_unit(self, graph: nx.DiGraph[str], unit: Unit, forced: bool) -> None:
        me, out = f"u:{unit.key}", f"o:{unit.key}"
        if unit.reason is not None:
            _infinite(graph, me, "sink")
        else:
            _add(graph, me, "sink", self.cost(unit, "int8"))
        if unit.reason is None and unit.kernel and (forced or self.trained(unit)):
            _infinite(graph, "source", me)
        else:
            _add(graph, "source", me, self.cost(unit, "float"))
        _infinite(graph, out, me)
        if not (unit.float_output and self.float_head):
            _infinite(graph, me, out)

    def add_tensor(self, graph: nx.DiGraph[str], edge: _Edge) -> None:
        name, size = edge.tensor.name, Counts(elements=self.size(edge.tensor))
        integer, real = f"q:{name}", f"f:{name}"
        producer = "sink" if edge.producer is None else f"o:{edge.producer.key}"
        _add(graph, integer, producer, self.node_cost("QuantizeLinear", size))
        if edge.producer is not None:
            _add(graph, producer, real, self.node_cost("DequantizeLinear", size))
        for reader in edge.readers:
            # A reader takes a tensor as the value it computes with, or (a shape, a condition) always in float.
            if any(t is edge.tensor for t in reader.data):
                _infinite(graph, f"u:{reader.key}", integer)
                _infinite(graph, real, f"u:{reader.key}")
                _add(graph, f"u:{reader.key}", producer, self.cold(reader) * size.elements)
            else:
                _infinite(graph, real, "sink")
        if edge.leaves:
            _infinite(graph, real, "sink")

    def trained(self, unit: Unit) -> bool:
        """Whether the model came with integers for all that the kernel multiplies."""
        return unit.head.inputs[1].name in self.given.weights and unit.data[0].name in self.given.activations

    # -- costs -------------------------------------------------------------------------------------------------------------------

    def cost(self, unit: Unit, domain: Domain) -> float:
        """Nanoseconds of one unit; what the table does not know costs nothing in float and nothing in int8."""
        row = self.costs.row(unit.head.op, unit.kind)
        if row is None:
            return 0.0
        tensor = unit.head.inputs[0] if row.basis == "input" and unit.head.inputs else _first(unit.head.outputs)
        counts = self.counts(unit, domain, 0 if tensor is None else self.size(tensor))
        return self.costs.cost(unit.head.op, unit.kind, domain, counts) or 0.0

    def counts(self, unit: Unit, domain: Domain, size: int) -> Counts:
        if not unit.kernel or unit.weight is None or unit.axis is None:
            return Counts(elements=size)
        channels, step = unit.weight.shape[unit.axis], self.target.channel_step("int8" if domain == "int8" else "float32")
        rounded = -(-channels // step) * step if unit.kind in ("dense", "") else channels
        depth = unit.weight.size // channels
        kernel = math.prod(unit.weight.shape[2:])
        groups = int(unit.head.attrs.get("group", 1)) if unit.kind == "grouped" else 1
        pixels = size // max(channels, 1)
        return Counts(size, pixels * rounded * depth, pixels * kernel * groups, unit.weight.size, channels)

    def cold(self, unit: Unit) -> float:
        """Nanoseconds an element more for reading what was quantized just before."""
        row = self.costs.row(unit.head.op, unit.kind)
        return 0.0 if row is None or row.int8 is None else row.int8.cold

    def node_cost(self, op: str, counts: Counts) -> float:
        return self.costs.cost(op, "", "float", counts) or 0.0

    def size(self, tensor: gs.Tensor) -> int:
        """Elements of a tensor; unknown dimensions count as one, an unknown rank as a middling tensor."""
        known = elements(self.facts.shape(tensor))
        if known is not None:
            return known
        shape = self.facts.shape(tensor)
        if shape is None:
            return UNKNOWN_ELEMENTS
        return math.prod(d for d in shape if isinstance(d, int) and d > 0) if static(shape[1:]) is not None else UNKNOWN_ELEMENTS


def _edges(model: Model, units: Sequence[Unit], given: Given = NONE_GIVEN) -> list[_Edge]:
    """The activations between units, inputs of the graph included; not constants, nor what nobody can read in integers."""
    owner = {id(n): u for u in units for n in u.nodes}
    leaving = {id(t) for t in model.graph.outputs} | captured(model.graph)
    wanted = {id(t): t for u in units for t in u.data}
    made = {id(t): t for u in units for t in u.outputs if u.reason is None}
    inner = {id(t) for u in units for n in u.nodes[:-1] for t in n.outputs}
    tensors = [*model.graph.inputs, *(t for n in model.graph.nodes for t in n.outputs)]
    whole = {id(t): t for t in tensors if t.name in given.whole and id(t) not in inner}
    found: list[_Edge] = []
    for tensor in {**wanted, **made, **whole}.values():
        node = model.producer(tensor)
        readers = {id(owner[id(n)]): owner[id(n)] for n in model.users(tensor) if id(n) in owner}
        producer = None if node is None else owner.get(id(node))
        found.append(_Edge(tensor, producer, list(readers.values()), id(tensor) in leaving))
    return found


def _first(tensors: Sequence[gs.Tensor]) -> gs.Tensor | None:
    return next((t for t in tensors if t.name), None)


def _add(graph: nx.DiGraph[str], a: str, b: str, nanoseconds: float) -> None:
    """Whole picoseconds: exact arithmetic, hence the same cut everywhere."""
    capacity = round(nanoseconds * 1000)
    if a == b or (graph.has_edge(a, b) and "capacity" not in graph[a][b]):
        return
    if graph.has_edge(a, b):
        capacity += graph[a][b]["capacity"]
    graph.add_edge(a, b, capacity=capacity)


def _infinite(graph: nx.DiGraph[str], a: str, b: str) -> None:
    """An edge without a capacity: it is never cut."""
    if graph.has_edge(a, b):
        graph.remove_edge(a, b)
    graph.add_edge(a, b)
