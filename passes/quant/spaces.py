"""Which channels may be scaled together without changing what a float model computes.

A *space* is a set of tensors whose channels carry the same labels. A kernel's output begins new labels, one a channel; operators
that are positively homogeneous, f(s x) = s f(x) for s > 0, or that only move whole channels, hand them on:

    Relu, LeakyRelu, PRelu, pooling, Resize, Pad with zeros, Identity, Flatten of [N, C, 1, 1], Mul by a gate that is not scaled
    Add, Max, Min: both operands have the same label, channel by channel
    Concat along the channels: labels one after the other

A kernel that reads labels divides them out again: W diag(s)^-1 (diag(s) x) = W x. Everything else (Sigmoid, Softmax, graph
outputs, operators without a row) *freezes* what it reads: s = 1. Clip(0, b) caps: it is homogeneous for a channel as long as s x
stays below b, so s may not exceed b / max x, where max x is what the data shows, nor fall below 1, since a channel that reaches b
must go on being cut there. (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, for
pairs of layers.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model
from graphopt.ops import Facts
from graphopt.passes.quant.units import Unit, bounds_of, captured

Labels = NDArray[np.int64]

THROUGH = frozenset((
    "Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout", "Resize",
))  # fmt: skip
"""Operators that hand every channel on by itself."""

JOINING = frozenset(("Add", "Sum", "Max", "Min", "Sub"))

BLIND = frozenset(("Shape", "Size"))
"""Operators that do not look at values."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The labels of one tensor, along one of its axes."""

    tensor: gs.Tensor
    axis: int
    labels: Labels


@dataclass(frozen=True, slots=True)
class Use:
    """A kernel that makes labels, or reads them."""

    unit: Unit
    labels: Labels


@dataclass(slots=True)
class Spaces:
    """All labels of one model.

    Attributes:
        tensors: what carries labels, in the graph's order.
        made, read: kernels by the labels that they begin, and that they divide out.
        capped: tensors behind a Clip(0, b), with b.
        groups: label -> the class of labels that must have one scale; ``frozen``: classes that must stay.
    """

    tensors: list[Channels]
    made: list[Use]
    read: list[Use]
    capped: list[tuple[Channels, float]]
    groups: Labels
    frozen: NDArray[np.bool_]

    def parts(self) -> list[Part]:
        """The spaces that can be scaled at all: classes that share a tensor, with everything that carries them."""
        graph: nx.Graph[int] = nx.Graph()
        for channels in self.tensors:
            classes = np.unique(self.groups[channels.labels])
            graph.add_nodes_from(classes.tolist())
            graph.add_edges_from(itertools.pairwise(classes.tolist()))
        number = np.zeros(self.frozen.size, np.int64)
        found: list[Part] = []
        for index, component in enumerate(nx.connected_components(graph)):
            number[list(component)] = index
            classes = np.asarray(sorted(component), np.int64)
            found.append(Part(classes, self.frozen[classes]))
        for channels in self.tensors:
            found[number[self.groups[channels.labels[0]]]].tensors.append(channels)
        for uses, name in ((self.made, "made"), (self.read, "read")):
            for use in uses:
                getattr(found[number[self.groups[use.labels[0]]]], name).append(use)
        for channels, cap in self.capped:
            found[number[self.groups[channels.labels[0]]]].capped.append((channels, cap))
        return [part for part in found if not part.frozen.all() and part.made and part.read]


@dataclass(slots=True)
class Part:
    """One space; fields as those of ``Spaces``, ``classes`` ascending."""

    classes: Labels
    frozen: NDArray[np.bool_]
    tensors: list[Channels] = field(default_factory=list[Channels])
    made: list[Use] = field(default_factory=list[Use])
    read: list[Use] = field(default_factory=list[Use])
    capped: list[tuple[Channels, float]] = field(default_factory=list[tuple[Channels, float]])


class SpaceBuilder:
    """Runs the units on labels."""

    def __init__(self, model: Model, units: Sequence[Unit], facts: Facts) -> None:
        self.model = model
        self.units = units
        self.facts = facts
        self.parent: list[int] = []
        self.dead: set[int] = set()
        self.of: dict[int, Channels] = {}
        self.made: list[Use] = []
        self.read: list[Use] = []
        self.capped: list[tuple[Channels, float]] = []
        self.leaving = {id(t) for t in model.graph.outputs} | captured(model.graph)
        self.readers: dict[int, int] = {}
        for unit in units:
            if unit.kernel:
                key = id(unit.head.inputs[1])
                self.readers[key] = self.readers.get(key, 0) + 1

    def build(self) -> Spaces:
        """Go through the units once."""
        for unit in self.units:
            self.visit(unit)
            for tensor in [t for node in unit.nodes for t in node.outputs if id(t) in self.leaving]:
                self.freeze(tensor)
        groups = np.asarray([self.find(label) for label in range(len(self.parent))], np.int64)
        frozen = np.zeros(len(self.parent), np.bool_)
        frozen[[self.find(label) for label in self.dead]] = True
        return Spaces(list(self.of.values()), self.made, self.read, self.capped, groups, frozen)

    # -- union-find ------------------------------------------------------------------------------------------------------------

    def find(self, label: int) -> int:
        while self.parent[label] != label:
            self.parent[label] = self.parent[self.parent[label]]
            label = self.parent[label]
        return label

    def unite(self, first: Labels, second: Labels) -> None:
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            a, b = self.find(a), self.find(b)
            self.parent[max(a, b)] = min(a, b)

    def freeze(self, tensor: gs.Tensor) -> None:
        channels = self.of.get(id(tensor))
        if channels is not None:
            self.dead.update(channels.labels.tolist())

    def put(self, tensor: gs.Tensor, axis: int, labels: Labels) -> None:
        self.of[id(tensor)] = Channels(tensor, axis, labels)

    # -- operators -------------------------------------------------------------------------------------------------------------

    def visit(self, unit: Unit) -> None:
        """Labels of what a unit makes from those of what it reads."""
        node = unit.head
        if unit.kernel and unit.weight is not None and unit.axis is not None and self.readers[id(node.inputs[1])] == 1:
            self.kernel(unit)
        elif node.op not in BLIND and not self.hand_on(node):
            for tensor in node.inputs:
                self.freeze(tensor)
        for follower in unit.nodes[1:]:
            self.follow(follower)

    def kernel(self, unit: Unit) -> None:
        assert unit.weight is not None and unit.axis is not None  # noqa: S101 - asked by ``visit``
        source, node = self.of.get(id(unit.data[0])), unit.head
        shape = self.facts.shape(node.outputs[0])
        reads = {"Conv": 1, "Gemm": 1, "MatMul": -1}[node.op]
        rank = len(shape or ())
        if source is not None:
            plain = node.op != "Gemm" or (not node.attrs.get("transA", 0) and node.attrs.get("alpha", 1.0) == 1.0)
            if plain and source.axis == reads % max(rank, 1):
                self.read.append(Use(unit, source.labels))
            else:
                self.freeze(unit.data[0])
        plain = node.op != "Gemm" or (node.attrs.get("alpha", 1.0) == 1.0 and node.attrs.get("beta", 1.0) == 1.0)
        # A bias that others read as well would be scaled for them too.
        if rank and plain:
            labels = np.arange(len(self.parent), len(self.parent) + unit.weight.shape[unit.axis], dtype=np.int64)
            self.parent.extend(labels.tolist())
            self.put(node.outputs[0], reads % rank, labels)
            self.made.append(Use(unit, labels))

    def hand_on(self, node: gs.Node) -> bool:
        """Whether the operator's labels are known."""
        if node.domain or len([t for t in node.outputs if t.name]) != 1:
            return False
        source = self.of.get(id(node.inputs[0])) if node.inputs else None
        if node.op in JOINING:
            return self.join(node)
        if node.op == "Mul":
            return self.gate(node)
        if source is None:
            return False
        if node.op == "Concat":
            return self.concat(node, source.axis)
        rank, out = len(self.facts.shape(source.tensor) or ()), self.facts.shape(node.outputs[0])
        if node.op == "Clip":
            return self.clip(node, node.outputs[0])
        if node.op == "Pad" and not self.pads_zeros(node, source.axis, rank):
            return False
        if node.op == "Flatten" and not (source.axis == 1 and self.ones_behind(source) and node.attrs.get("axis", 1) == 1):
            return False
        if node.op == "PRelu" and self.facts.value(node.inputs[1]) is None:
            return False
        if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
            return False
        known = node.op in THROUGH or node.op in ("Pad", "Flatten")
        if not known or out is None or len(out) <= source.axis or out[source.axis] != source.labels.size:
            return False
        self.put(node.outputs[0], source.axis, source.labels)
        return True

    def ones_behind(self, channels: Channels) -> bool:
        shape = self.facts.shape(channels.tensor)
        return shape is not None and all(d == 1 for d in shape[channels.axis + 1 :])

    def pads_zeros(self, node: gs.Node, axis: int, rank: int) -> bool:
        if node.attrs.get("mode", "constant") != "constant" or len(node.inputs) < 2:
            return False
        pads = self.facts.value(node.inputs[1])
        fill = self.facts.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2].name else np.zeros(1)
        plain = len(node.inputs) < 4 or not node.inputs[3].name
        if pads is None or fill is None or fill.any() or not plain or pads.size != 2 * rank:
            return False
        return not pads[axis] and not pads[axis + rank]

    def join(self, node: gs.Node) -> bool:
        """Operands of one shape; others couple nothing and freeze."""
        sources = [self.of.get(id(t)) for t in node.inputs]
        shapes = {self.facts.shape(t) for t in node.inputs}
        first = sources[0]
        if first is None or any(s is None or s.axis != first.axis or s.labels.size != first.labels.size for s in sources):
            return False
        if len(shapes) != 1 and len({len(s or ()) for s in shapes}) != 1:
            return False
        for other in sources[1:]:
            if other is not None:
                self.unite(first.labels, other.labels)
        self.put(node.outputs[0], first.axis, first.labels)
        return True

    def gate(self, node: gs.Node) -> bool:
        """One operand has the result's shape and may be scaled; the other is then a factor that must stay."""
        out = self.facts.shape(node.outputs[0])
        for index in (0, 1):
            source, other = self.of.get(id(node.inputs[index])), node.inputs[1 - index]
            if source is None or other is node.inputs[index] or out is None or self.facts.shape(source.tensor) != out:
                continue
            if self.facts.shape(other) == out and id(other) in self.of and index == 0:
                continue  # of two alike the second: the first of them is the gate
            self.freeze(other)
            self.put(node.outputs[0], source.axis, source.labels)
            return True
        return False

    def concat(self, node: gs.Node, axis: int) -> bool:
        shape = self.facts.shape(node.outputs[0])
        if shape is None or node.attrs.get("axis", 1) % len(shape) != axis:
            return False
        labels: list[Labels] = []
        for tensor in node.inputs:
            source = self.of.get(id(tensor))
            if source is None:
                # A part without labels keeps its scale: labels of its own that are frozen.
                size = (self.facts.shape(tensor) or (None,) * (axis + 1))[axis]
                if not isinstance(size, int):
                    return False
                fresh = np.arange(len(self.parent), len(self.parent) + size, dtype=np.int64)
                self.parent.extend(fresh.tolist())
                self.dead.update(fresh.tolist())
                labels.append(fresh)
            elif source.axis != axis:
                return False
            else:
                labels.append(source.labels)
        self.put(node.outputs[0], axis, np.concatenate(labels))
        return True

    def clip(self, node: gs.Node, result: gs.Tensor) -> bool:
        source, bounds = self.of.get(id(node.inputs[0])), bounds_of(node, self.facts)
        if source is None or bounds is None or bounds.low not in (0.0, -math.inf) or not bounds.high > 0:
            return False
        self.put(result, source.axis, source.labels)
        if math.isfinite(bounds.high):
            self.capped.append((self.of[id(result)], bounds.high))
        return True

    def follow(self, node: gs.Node) -> None:
        """An operator that the unit took in: an activation, or the bias behind a MatMul."""
        source = next((self.of[id(t)] for t in node.inputs if id(t) in self.of), None)
        if source is None:
            return
        if node.op in ("Relu", "Add"):
            self.put(node.outputs[0], source.axis, source.labels)
        elif not self.clip(node, node.outputs[0]):
            self.freeze(source.tensor)
