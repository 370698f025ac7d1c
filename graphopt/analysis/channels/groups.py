"""Groups: channels that are interchangeable, because they live in the same places.

The unit of removal is a class of labels: all elements of all tensors and constants that go together. Two units with the same
number of elements in the same places (tensor and axis) form one group; a group is pruned to a width. So what one producer makes
falls into several groups where a Split sends it different ways, and a residual stream with all its writers and readers is one
group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels.propagate import Flow
from graphopt.analysis.cost import CostTable
from graphopt.model import Model, node_label
from graphopt.ops.channels import Labels, Layout, Mixer


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor or constant that holds the channels of a group: how many elements along its axes belong to one unit."""

    tensor: str
    axes: tuple[int, ...]
    count: int
    constant: bool


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Channels that can be removed one by one, exactly, or that cannot be.

    Attributes:
        id: "g0", "g1", ... in the order of the graph.
        tensor: the tensor that first holds them, for people.
        units: the representatives of the units, ascending.
        places: where they live.
        operators: the nodes that they pass, by label.
        macs: multiply-accumulates of the operators that mix them, None if not known.
        constraints: what binds them, for people.
        frozen: why they cannot go, None if they can.
        widths: elements of one unit along the output channels of each operator that makes them.
    """

    id: str
    tensor: str
    units: Labels
    places: tuple[Place, ...]
    operators: tuple[str, ...]
    macs: int | None
    constraints: tuple[str, ...]
    frozen: str | None
    widths: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many units there are."""
        return int(self.units.size)

    def step(self, multiple: int) -> int:
        """The least number of units that keeps every operator's width a multiple of ``multiple``."""
        return math.lcm(1, *(multiple // math.gcd(multiple, k) for k in self.widths))


@dataclass(slots=True)
class Index:
    """For every place the classes that live there and how many elements each has."""

    places: list[tuple[str, tuple[int, ...], bool]] = field(default_factory=list[tuple[str, tuple[int, ...], bool]])
    roots: list[Labels] = field(default_factory=list[Labels])
    counts: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])


def index_of(flow: Flow) -> Index:
    """All places of all classes."""
    index = Index()
    for name, layout, constant in flow.layouts():
        for found in layout.fields:
            roots, counts = np.unique(flow.table.find(found.labels), return_counts=True)
            index.places.append((name, tuple(sorted({layout.axis_of(at) for at in found.at})), constant))
            index.roots.append(roots)
            index.counts.append(counts.astype(np.int64))
    return index


def columns_of(flow: Flow, node: gs.Node, mixer: Mixer) -> Labels:
    """The classes of the weight's columns: what the mixer sums over."""
    return _axis_classes(flow, flow.operand(node, mixer.weight), mixer.columns)


def rows_of(flow: Flow, node: gs.Node, mixer: Mixer) -> Labels:
    """The classes of the weight's rows: what the mixer makes."""
    return _axis_classes(flow, flow.operand(node, mixer.weight), mixer.rows)


def _axis_classes(flow: Flow, layout: Layout | None, axis: int) -> Labels:
    fields = () if layout is None else layout.fields_on(axis)
    return flow.table.find(fields[0].labels.reshape(-1)) if fields else np.zeros(0, np.int64)


def build(model: Model, flow: Flow, nodes: dict[str, gs.Node], cost: CostTable) -> tuple[Group, ...]:
    """The groups of a graph, in the order of their first labels."""
    index, frozen = index_of(flow), flow.table.frozen()
    count = len(flow.table)
    mixed = np.zeros(count, bool)
    for mixer in flow.mixers:
        mixed[rows_of(flow, nodes[mixer.node], mixer)] = True
        mixed[columns_of(flow, nodes[mixer.node], mixer)] = True
    for product in flow.products:
        mixed[flow.table.find(product.labels)] = True
    sets = _same_places(index, np.flatnonzero(mixed), frozen, count)
    found = [_describe(k, units, model, flow, nodes, cost, index, frozen.get(int(units[0]))) for k, units in enumerate(sets)]
    return tuple(found)


def _same_places(index: Index, units: Labels, frozen: dict[int, str], count: int) -> list[Labels]:
    """Units with equal places, counts and reason; places enter a random 64-bit sum, which two different sets do not share."""
    keys = np.random.default_rng(0).integers(1, 2**63, len(index.places), dtype=np.uint64)
    signature = np.zeros(count, np.uint64)
    for key, roots, counts in zip(keys, index.roots, index.counts, strict=True):
        signature[roots] += key * counts.astype(np.uint64)
    found: dict[tuple[int, str | None], list[int]] = {}
    for unit in units.tolist():
        found.setdefault((int(signature[unit]), frozen.get(unit)), []).append(unit)
    return [np.asarray(members, np.int64) for members in found.values()]


def _describe(
    number: int,
    units: Labels,
    model: Model,
    flow: Flow,
    nodes: dict[str, gs.Node],
    cost: CostTable,
    index: Index,
    frozen: str | None,
) -> Group:
    first = int(units[0])
    places: list[Place] = []
    for (name, axes, constant), roots, counts in zip(index.places, index.roots, index.counts, strict=True):
        at = int(np.searchsorted(roots, first))
        if at < roots.size and roots[at] == first:
            places.append(Place(name, axes, int(counts[at]), constant))
    names = {p.tensor for p in places}
    touched = [n for n in model.graph.nodes if any(t.name in names for t in [*n.inputs, *n.outputs])]
    macs, widths, constraints = _mixed(first, flow, nodes, cost)
    activations = [p.tensor for p in places if not p.constant]
    ties = max((p.count for p in places if not p.constant), default=1)
    if ties > 1:
        constraints.append(f"{ties} channels of one tensor go together")
    return Group(
        id=f"g{number}",
        tensor=activations[0] if activations else places[0].tensor,
        units=units,
        places=tuple(places),
        operators=tuple(node_label(n) for n in touched),
        macs=macs,
        constraints=tuple(constraints),
        frozen=frozen,
        widths=tuple(sorted(widths)),
    )


def _mixed(unit: int, flow: Flow, nodes: dict[str, gs.Node], cost: CostTable) -> tuple[int | None, set[int], list[str]]:
    """Multiply-accumulates of the mixers of a unit, its widths at those that make it, and constraints by grouped convolutions."""
    macs: int | None = 0
    widths: set[int] = set()
    constraints: list[str] = []
    for mixer in flow.mixers:
        node = nodes[mixer.node]
        made = int(np.count_nonzero(rows_of(flow, node, mixer) == unit))
        read = int(np.count_nonzero(columns_of(flow, node, mixer) == unit))
        if not made and not read:
            continue
        known = cost.of(node)
        macs = None if macs is None or known is None or known.macs is None else macs + known.macs
        if made:
            widths.add(made * (mixer.groups if not mixer.rows_in_data_order else 1))
        if mixer.groups > 1 and not mixer.blockwise:
            constraints.append(f"{node_label(node)}: {mixer.groups} blocks shrink alike")
        elif mixer.groups > 1 and made > 1:
            constraints.append(f"{node_label(node)}: blocks go as a whole")
    for product in flow.products:
        layout = flow.tensors.get(product.node)
        carried = layout is not None and any((flow.table.find(f.labels) == unit).any() for f in layout.fields)
        if carried or (flow.table.find(product.labels) == unit).any():
            known = cost.of(nodes[product.node])
            macs = None if macs is None or known is None or known.macs is None else macs + known.macs
    return macs, widths, constraints
