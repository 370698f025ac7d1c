"""ModelProto -> gs.Graph and ledger.

One ``gs.Variable`` or ``gs.Constant`` a name and graph; a subgraph (the body of If, Loop, Scan) that reads an outer name reads
the outer tensor object, so an outer tensor's consumers include nodes of subgraphs. Initializers become constants, except those that
a caller may override (IR 4 and later: also listed as inputs); below IR 4 the format demanded the listing, and runtimes treat
them as constants.

Refused with a ModelError: what is not a model, names produced twice, names read but never produced, cycles, names that are no text.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx_graphsurgeon as gs

from graphopt.errors import ModelError
from graphopt.guard.garbage import keeping
from graphopt.model import links
from graphopt.model.attributes import decode
from graphopt.model.domains import STANDARD
from graphopt.model.functions import check_functions, inline
from graphopt.model.ledger import Files, GraphRecord, Ledger
from graphopt.model.order import needed_by
from graphopt.model.protos import copy_except
from graphopt.model.source import DEEPEST, Opened, open_source, open_whole, too_deep
from graphopt.model.storage import DataFile
from graphopt.model.weights import Origin, Weights, numpy_dtype

_LAST_OPSET = 2**31 - 1
"""What native code can take for the version of an operator set."""

_PARTS = ("node", "input", "output", "value_info", "initializer", "sparse_initializer")
"""What a GraphProto is made of; the rest of it is the record's shell."""


@keeping()
def load(source: Any, *, freeze_initializers: bool, inline_functions: bool) -> tuple[gs.Graph, Ledger, Opened]:
    """Open and read a model; see ``Model.load``."""
    opened = open_source(source)
    graph, ledger = _read(opened, freeze_initializers, inline_functions)
    if not opened.marks.all_taken():
        # Some payload lies where the graph has no tensor (an attribute of another declared type, say).
        opened = open_whole(opened)
        graph, ledger = _read(opened, freeze_initializers, inline_functions)
    return graph, ledger, opened


def _read(opened: Opened, freeze: bool, inlined: bool) -> tuple[gs.Graph, Ledger]:
    """Build the editing handle and the ledger of everything it cannot hold. The proto is not changed; weights are shared."""
    proto, label = opened.proto, opened.label
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError("GO002", label, "holds no graph", "graphopt reads ONNX models (.onnx)")
    if not proto.opset_import:
        raise ModelError("GO006", label, "names no opset", "export it again: opset_import is missing")
    imports = [*proto.opset_import, *(entry for function in proto.functions for entry in function.opset_import)]
    for entry in (entry for entry in imports if entry.domain in STANDARD):
        if not 1 <= entry.version <= _LAST_OPSET:
            raise ModelError("GO006", label, f"names version {entry.version} of the operator set, which is none", "export it again")
    if proto.ir_version < 0:
        raise ModelError("GO019", label, f"says that it is of IR version {proto.ir_version}", "export it again")
    check_functions(proto, label)
    if inlined:
        proto = inline(proto, label)
    shell = onnx.ModelProto()
    copy_except(shell, proto, ("graph",))
    folder = opened.folder
    own = opened.file if isinstance(opened.file, DataFile) else None
    reader = _Reader(Ledger(shell, Files(own, folder)), Origin(label, folder, opened.marks), proto.ir_version >= 4, freeze)
    graph = reader.graph(proto.graph, None)
    graph.opset = next((o.version for o in reversed(proto.opset_import) if o.domain in STANDARD), 1)
    graph.ir_version = proto.ir_version
    graph.import_domains = proto.opset_import
    return graph, reader.ledger


class _Scope:
    """The names that a graph sees: its own, then those of the graphs around it."""

    def __init__(self, outer: _Scope | None) -> None:
        self.outer = outer
        self.depth: int = 1 if outer is None else outer.depth + 1
        self.own: dict[str, gs.Tensor] = {}

    def find(self, name: str) -> gs.Tensor | None:
        scope: _Scope | None = self
        while scope is not None:
            tensor = scope.own.get(name)
            if tensor is not None:
                return tensor
            scope = scope.outer
        return None


class _Reader:
    """Reads the graphs of one model, outermost first."""

    def __init__(self, ledger: Ledger, origin: Origin, overridable: bool, freeze: bool) -> None:
        self.ledger = ledger
        self.origin = origin
        self.label = origin.label
        self.overridable = overridable
        self.freeze = freeze
        self.standard = any(o.domain in STANDARD for o in ledger.shell.opset_import)

    def graph(self, proto: onnx.GraphProto, outer: _Scope | None) -> gs.Graph:
        self._text(proto.name)
        graph = gs.Graph(name=proto.name)  # its documentation is in the record
        scope = _Scope(outer)
        if scope.depth > DEEPEST:
            raise too_deep(self.label)
        record = self._record(graph, proto, scope)
        self._local(proto, record, scope.own)
        own = scope.own
        graph.inputs = [own[i.name] for i in record.inputs if isinstance(own[i.name], gs.Variable)]
        graph.nodes.extend([self._node(node, scope) for node in proto.node])
        graph.outputs = [self._output(output.name, scope) for output in proto.output]
        read = {id(t) for t in graph.outputs}
        record.named = _named(record.shell, self.ledger.shell if outer is None else onnx.ModelProto())
        for name in record.initializers + record.sparse:
            tensor = scope.find(name)
            unread = isinstance(tensor, gs.Constant) and not tensor.outputs and id(tensor) not in read
            if isinstance(tensor, gs.Constant) and (unread or name in record.named):
                record.kept[name] = tensor
        for value in [*record.values, *record.outputs, *record.inputs]:
            if value.name in own:
                record.described[id(own[value.name])] = (own[value.name], value)
            else:
                record.strays.add(value.name)
        _refuse_cycles(graph, self.label)
        return graph

    def _output(self, name: str, scope: _Scope) -> gs.Tensor:
        tensor = scope.find(name)
        if tensor is None:
            raise ModelError("GO005", self.label, f"graph output '{name}' is produced by no node")
        return tensor

    def _record(self, graph: gs.Graph, proto: onnx.GraphProto, scope: _Scope) -> GraphRecord:
        shell = onnx.GraphProto()
        copy_except(shell, proto, _PARTS)
        record = GraphRecord(graph, shell, list(proto.input), list(proto.output), list(proto.value_info))
        for value in (*record.inputs, *record.outputs, *record.values):
            self._text(value.name)
        if self.freeze and self.overridable and scope.outer is None:
            weights = {t.name for t in proto.initializer} | {t.values.name for t in proto.sparse_initializer}
            record.inputs = [value for value in record.inputs if value.name not in weights]
        self.ledger.graphs[id(graph)] = record
        return record

    def _text(self, *names: str | bytes) -> None:
        """Protobuf hands out as bytes what is no UTF-8."""
        for name in names:
            if isinstance(name, bytes):
                raise ModelError("GO008", self.label, f"holds a name that is not UTF-8: {name[:60]!r}", "export the model again")

    def _local(self, proto: onnx.GraphProto, record: GraphRecord, local: dict[str, gs.Tensor]) -> None:
        """The names that this graph defines: initializers, inputs, outputs of nodes. Each exactly once."""
        known = {v.name: v for v in [*record.values, *record.outputs, *record.inputs]}
        listed = {i.name for i in record.inputs}
        initializers: list[tuple[str, onnx.TensorProto | onnx.SparseTensorProto, list[str]]] = [
            *((t.name, t, record.initializers) for t in proto.initializer),
            *((s.values.name, s, record.sparse) for s in proto.sparse_initializer),
        ]
        for name, tensor, order in initializers:
            self._text(name)
            if name in local or name in record.defaults:
                raise ModelError("GO004", self.label, f"two initializers are named '{name}'")
            order.append(name)
            if name in listed and self.overridable and isinstance(tensor, onnx.TensorProto):
                record.defaults[name] = gs.Constant(name, Weights(tensor, self.origin))
            else:
                local[name] = gs.Constant(name, Weights(tensor, self.origin))
        for value in record.inputs:
            if value.name not in local:
                local[value.name] = self._variable(value.name, value)
            elif isinstance(local[value.name], gs.Variable):
                raise ModelError("GO004", self.label, f"two graph inputs are named '{value.name}'")
        for node in proto.node:
            for name in filter(None, node.output):
                if name in local:
                    raise ModelError("GO004", self.label, f"'{name}' is produced twice ({node.op_type} '{node.name}')")
                local[name] = self._variable(name, known.get(name))

    def _variable(self, name: str, value: onnx.ValueInfoProto | None) -> gs.Variable:
        if value is None or value.type.WhichOneof("value") != "tensor_type":
            return gs.Variable(name)
        kind = value.type.tensor_type
        dtype = numpy_dtype(kind.elem_type, f"{self.label}: '{name}'") if kind.elem_type else None
        shape = dimensions(kind)
        self._text(*(d for d in shape or () if isinstance(d, (str, bytes))))
        return gs.Variable(name, dtype, shape)

    def _node(self, proto: onnx.NodeProto, scope: _Scope) -> gs.Node:
        self._text(proto.op_type, proto.name, proto.domain, proto.overload, *proto.input, *proto.output)
        if not self.standard and proto.domain in STANDARD:
            raise ModelError("GO006", self._where(proto), "the model names no version of the operator set", "export it again")
        inputs = [self._input(name, proto, scope) for name in proto.input]
        attrs: dict[str, Any] = {}
        for attribute in proto.attribute:
            self._text(attribute.name)
            if attribute.name in attrs:
                raise ModelError("GO007", self._where(proto), f"has two attributes named '{attribute.name}'")
            attrs[attribute.name] = decode(attribute, self.origin, lambda g: self.graph(g, scope))
        node = gs.Node(proto.op_type, proto.name, attrs, domain=proto.domain or None)
        for tensor in inputs:
            links.read_by(tensor, node)
        for name in proto.output:
            links.made_by(scope.own[name] if name else gs.Variable(""), node)
        self.ledger.nodes[id(node)] = (node, proto)
        return node

    def _input(self, name: str, proto: onnx.NodeProto, scope: _Scope) -> gs.Tensor:
        tensor = scope.find(name) if name else gs.Variable("")
        if tensor is None:
            raise ModelError("GO005", self._where(proto), f"reads '{name}', which nothing produces")
        return tensor

    def _where(self, proto: onnx.NodeProto) -> str:
        return f"{self.label}: {proto.op_type} '{proto.name or next(iter(proto.output), '')}'"


def _named(graph: onnx.GraphProto, model: onnx.ModelProto) -> frozenset[str]:
    """Names of initializers that something else than a node refers to (ONNX IR specification): quantization annotations, whose
    parameters are initializers, and the bindings of training information.
    """
    annotated = (entry.value for note in graph.quantization_annotation for entry in note.quant_parameter_tensor_names)
    bound = (e.key for info in model.training_info for e in (*info.initialization_binding, *info.update_binding))
    return frozenset((*annotated, *bound))


def dimensions(kind: onnx.TypeProto.Tensor) -> tuple[int | str | None, ...] | None:
    """A tensor type's shape: numbers, names of symbolic dimensions, None for unknown ones; None where the rank is unknown."""
    if not kind.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else (d.dim_param or None) if d.HasField("dim_param") else None
        for d in kind.shape.dim
    )


def _refuse_cycles(graph: gs.Graph, label: str) -> None:
    """Kahn's algorithm, captures of subgraphs included; what is left over lies on or behind a cycle."""
    made_by = {id(t): i for i, n in enumerate(graph.nodes) for t in n.outputs if t.name}
    readers: list[list[int]] = [[] for _ in graph.nodes]
    waiting: list[int] = []
    for i, node in enumerate(graph.nodes):
        needs = {made_by[id(t)] for t in needed_by(node) if id(t) in made_by}
        waiting.append(len(needs))
        for j in needs:
            readers[j].append(i)
    ready = [i for i, count in enumerate(waiting) if count == 0]
    done = 0
    while ready:
        done += 1
        for i in readers[ready.pop()]:
            waiting[i] -= 1
            if waiting[i] == 0:
                ready.append(i)
    if done < len(waiting):
        stuck = [n.name or n.op for n, count in zip(graph.nodes, waiting, strict=True) if count > 0]
        more = " ..." if len(stuck) > 4 else ""
        raise ModelError("GO003", label, f"the graph has a cycle through {', '.join(stuck[:4])}{more}")
