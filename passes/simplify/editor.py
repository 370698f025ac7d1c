"""The edits that simplification is made of, each in time proportional to the readers it moves.

A rewrite here has one of two forms: *every reader of this tensor reads that one instead*, or *this tensor has this value*. Nodes
are not taken out one by one, which would cost a search through the graph each time; they lose their readers, and one sweep at the
end of a round removes what nobody needs.

The names of graph outputs are part of the interface. A node that only passes its input on to a graph output disappears if the
producer of that input can write the output itself; otherwise it stays.
"""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model
from graphopt.model.bodies import bodies_within
from graphopt.model.domains import STANDARD
from graphopt.ops.facts import Facts, Shape, static

Array = NDArray[Any]

Raw = list[Any]
"""``Raw.append(node.inputs, t)`` changes one end of an edge. Graphsurgeon's own lists search for the other end, by comparing nodes
field by field; here both ends are set by hand."""

_WIDE = 64
"""Inputs from which the places of a node's inputs are listed rather than searched."""


class Editor:
    """One round of edits on ``model``.

    ``facts`` are those of the graph at the start of the round; they hold on, since every edit keeps the value of each tensor that
    survives. ``signed_zeros``: +0 and -0 are different values.
    """

    def __init__(self, model: Model, facts: Facts, *, signed_zeros: bool = False) -> None:
        self.model = model
        self.facts = facts
        self.signed_zeros = signed_zeros
        self.edits = 0
        self.opset = model.opset
        self._fixed = {id(t) for t in [*model.graph.outputs, *model.graph.inputs]}
        self._outputs = {id(t) for t in model.graph.outputs}
        self._functions = {(f.domain, f.name) for f in model.functions}
        self._yielded: dict[int, list[gs.Graph]] = {}
        self._inner: set[str] = set()
        self._wide: dict[int, dict[int, list[int]]] = {}
        for node in model.graph.nodes:
            for subgraph in bodies_within(node):
                for tensor in subgraph.outputs:
                    self._yielded.setdefault(id(tensor), []).append(subgraph)
                for inner in subgraph.nodes:
                    self._inner.update(t.name for t in [*inner.inputs, *inner.outputs])
                self._inner.update(t.name for t in subgraph.inputs)

    # -- asking ----------------------------------------------------------------------------------------------------------

    def standard(self, node: gs.Node) -> bool:
        """Whether the node is an operator of ONNX itself, not a custom one nor a function of the model with the same name."""
        return node.domain in STANDARD and ("", node.op) not in self._functions

    def input(self, node: gs.Node, index: int) -> gs.Tensor | None:
        """Input ``index``; None if it is left out."""
        return node.inputs[index] if index < len(node.inputs) and node.inputs[index].name else None

    def producer(self, tensor: gs.Tensor, *ops: str) -> gs.Node | None:
        """The standard node of one of the types ``ops`` whose first output is ``tensor``."""
        node = self.model.producer(tensor)
        if node is None or node.op not in ops or not self.standard(node) or node.outputs[0] is not tensor:
            return None
        return node

    def constant(self, tensor: gs.Tensor | None) -> Array | None:
        """The value of a constant tensor."""
        return None if tensor is None else self.model.value(tensor)

    def dims(self, tensor: gs.Tensor) -> Shape | None:
        """The shape as far as it is known."""
        return self.facts.shape(tensor)

    def shape(self, tensor: gs.Tensor) -> tuple[int, ...] | None:
        """The shape if every dimension is a known number."""
        return static(self.facts.shape(tensor))

    def is_output(self, tensor: gs.Tensor) -> bool:
        """Whether the graph gives the tensor to its caller."""
        return id(tensor) in self._outputs

    def is_read(self, tensor: gs.Tensor) -> bool:
        """Whether a node, a subgraph or the caller of the graph needs the tensor."""
        return bool(tensor.outputs) or id(tensor) in self._outputs or id(tensor) in self._yielded

    def yielded(self, tensor: gs.Tensor) -> bool:
        """Whether the body of an If, Loop or Scan hands the tensor on as its result without a node of its own."""
        return id(tensor) in self._yielded

    # -- editing ---------------------------------------------------------------------------------------------------------

    def redirect(self, old: gs.Tensor, new: gs.Tensor) -> None:
        """Every reader of ``old`` reads ``new``, inside subgraphs too; the graph's own outputs stay what they are."""
        readers: dict[int, tuple[gs.Node, int]] = {}
        for node in old.outputs:
            readers[id(node)] = node, readers.get(id(node), (node, 0))[1] + 1
        Raw.clear(old.outputs)
        for node, count in readers.values():
            for index in self._places(node, old, count):
                Raw.__setitem__(node.inputs, index, new)
                Raw.append(new.outputs, node)
                if id(node) in self._wide:
                    self._wide[id(node)].setdefault(id(new), []).append(index)
        for subgraph in self._yielded.pop(id(old), []):
            subgraph.outputs = [new if t is old else t for t in subgraph.outputs]
            self._yielded.setdefault(id(new), []).append(subgraph)
        self.edits += 1

    def _places(self, node: gs.Node, tensor: gs.Tensor, count: int) -> list[int]:
        """At which inputs ``node`` reads ``tensor``, which it does ``count`` times.

        A wide node (a Concat of thousands, each of which may be redirected) is not searched each time: its places are listed once.
        Other edits may have made a list stale; then it names fewer places than there are, and is made anew.
        """
        if len(node.inputs) < _WIDE:
            return [i for i, t in enumerate(node.inputs) if t is tensor]
        places = [i for i in self._wide.get(id(node), {}).get(id(tensor), ()) if node.inputs[i] is tensor]
        if len(places) != count:
            listed = self._wide[id(node)] = {}
            for index, other in enumerate(node.inputs):
                listed.setdefault(id(other), []).append(index)
            places = listed.get(id(tensor), [])
        return list(places)

    def detach(self, node: gs.Node) -> None:
        """The node reads nothing any more: it is about to be swept away."""
        for tensor in node.inputs:
            # From the end, where it is when nodes are detached last first.
            for index in reversed(range(len(tensor.outputs))):
                if tensor.outputs[index] is node:
                    Raw.pop(tensor.outputs, index)
                    break
        Raw.clear(node.inputs)
        self.edits += 1

    def set_input(self, node: gs.Node, index: int, tensor: gs.Tensor) -> None:
        """Let one input of a node read another tensor."""
        self.model.set_input(node, index, tensor)
        self.edits += 1

    def bypass(self, node: gs.Node, source: gs.Tensor) -> str:
        """The first output of ``node`` is ``source``: do without the node. Returns why not, or an empty string when done."""
        out = node.outputs[0]
        if id(out) not in self._outputs:
            self.redirect(out, source)
            return ""
        producer = self.model.producer(source)
        if producer is None:
            return "a graph output cannot be a graph input or an initializer itself"
        if id(source) in self._fixed:
            return "its input is a graph output too, and both names must stay"
        if out.name in self._inner and not out.outputs:
            # Made earlier, the output would be seen by bodies that stand before it now, and hidden by what they call the same.
            return "the body of another operator uses the name of the output for something of its own"
        self.redirect(source, out)
        # The node now reads what it writes: cut it loose, then let the producer write it.
        self.detach(node)
        for tensor in node.outputs:
            Raw.clear(tensor.inputs)
        Raw.clear(node.outputs)
        self.take_over(source, out)
        return ""

    def take_over(self, old: gs.Tensor, new: gs.Tensor) -> None:
        """The node that made ``old`` makes ``new`` instead, which nobody makes; readers follow."""
        producer = old.inputs[0]
        if old.outputs or id(old) in self._yielded:
            self.redirect(old, new)
        index = next(i for i, t in enumerate(producer.outputs) if t is old)
        Raw.__setitem__(producer.outputs, index, new)
        Raw.clear(old.inputs)
        Raw.append(new.inputs, producer)
        self.edits += 1

    def settle(self, tensor: gs.Tensor, value: Array) -> gs.Constant | None:
        """``tensor`` is the constant ``value``: who reads it reads a new initializer; a graph output becomes a copy of that.

        Returns the initializer; None where nobody reads the tensor or it is as simple already (Constant or Identity of a constant).
        """
        producer = self.model.producer(tensor)
        copied = self.is_output(tensor) and producer is not None and not self._is_copy(producer)
        if not (tensor.outputs or id(tensor) in self._yielded or copied):
            return None
        constant = self.model.constant(tensor.name, value)
        self.redirect(tensor, constant)
        if copied:
            self.model.add("Identity", [constant], [tensor], before=producer)
        return constant

    def _is_copy(self, node: gs.Node) -> bool:
        return node.op == "Constant" or (node.op == "Identity" and self.model.value(node.inputs[0]) is not None)
