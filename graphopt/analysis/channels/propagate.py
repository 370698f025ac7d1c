"""Running the operators of a graph on labels, in topological order.

Two ways of doing it share everything but what ``equate`` and ``freeze`` mean. ``analyse`` makes labels: every constant gets one
for each index of each axis, and what rules say must hold is made to hold. ``check`` replays on a graph whose channels were
removed: constants bring the labels that they kept, and every statement that does not hold is a ``Problem``. Operators without a
row, or that read tensors from inside a subgraph, freeze what they touch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels.labels import LabelTable
from graphopt.analysis.channels.taint import Taint
from graphopt.model import Model, node_key, node_label
from graphopt.model.bodies import bodies, bodies_within
from graphopt.ops import Facts, lookup
from graphopt.ops.channels import Average, ChannelRule, Labels, Layout, Mixer, Product
from graphopt.ops.channels.layout import blank, separate, sized
from graphopt.ops.facts import Shape

_NOT_CHANNELS = "bOSU"
"""Kinds of constants that get no labels, as 64-bit integers, which are indices and sizes."""

LONGEST_AXIS = 2**17
"""Longer axes of constants (tables of words) get no labels."""

Use = tuple[str, int]
"""One place where a tensor is read: the id of a node, and the index of its input."""


@dataclass(slots=True)
class Memory:
    """What a replay needs to know of the analysis: labels and choices by node and tag."""

    fixed: dict[tuple[str, str], Labels] = field(default_factory=dict[tuple[str, str], Labels])
    once: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A statement that does not hold in a replayed graph, and the labels that it is about."""

    node: str
    why: str
    labels: Labels


@dataclass(slots=True)
class Flow:
    """The layouts of all tensors of a graph: those of constants by name in ``constants``, the others in ``tensors``.

    A constant that is a vector and that several nodes read (exporters merge equal biases, scales of ones, means of zeros) has a
    layout for each of them in ``uses``: that two layers have equal biases does not tie their channels, each may have a copy.
    """

    table: LabelTable
    memory: Memory
    uses: dict[Use, Layout] = field(default_factory=dict[Use, Layout])
    tensors: dict[str, Layout] = field(default_factory=dict[str, Layout])
    constants: dict[str, Layout] = field(default_factory=dict[str, Layout])
    names: dict[Use, str] = field(default_factory=dict[Use, str])
    mixers: list[Mixer] = field(default_factory=list[Mixer])
    blocks: list[Labels] = field(default_factory=list[Labels])
    products: list[Product] = field(default_factory=list[Product])
    averages: list[Average] = field(default_factory=list[Average])
    heads: bool = False
    lossy: bool = False
    problems: list[Problem] = field(default_factory=list[Problem])

    def layout(self, tensor: gs.Tensor) -> Layout | None:
        """The layout of a tensor, None if nothing is known of it."""
        return self.constants.get(tensor.name) or self.tensors.get(tensor.name)

    def operand(self, node: gs.Node, index: int) -> Layout | None:
        """The layout of what a node reads as input ``index``."""
        if index >= len(node.inputs):
            return None
        return self.uses.get((node_key(node), index)) or self.layout(node.inputs[index])

    def layouts(self) -> Iterator[tuple[str, Layout, bool]]:
        """All layouts, with the names of the tensors and whether they are constants."""
        yield from ((name, layout, False) for name, layout in self.tensors.items())
        yield from ((name, layout, True) for name, layout in self.constants.items())
        yield from ((self.names[use], layout, True) for use, layout in self.uses.items())


def analyse(model: Model, facts: Facts, *, heads: bool = False, lossy: bool = False) -> Flow:
    """Label the graph; afterwards the labels of every tensor can go independently of each other, unless frozen.

    ``heads``: attention loses whole heads rather than dimensions of every head. ``lossy``: channels may go that a normalisation
    averages over.
    """
    flow = Flow(LabelTable(), Memory(), heads=heads, lossy=lossy)
    _Walk(model, facts, flow, checking=False).run()
    for output in model.graph.outputs:
        layout = flow.layout(output)
        for found in layout.fields if layout is not None else ():
            flow.table.freeze(found.labels, f"graph output '{output.name}'")
    _separate_axes(flow)
    return flow


def check(model: Model, facts: Facts, before: Flow, uses: dict[Use, Layout]) -> Flow:
    """Replay on a graph with fewer channels, whose constants have the layouts ``uses``; see ``Flow.problems``."""
    flow = Flow(before.table, before.memory, uses=dict(uses), heads=before.heads, lossy=before.lossy)
    _Walk(model, facts, flow, checking=True).run()
    return flow


def _separate_axes(flow: Flow) -> None:
    """Labels over several axes at once can only go in rectangles: tie all but the longest of their factors."""
    for _, layout, _ in list(flow.layouts()):
        for found in layout.fields:
            if len(found.at) < 2:
                continue
            roots = flow.table.find(found.labels)
            varying = [k for k in range(roots.ndim) if (roots != np.take(roots, [0], k)).any()]
            longest = max(varying, key=lambda k: (roots.shape[k], k), default=0)
            if len(varying) > 1:
                wide = np.moveaxis(found.labels, longest, -1).reshape(-1, found.labels.shape[longest])
                flow.table.unite(wide, wide[:1], alike=True)
                flow.blocks.append(wide)


class _Walk:
    """One pass over the nodes."""

    def __init__(self, model: Model, facts: Facts, flow: Flow, *, checking: bool) -> None:
        self.model = model
        self.facts = facts
        self.flow = flow
        self.checking = checking
        self.taint = Taint(flow.table.freeze)
        self.derived: set[str] = set()
        self.readers = Counter(t.name for n in model.graph.nodes for t in n.inputs if t.name)

    def run(self) -> None:
        for tensor in self.model.graph.inputs:
            shape = self.facts.shape(tensor)
            if shape is not None:
                self.flow.tensors[tensor.name] = blank(shape, f"graph input '{tensor.name}'")
        for node in self.model.graph.nodes:
            self._step(node)
        for output in self.model.graph.outputs:
            self.taint.spend(output.name, f"graph output '{output.name}'")
        self.taint.settle(self.facts, self.flow.layout, self.flow.table.find)

    def _step(self, node: gs.Node) -> None:
        if node.inputs and all(not t.name or t.name in self.derived or self.is_constant(t) for t in node.inputs):
            self.derived.update(t.name for t in node.outputs)
        row = lookup(node, self.facts)
        rule = row.channels if row is not None else None
        captured = list(_captured(node))
        view = NodeView(self, node)
        if rule is None or captured or bodies(node):
            self._opaque(view, captured)
            outputs: Sequence[Layout | None] = ()
        else:
            outputs = rule.flow(view)
            view.freeze_values()
            self._shape_values(node, rule)
        for index, tensor in enumerate(node.outputs):
            if tensor.name:
                self._place(node, tensor, outputs[index] if index < len(outputs) else None)

    def _opaque(self, view: NodeView, captured: Sequence[gs.Tensor]) -> None:
        why = f"{node_label(view.node)}: graphopt does not know what it does to channels"
        for index, tensor in enumerate([*view.node.inputs, *captured]):
            own = index < len(view.node.inputs)
            layout = None if not tensor.name else self.operand(view.node, index) if own else self.layout(tensor)
            for found in layout.fields if layout is not None else ():
                view.freeze(found.labels, why if all(t is not tensor for t in captured) else f"read inside {node_label(view.node)}")
            self.taint.spend(tensor.name, why)

    def _shape_values(self, node: gs.Node, rule: ChannelRule) -> None:
        if self.checking:
            return
        if node.op == "Shape" and not node.domain:
            self.taint.read(node, self.layout(node.inputs[0]))
        else:
            self.taint.step(node, self.facts, rule.sizes)

    def _place(self, node: gs.Node, tensor: gs.Tensor, layout: Layout | None) -> None:
        """Note the layout of an output, if it agrees with what shape inference found."""
        if self.is_constant(tensor):
            return
        shape = self.facts.shape(tensor)
        if layout is not None and not _fits(layout, shape):
            why = f"{node_label(node)}: its channels do not agree with the shape of '{tensor.name}'"
            for found in layout.fields:
                self.freeze(node, found.labels, why)
            # What did not agree before any channel went has no labels, and says nothing about those that went.
            known = self.flow.memory.once.setdefault((node_key(node), f"unlike {tensor.name}"), int(not self.checking))
            if not known:
                self.flow.problems.append(Problem(node_key(node), why, self._labels_of(layout)))
            layout = None
        if layout is not None:
            self.flow.tensors[tensor.name] = sized(layout, shape)
        elif shape is not None:
            self.flow.tensors[tensor.name] = blank(shape, f"made by {node_label(node)}")

    def _labels_of(self, layout: Layout) -> Labels:
        parts = [f.labels.reshape(-1) for f in layout.fields]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)

    def layout(self, tensor: gs.Tensor) -> Layout | None:
        """The layout of a tensor; a constant gets its labels when it is read first."""
        found = self.flow.layout(tensor)
        if found is None and self.is_constant(tensor):
            found = self._constant_layout(tensor)
            if found is not None:
                self.flow.constants[tensor.name] = found
        return found

    def operand(self, node: gs.Node, index: int) -> Layout | None:
        """The layout of an input of a node; a vector that others read too has labels of its own here."""
        tensor = node.inputs[index]
        found = self.flow.uses.get((node_key(node), index))
        if found is None and self.readers[tensor.name] > 1 and tensor.name not in self.flow.constants and self._is_vector(tensor):
            found = self._constant_layout(tensor)
            if found is not None and not self.checking:
                self.flow.uses[node_key(node), index] = found
                self.flow.names[node_key(node), index] = tensor.name
        return self.layout(tensor) if found is None else found

    def _is_vector(self, tensor: gs.Tensor) -> bool:
        value = self.facts.value(tensor) if self.is_constant(tensor) else None
        return value is not None and 1 < value.size == max(value.shape)

    def is_constant(self, tensor: gs.Tensor) -> bool:
        """Whether a tensor's value is known."""
        return isinstance(tensor, gs.Constant) or self.facts.value(tensor) is not None

    def _constant_layout(self, tensor: gs.Tensor) -> Layout | None:
        if isinstance(tensor, gs.Constant):
            shape: Shape = tuple(tensor._values.shape)
            dtype: np.dtype[Any] = np.dtype(tensor._values.dtype)
        else:
            value = self.facts.value(tensor)
            if value is None:
                return None
            shape, dtype = value.shape, value.dtype
        if self.checking or dtype.kind in _NOT_CHANNELS or (dtype.kind in "iu" and dtype.itemsize == 8):
            return blank(shape, f"constant '{tensor.name}'")
        labels = [self.flow.table.fresh(n) if isinstance(n, int) and 1 < n <= LONGEST_AXIS else None for n in shape]
        return separate(labels, shape, f"constant '{tensor.name}'")

    def equate(self, node: gs.Node, a: Labels, b: Labels, why: str) -> None:
        if not self.checking:
            self.flow.table.unite(a, b)
            return
        first, second = self.flow.table.find(a), self.flow.table.find(b)
        try:
            first, second = np.broadcast_arrays(first, second)
        except ValueError:
            both = np.concatenate([a.reshape(-1), b.reshape(-1)])
            self.flow.problems.append(Problem(node_key(node), f"{why}: {a.shape} channels meet {b.shape}", np.unique(both)))
            return
        apart = first != second
        if apart.any():
            both = np.unique(np.concatenate([first[apart], second[apart]]))
            self.flow.problems.append(Problem(node_key(node), f"{why}: different channels meet", both))

    def alike(self, node: gs.Node, blocks: Labels, why: str) -> None:
        """The rows of ``blocks`` shrink alike: see ``View.alike``."""
        if self.checking:
            # Which of one block goes with which of another was settled before anything was removed.
            self.equate(node, blocks, blocks[:1], why)
            return
        self.flow.table.unite(blocks, blocks[:1], alike=True)
        self.flow.blocks.append(blocks)

    def freeze(self, node: gs.Node, labels: Labels, why: str) -> None:
        del node
        if not self.checking:
            self.flow.table.freeze(labels, why)


class NodeView:
    """The ``View`` of one node in one walk."""

    def __init__(self, walk: _Walk, node: gs.Node) -> None:
        self._walk = walk
        self._node = node
        self._read: set[int] = set()

    @property
    def node(self) -> gs.Node:
        return self._node

    @property
    def facts(self) -> Facts:
        return self._walk.facts

    def layout(self, index: int) -> Layout | None:
        if index >= len(self._node.inputs) or not self._node.inputs[index].name:
            return None
        self._read.add(index)
        return self._walk.operand(self._node, index)

    def value(self, index: int) -> NDArray[Any] | None:
        if index >= len(self._node.inputs) or not self._node.inputs[index].name:
            return None
        return self._walk.facts.value(self._node.inputs[index])

    def known(self, index: int) -> bool:
        tensor = self._node.inputs[index]
        return tensor.name in self._walk.derived or self._walk.is_constant(tensor)

    def shape(self, index: int) -> Shape | None:
        return self._walk.facts.shape(self._node.outputs[index]) if index < len(self._node.outputs) else None

    def equate(self, a: Labels, b: Labels, why: str) -> None:
        self._walk.equate(self._node, a, b, why)

    def alike(self, blocks: Labels, why: str) -> None:
        self._walk.alike(self._node, blocks, why)

    def freeze(self, labels: Labels, why: str) -> None:
        self._walk.freeze(self._node, labels, why)

    def fixed(self, count: int, tag: str, why: str) -> Labels:
        key = (node_key(self._node), tag)
        memory, table = self._walk.flow.memory.fixed, self._walk.flow.table
        if key not in memory or memory[key].size != count:
            made = table.fresh(count)
            if self._walk.checking:
                self._walk.flow.problems.append(Problem(key[0], f"{why}: {count} elements that it did not have", made))
                return made
            memory[key] = made
            table.freeze(made, why)
        return memory[key]

    def once(self, tag: str, make: Callable[[], int]) -> int:
        key = (node_key(self._node), tag)
        memory = self._walk.flow.memory.once
        if key not in memory:
            memory[key] = make()
        return memory[key]

    def mixes(self, mixer: Mixer) -> None:
        self._walk.flow.mixers.append(mixer)

    def multiplies(self, product: Product) -> None:
        self._walk.flow.products.append(product)

    def averages(self, average: Average) -> None:
        self._walk.flow.averages.append(average)

    @property
    def lossy(self) -> bool:
        return self._walk.flow.lossy

    @property
    def heads(self) -> bool:
        return self._walk.flow.heads

    def freeze_values(self) -> None:
        """A constant that the rule read by value, not by labels, keeps its size for its other readers too."""
        for index, tensor in enumerate(self._node.inputs):
            if index in self._read or not tensor.name or not self._walk.is_constant(tensor):
                continue
            layout = self._walk.operand(self._node, index)
            for found in layout.fields if layout is not None else ():
                self.freeze(found.labels, f"{node_label(self._node)} reads '{tensor.name}' by value")


def _fits(layout: Layout, shape: Shape | None) -> bool:
    if shape is None:
        return True
    if len(shape) != layout.rank:
        return False
    for axis, size in enumerate(shape):
        mine = layout.size(axis)
        if isinstance(size, int) and mine is not None and mine != size:
            return False
    return True


def _captured(node: gs.Node) -> Iterator[gs.Tensor]:
    """Tensors of the outer graph that the bodies of ``node`` read."""
    for body in bodies_within(node):
        inner = {t.name for n in body.nodes for t in n.outputs} | {t.name for t in body.inputs}
        for reader in body.nodes:
            yield from (t for t in reader.inputs if t.name and t.name not in inner)
        yield from (t for t in body.outputs if t.name and t.name not in inner)
