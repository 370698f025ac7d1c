"""``Model``: an ONNX model that can be read, edited and written without loss.

``Model.graph`` is the editing handle (``onnx_graphsurgeon.Graph``). The methods here are the edits that passes need, done by
identity and in constant time where possible; tensors keep unique names, so a tensor's name is its id, and a node's id is the
name of its first output.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike, NDArray

from graphopt.errors import ModelError
from graphopt.model import files, links, saving
from graphopt.model.bodies import bodies, bodies_within
from graphopt.model.copying import copy_graph
from graphopt.model.domains import STANDARD
from graphopt.model.ledger import Ledger
from graphopt.model.order import sort_nodes, sweep
from graphopt.model.reader import load
from graphopt.model.skeleton import Skeleton
from graphopt.model.source import Source
from graphopt.model.storage import Span
from graphopt.model.weights import Weights, array_of, sample_of
from graphopt.model.wire import MESSAGE_LIMIT
from graphopt.model.writer import Writer


def node_key(node: gs.Node) -> str:
    """The id of a node in its graph: the name of its first output that has one."""
    return next((t.name for t in node.outputs if t.name), "")


def node_label(node: gs.Node) -> str:
    """A node as a person would name it: ``Conv 'stem'`` or, without a name, ``Conv -> 'y'``."""
    return f"{node.op} '{node.name}'" if node.name else f"{node.op} -> '{node_key(node)}'"


class Model:
    """One ONNX model in memory.

    Attributes:
        graph: the graph to read and edit; call ``edited`` after editing its objects directly.
        label: the file's name, for messages.
        path: the file it was loaded from, None if from memory.
        version: grows with every edit; analyses are cached by it.
    """

    def __init__(self, graph: gs.Graph, ledger: Ledger, path: Path | None, label: str) -> None:
        self.graph = graph
        self.path = path
        self.label = label
        self.version = 0
        self._ledger = ledger
        self._names: set[str] | None = None
        self._tried: dict[str, int] = {}

    @classmethod
    def load(cls, source: Source, *, freeze_initializers: bool = False, inline_functions: bool = False) -> Model:
        """Read a model from a path, its bytes or a ModelProto. Large weights stay in the file, which stays open.

        Args:
            source: what to read. Bytes and protos must not be changed afterwards: they are not copied.
            freeze_initializers: make constants of inputs that have a default value (IR 4 and later); a caller can then no
                longer override them.
            inline_functions: replace calls of the model's local functions by their bodies.

        Raises:
            ModelError: GO001 to GO018, the model is damaged, or names what it must not.
        """
        graph, ledger, opened = load(source, freeze_initializers=freeze_initializers, inline_functions=inline_functions)
        return cls(graph, ledger, opened.path, opened.label)

    # -- reading ---------------------------------------------------------------------------------------------------------

    @property
    def opset(self) -> int:
        """The version of the default operator set."""
        return self.opset_of("") or 1

    def opset_of(self, domain: str) -> int | None:
        """The version of an operator set, None if the model does not import it. '' and 'ai.onnx' are the same. Of two imports the
        last one counts, as it does for onnxruntime.
        """
        wanted = STANDARD if domain in STANDARD else {domain}
        return next((o.version for o in reversed(self._ledger.shell.opset_import) if o.domain in wanted), None)

    @property
    def ir_version(self) -> int:
        """The version of the file format."""
        return self._ledger.shell.ir_version

    @property
    def metadata(self) -> dict[str, str]:
        """The model's metadata_props."""
        return {p.key: p.value for p in self._ledger.shell.metadata_props}

    @property
    def overridable(self) -> frozenset[str]:
        """Inputs that need not be fed: those with a default value."""
        return frozenset(self._ledger.graph(self.graph).defaults)

    @property
    def functions(self) -> Sequence[onnx.FunctionProto]:
        """The model's local functions."""
        return list(self._ledger.shell.functions)

    def value(self, tensor: gs.Tensor) -> NDArray[Any] | None:
        """The value of a constant (initializer or output of a Constant node), read-only; None for anything else."""
        if isinstance(tensor, gs.Constant):
            return array_of(tensor._values)
        producer = self.producer(tensor)
        if producer is not None and producer.op == "Constant" and producer.domain in STANDARD:
            return _constant_of(producer)
        return None

    def sample(self, constant: gs.Constant, count: int) -> bytes:
        """The bytes of ``count`` elements or a few more of an initializer, evenly spaced: enough to tell most apart."""
        return sample_of(constant._values, count)

    def producer(self, tensor: gs.Tensor) -> gs.Node | None:
        """The node that computes ``tensor``; None for inputs and initializers."""
        return tensor.inputs[0] if tensor.inputs else None

    def users(self, tensor: gs.Tensor) -> list[gs.Node]:
        """The nodes that read ``tensor``, each once; those inside subgraphs too."""
        found: dict[int, gs.Node] = {id(n): n for n in tensor.outputs}
        return list(found.values())

    def is_output(self, tensor: gs.Tensor) -> bool:
        """Whether ``tensor`` is an output of the graph."""
        return any(t is tensor for t in self.graph.outputs)

    # -- editing ---------------------------------------------------------------------------------------------------------

    def edited(self) -> None:
        """Tell that the graph was changed."""
        self.version += 1

    def fresh(self, hint: str) -> str:
        """A name that no tensor or node of the model has, made from ``hint``."""
        if self._names is None:
            self._names = _all_names(self.graph, self._ledger)
        name, count = hint or "tensor", self._tried.get(hint, 0)
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._tried[hint] = count
        self._names.add(name)
        return name

    def constant(self, hint: str, array: NDArray[Any]) -> gs.Constant:
        """A new initializer with a fresh name."""
        return gs.Constant(self.fresh(hint), np.asarray(array))

    def variable(self, hint: str, dtype: Any = None, shape: Sequence[int | str | None] | None = None) -> gs.Variable:
        """A new tensor with a fresh name, for a node to produce."""
        return gs.Variable(self.fresh(hint), dtype, None if shape is None else tuple(shape))

    def add(
        self,
        op: str,
        inputs: Sequence[gs.Tensor],
        outputs: Sequence[gs.Tensor],
        attrs: dict[str, Any] | None = None,
        *,
        name: str = "",
        domain: str = "",
        before: gs.Node | None = None,
    ) -> gs.Node:
        """A new node. Outputs that another node produced become this node's; it stands ``before`` another, or last."""
        node = self.make(op, inputs, outputs, attrs, name=name, domain=domain)
        if before is None:
            self.graph.nodes.append(node)
        else:
            self.graph.nodes.insert(_index(self.graph.nodes, before), node)
        return node

    def make(
        self,
        op: str,
        inputs: Sequence[gs.Tensor],
        outputs: Sequence[gs.Tensor],
        attrs: dict[str, Any] | None = None,
        *,
        name: str = "",
        domain: str = "",
    ) -> gs.Node:
        """As ``add``, but the node has no place in the graph yet: ``splice`` gives many nodes theirs in one pass."""
        node = gs.Node(op, name, dict(attrs or {}), domain=domain or None)
        links.set_inputs(node, inputs)
        links.set_outputs(node, outputs)
        self.edited()
        return node

    def splice(self, placed: dict[int, list[gs.Node]]) -> None:
        """Put new nodes in front of old ones: ``placed`` maps ``id(old node)`` to the nodes before it."""
        nodes: list[gs.Node] = []
        for node in self.graph.nodes:
            nodes.extend(placed.get(id(node), ()))
            nodes.append(node)
        self.graph.nodes[:] = nodes
        self.edited()

    def remove(self, node: gs.Node) -> None:
        """Detach a node from its tensors and take it out of the graph."""
        links.set_inputs(node, [])
        links.set_outputs(node, [])
        del self.graph.nodes[_index(self.graph.nodes, node)]
        self.edited()

    def set_input(self, node: gs.Node, index: int, tensor: gs.Tensor) -> None:
        """Let input ``index`` of ``node`` read ``tensor``."""
        links.set_input(node, index, tensor)
        self.edited()

    def replace_uses(self, old: gs.Tensor, new: gs.Tensor) -> None:
        """Every reader of ``old`` reads ``new`` instead, inside subgraphs too. Graph outputs stay as they are."""
        for node in self.users(old):
            for index, tensor in enumerate(node.inputs):
                if tensor is old:
                    links.set_input(node, index, new)
        for node in self.graph.nodes:
            for subgraph in bodies_within(node):
                subgraph.outputs = [new if t is old else t for t in subgraph.outputs]
        self.edited()

    def sweep(self) -> int:
        """Remove nodes that no output needs, and return how many."""
        count = sweep(self.graph)
        if count:
            self.edited()
        return count

    def drop_unused(self) -> list[str]:
        """Remove the initializers that nothing read when the model was loaded; their names are returned.

        (Those that lose their last reader later on are not written anyway.) What an annotation or training information names stays.
        """
        record = self._ledger.graph(self.graph)
        unread = {name for name, constant in record.kept.items() if not constant.outputs and not self.is_output(constant)}
        names = sorted(unread - record.named)
        for name in names:
            del record.kept[name]
        if names:
            self.edited()
        return names

    def repeated_names(self) -> list[gs.Node]:
        """The nodes whose name another node before them in the same graph has. Names mean nothing, but runtimes refuse these."""
        found: list[gs.Node] = []
        for graph in _graphs(self.graph):
            taken: set[str] = set()
            for node in graph.nodes:
                if node.name in taken:
                    found.append(node)
                if node.name:
                    taken.add(node.name)
        return found

    def separate_names(self) -> list[gs.Node]:
        """Give every node a name that no other in its graph has; those that got another one are returned. Nodes without a name stay
        so.
        """
        renamed = self.repeated_names()
        for node in renamed:
            node.name = self.fresh(node.name)
        if renamed:
            self.edited()
        return renamed

    def sort(self) -> None:
        """Put the nodes into topological order; nodes that are in order already stay where they are."""
        if sort_nodes(self.graph):
            self.edited()

    def set_opset(self, version: int) -> None:
        """Declare another version of the default operator set; the nodes must already be valid in it."""
        for entry in self._ledger.shell.opset_import:
            if entry.domain in STANDARD:
                entry.version = version
        self.graph.opset = version
        self.edited()

    def copy(self) -> Model:
        """An independent model; weight arrays are shared, so they must not be edited in place."""
        graph, ledger = copy_graph(self.graph, self._ledger)
        return Model(graph, ledger, self.path, self.label)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def proto(self) -> onnx.ModelProto:
        """The model as a new ModelProto, weights included. Raises ModelError GO014 above protobuf's 2 GiB."""
        if self.weight_bytes() > MESSAGE_LIMIT:
            raise ModelError("GO014", self.label, "does not fit into one proto of 2 GiB", "save it to a file instead")
        return Writer(self.graph, self._ledger, self.label).model()

    def skeleton(self, keep_bytes: int = 1024) -> onnx.ModelProto:
        """The model without its big weights: constants above ``keep_bytes`` are declared without values."""
        return Skeleton(self.graph, self._ledger, self.label, keep_bytes, self.opset).model()

    def interface(self) -> onnx.GraphProto:
        """The inputs and outputs of the main graph, described as a file would describe them."""
        return Writer(self.graph, self._ledger, self.label).interface()

    def constants(self) -> dict[str, gs.Constant]:
        """The initializers of the main graph, by name, in the order in which they are written."""
        return Writer(self.graph, self._ledger, self.label).constants()

    def count(self) -> int:
        """How many nodes there are, those in bodies of If, Loop and Scan included."""
        return sum(len(graph.nodes) for graph in _graphs(self.graph))

    def weight_bytes(self) -> int:
        """Bytes of all initializers of the main graph."""
        return sum(c._values.nbytes for c in self.constants().values())

    def size(self) -> int:
        """Bytes of the serialised model with all weights in it; nothing is read for that."""
        return saving.message(self.graph, self._ledger, self.label)[1]

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model, atomically.

        Weights that came as external data, or do not fit into one message of 2 GiB, go to one file ``NAME.<hash>.data`` beside it.

        Raises:
            UsageError: GO907, ``path`` exists (without ``force``) or is a file that the model reads; GO908, it can be no file.
            ModelError: GO014, too large; GO015, a file that the weights lie in was changed meanwhile.
        """
        target = Path(path)
        self.refuse_output(target, force=force)
        external = any(isinstance(c._values, Weights) and c._values.external for c in self.constants().values())
        saving.save(self.graph, self._ledger, self.label, target, external=external, force=force)

    def save_for_runtime(self, folder: Path, name: str = "model.onnx", *, known: dict[Span, tuple[str, int]] | None = None) -> Path:
        """Write the model as ``name`` into a scratch folder for a runtime to load, its large weights in a file to be mapped.

        Nothing is flushed to the disk, and existing files of that name are overwritten. ``known``, a dict that the caller keeps
        for the folder, lets models in it share the weights that none of them changed: they are written once.
        """
        return saving.save_for_runtime(self.graph, self._ledger, self.label, folder, name, known)

    def refuse_output(self, path: Path, *, force: bool) -> None:
        """UsageError GO907/GO908 if ``path`` is not to be written: an input, an existing file without ``force``, no file."""
        files.refuse_target(path, self.path, force)
        files.refuse_inputs(path, self._ledger.files.identities())


_TYPED_VALUES: dict[str, tuple[DTypeLike, tuple[type, ...]]] = {
    **dict.fromkeys(("value_float", "value_floats"), (np.float32, (float,))),
    **dict.fromkeys(("value_int", "value_ints"), (np.int64, (int,))),
    **dict.fromkeys(("value_string", "value_strings"), (object, (str, bytes))),
}


def _constant_of(node: gs.Node) -> NDArray[Any] | None:
    """The value of a Constant node (ONNX operator Constant: exactly one of these attributes)."""
    for name, value in node.attrs.items():
        if name == "value" and isinstance(value, gs.Constant):
            return array_of(value._values)
        if name in _TYPED_VALUES:
            dtype, kinds = _TYPED_VALUES[name]
            # A file may hold another type than the name of the attribute says.
            right = all(isinstance(one, kinds) for one in np.asarray(value, object).ravel())
            return np.asarray(value, dtype) if right else None
    return None


def _index(nodes: list[gs.Node], node: gs.Node) -> int:
    for index, other in enumerate(nodes):
        if other is node:
            return index
    raise ValueError(f"{node_label(node)} is not in the graph")


def _graphs(graph: gs.Graph) -> Iterator[gs.Graph]:
    """A graph, and the bodies of If, Loop and Scan in it."""
    yield graph
    for node in graph.nodes:
        for subgraph in bodies(node):
            yield from _graphs(subgraph)


def _all_names(graph: gs.Graph, ledger: Ledger) -> set[str]:
    """Every name in use, also those of values that nothing reads: they are written with the graph."""
    record = ledger.graph(graph)
    names = {t.name for t in [*graph.inputs, *graph.outputs]}
    names.update(record.initializers, record.sparse, (v.name for v in record.values))
    for node in graph.nodes:
        names.add(node.name)
        names.update(t.name for t in [*node.inputs, *node.outputs])
        for subgraph in bodies(node):
            names |= _all_names(subgraph, ledger)
    return names
