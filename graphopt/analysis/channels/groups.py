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
        return math.lcm(1, *(multiple // math.gcd(multiple, k) for k in self.widths or (1,)))


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
    """The groups of a graph, in the order of their first labels.

    Frozen ones that live in nothing but one weight are left out: they are not channels of any tensor (what a grouped convolution
    reads within a block, what a weight has for a graph input).
    """
    index, frozen = index_of(flow), flow.table.frozen()
    count = len(flow.table)
    mixed = np.zeros(count, bool)
    for mixer in flow.mixers:
        mixed[rows_of(flow, nodes[mixer.node], mixer)] = True
        mixed[columns_of(flow, nodes[mixer.node], mixer)] = True
    for product in flow.products:
        mixed[flow.table.find(product.labels)] = True
    sets = _same_places(index, np.flatnonzero(mixed), frozen, count)
    firsts = _Firsts(np.asarray([units[0] for units in sets], np.int64), count)
    places, mixing = _places(index, firsts, len(sets)), _mixing(flow, nodes, cost, firsts, len(sets))
    readers = _readers(model)
    found: list[Group] = []
    for units, mine, mixed_by in zip(sets, places, mixing, strict=True):
        why = frozen.get(int(units[0]))
        if why is None or len(mine) > 1 or not mine[0].constant:
            found.append(_describe(len(found), units, mine, mixed_by, readers, why))
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


class _Firsts:
    """The first unit of every group: what is known of it holds for all. Looked up among the classes of a place at once."""

    def __init__(self, units: Labels, count: int) -> None:
        self._group = np.full(count, -1, np.int64)
        self._group[units] = np.arange(units.size)

    def among(self, classes: Labels) -> tuple[list[int], list[int]]:
        """The groups of which the first unit is among ``classes``, and where."""
        found = self._group[classes]
        at = np.flatnonzero(found >= 0)
        return found[at].tolist(), at.tolist()


def _places(index: Index, firsts: _Firsts, count: int) -> list[list[Place]]:
    """Where the units of each group live."""
    found: list[list[Place]] = [[] for _ in range(count)]
    for (name, axes, constant), roots, counts in zip(index.places, index.roots, index.counts, strict=True):
        for group, at in zip(*firsts.among(roots), strict=True):
            found[group].append(Place(name, axes, int(counts[at]), constant))
    return found


@dataclass(slots=True)
class _Mixing:
    """What mixes the units of a group."""

    macs: int | None = 0
    widths: set[int] = field(default_factory=set[int])
    constraints: list[str] = field(default_factory=list[str])

    def add(self, node: gs.Node, cost: CostTable) -> None:
        """Count the multiply-accumulates of a node."""
        known = cost.of(node)
        self.macs = None if self.macs is None or known is None or known.macs is None else self.macs + known.macs


def _mixing(flow: Flow, nodes: dict[str, gs.Node], cost: CostTable, firsts: _Firsts, count: int) -> list[_Mixing]:
    """Multiply-accumulates of what mixes each group, its widths at what makes it, and constraints by grouped convolutions."""
    found = [_Mixing() for _ in range(count)]
    for mixer in flow.mixers:
        node = nodes[mixer.node]
        made, read = (_counted(f(flow, node, mixer), firsts) for f in (rows_of, columns_of))
        for group in {**made, **read}:
            found[group].add(node, cost)
            number = made.get(group, 0)
            if number:
                found[group].widths.add(max(1, number // mixer.repeats) * (1 if mixer.rows_in_data_order else mixer.groups))
            if mixer.groups > 1 and not mixer.blockwise:
                found[group].constraints.append(f"{node_label(node)}: {mixer.groups} blocks shrink alike")
            elif mixer.groups > 1 and number > 1:
                found[group].constraints.append(f"{node_label(node)}: blocks go as a whole")
    for product in flow.products:
        layout = flow.tensors.get(product.node)
        carried = [f.labels for f in layout.fields] if layout is not None else []
        touched = {g for labels in (product.labels, *carried) for g in _counted(flow.table.find(labels.reshape(-1)), firsts)}
        for group in sorted(touched):
            found[group].add(nodes[product.node], cost)
    return found


def _counted(classes: Labels, firsts: _Firsts) -> dict[int, int]:
    """How often the first unit of each group is among ``classes``."""
    found: dict[int, int] = {}
    for group in firsts.among(classes)[0]:
        found[group] = found.get(group, 0) + 1
    return found


def _readers(model: Model) -> dict[str, list[tuple[int, str]]]:
    """The nodes that read or make each tensor: their places in the graph and their labels."""
    found: dict[str, list[tuple[int, str]]] = {}
    for place, node in enumerate(model.graph.nodes):
        label = node_label(node)
        for name in {t.name for t in [*node.inputs, *node.outputs]}:
            found.setdefault(name, []).append((place, label))
    return found


def _describe(
    number: int,
    units: Labels,
    places: list[Place],
    mixing: _Mixing,
    readers: dict[str, list[tuple[int, str]]],
    frozen: str | None,
) -> Group:
    touched = sorted({one for name in {p.tensor for p in places} for one in readers.get(name, ())})
    constraints = list(mixing.constraints)
    activations = [p.tensor for p in places if not p.constant]
    ties = max((p.count for p in places if not p.constant), default=1)
    if ties > 1:
        constraints.append(f"{ties} channels of one tensor go together")
    return Group(
        id=f"g{number}",
        tensor=activations[0] if activations else places[0].tensor,
        units=units,
        places=tuple(places),
        operators=tuple(label for _, label in touched),
        macs=mixing.macs,
        constraints=tuple(constraints),
        frozen=frozen,
        widths=tuple(sorted(mixing.widths)),
    )
