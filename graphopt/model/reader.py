"""ModelProto -> gs.Graph and ledger.

One ``gs.Variable`` or ``gs.Constant`` a name and graph; a subgraph (the body of If, Loop, Scan) that reads an outer name reads
the outer tensor object, so an outer tensor's consumers include nodes of subgraphs. Initializers become constants, except those that
a caller may override (IR 4 and later: also listed as inputs); below IR 4 the format demanded the listing, and runtimes treat
them as constants.

Refused with a ModelError: what is not a model, names produced twice, names read but never produced, cycles.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError

from graphopt.errors import ModelError
from graphopt.model import links
from graphopt.model.attributes import decode
from graphopt.model.ledger import GraphRecord, Ledger
from graphopt.model.weights import Weights, numpy_dtype

Source = str | os.PathLike[str] | bytes | onnx.ModelProto

_NOT_A_MODEL = "graphopt reads ONNX models (.onnx)"


def read_proto(source: Source) -> tuple[onnx.ModelProto, Path | None, str]:
    """The proto, the file it came from (None if from memory) and a label for messages."""
    if isinstance(source, onnx.ModelProto):
        return source, None, "<memory>"
    if isinstance(source, bytes):
        return _parse(source, "<memory>"), None, "<memory>"
    path = Path(source)
    if not path.exists():
        raise ModelError("GO001", str(path), "no such file", "check the path of the model")
    if path.is_dir():
        raise ModelError("GO001", str(path), "is a folder, not a model", "name the .onnx file in it")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError("GO001", str(path), f"cannot be read: {error.strerror}") from None
    return _parse(raw, str(path)), path, path.name


def _parse(raw: bytes, label: str) -> onnx.ModelProto:
    if not raw:
        raise ModelError("GO002", label, "the file is empty", _NOT_A_MODEL)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(raw)
    except (DecodeError, RecursionError, ValueError):
        raise ModelError("GO002", label, "not an ONNX model, or a damaged one", _NOT_A_MODEL) from None
    return proto


def read(proto: onnx.ModelProto, folder: Path | None, label: str) -> tuple[gs.Graph, Ledger]:
    """Build the editing handle and the ledger of everything it cannot hold. The proto is not changed; weights are shared."""
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError("GO002", label, "holds no graph", _NOT_A_MODEL)
    if not proto.opset_import:
        raise ModelError("GO006", label, "names no opset", "export it again: opset_import is missing")
    shell = onnx.ModelProto()
    for field, value in proto.ListFields():
        if field.name != "graph":
            _copy_field(shell, field.name, value)
    reader = _Reader(Ledger(shell), folder, label, overridable=proto.ir_version >= 4)
    graph = reader.graph(proto.graph, {})
    graph.opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    graph.ir_version = proto.ir_version
    graph.import_domains = proto.opset_import
    return graph, reader.ledger


def _copy_field(target: Any, name: str, value: Any) -> None:
    """Set a proto's field from another proto of the same type, whatever its kind."""
    if isinstance(value, (str, bytes, int, float)):
        setattr(target, name, value)
    elif hasattr(value, "CopyFrom"):
        getattr(target, name).CopyFrom(value)
    else:
        getattr(target, name).extend(value)


class _Reader:
    """Reads the graphs of one model, outermost first."""

    def __init__(self, ledger: Ledger, folder: Path | None, label: str, overridable: bool) -> None:
        self.ledger = ledger
        self.folder = folder
        self.label = label
        self.overridable = overridable

    def graph(self, proto: onnx.GraphProto, outer: dict[str, gs.Tensor]) -> gs.Graph:
        graph = gs.Graph(name=proto.name, doc_string=proto.doc_string)
        record = self._record(graph, proto)
        scope = {**outer, **self._local(proto, record)}
        graph.inputs = [scope[i.name] for i in proto.input if isinstance(scope[i.name], gs.Variable)]
        for node in proto.node:
            graph.nodes.append(self._node(node, scope))
        for output in proto.output:
            if output.name not in scope:
                raise ModelError("GO005", self.label, f"graph output '{output.name}' is produced by no node")
        graph.outputs = [scope[o.name] for o in proto.output]
        read = {id(t) for t in graph.outputs}
        for name in record.initializers + record.sparse:
            tensor = scope[name]
            if isinstance(tensor, gs.Constant) and not tensor.outputs and id(tensor) not in read:
                record.unused[name] = tensor
        record.strays = {v.name for v in proto.value_info} - {*scope} | {v.name for v in proto.value_info if v.name in outer}
        if not outer:
            _refuse_cycles(graph, self.label)
        return graph

    def _record(self, graph: gs.Graph, proto: onnx.GraphProto) -> GraphRecord:
        shell = onnx.GraphProto()
        for field, value in proto.ListFields():
            if field.name not in ("node", "input", "output", "value_info", "initializer", "sparse_initializer"):
                _copy_field(shell, field.name, value)
        record = GraphRecord(graph, shell, list(proto.input), list(proto.output), list(proto.value_info))
        self.ledger.graphs[id(graph)] = record
        return record

    def _local(self, proto: onnx.GraphProto, record: GraphRecord) -> dict[str, gs.Tensor]:
        """The names that this graph defines: initializers, inputs, outputs of nodes. Each exactly once."""
        known = {v.name: v for v in [*proto.value_info, *proto.output, *proto.input]}
        listed = {i.name for i in proto.input}
        local: dict[str, gs.Tensor] = {}
        initializers: list[tuple[str, onnx.TensorProto | onnx.SparseTensorProto, list[str]]] = [
            *((t.name, t, record.initializers) for t in proto.initializer),
            *((s.values.name, s, record.sparse) for s in proto.sparse_initializer),
        ]
        for name, tensor, order in initializers:
            if name in local or name in record.defaults:
                raise ModelError("GO004", self.label, f"two initializers are named '{name}'")
            order.append(name)
            if name in listed and self.overridable and isinstance(tensor, onnx.TensorProto):
                record.defaults[name] = tensor
            else:
                local[name] = gs.Constant(name, Weights(tensor, self.folder, self.label))
        for value in proto.input:
            if value.name not in local:
                local[value.name] = self._variable(value.name, value)
            elif isinstance(local[value.name], gs.Variable):
                raise ModelError("GO004", self.label, f"two graph inputs are named '{value.name}'")
        for node in proto.node:
            for name in filter(None, node.output):
                if name in local:
                    raise ModelError("GO004", self.label, f"'{name}' is produced twice ({node.op_type} '{node.name}')")
                local[name] = self._variable(name, known.get(name))
        return local

    def _variable(self, name: str, value: onnx.ValueInfoProto | None) -> gs.Variable:
        if value is None or value.type.WhichOneof("value") != "tensor_type":
            return gs.Variable(name)
        kind = value.type.tensor_type
        dtype = numpy_dtype(kind.elem_type, f"{self.label}: '{name}'") if kind.elem_type else None
        return gs.Variable(name, dtype, dimensions(kind))

    def _node(self, proto: onnx.NodeProto, scope: dict[str, gs.Tensor]) -> gs.Node:
        where = f"{self.label}: {proto.op_type} '{proto.name or next(iter(proto.output), '')}'"
        missing = next((name for name in proto.input if name and name not in scope), None)
        if missing is not None:
            raise ModelError("GO005", where, f"reads '{missing}', which nothing produces")
        attrs: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.name in attrs:
                raise ModelError("GO007", where, f"has two attributes named '{attribute.name}'")
            attrs[attribute.name] = decode(attribute, self.folder, self.label, lambda g: self.graph(g, scope))
        node = gs.Node(proto.op_type, proto.name, attrs, domain=proto.domain or None)
        for name in proto.input:
            links.read_by(scope[name] if name else gs.Variable(""), node)
        for name in proto.output:
            links.made_by(scope[name] if name else gs.Variable(""), node)
        self.ledger.nodes[id(node)] = (node, proto)
        return node


def dimensions(kind: onnx.TypeProto.Tensor) -> tuple[int | str | None, ...] | None:
    """A tensor type's shape: numbers, names of symbolic dimensions, None for unknown ones; None where the rank is unknown."""
    if not kind.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else (d.dim_param or None) if d.HasField("dim_param") else None
        for d in kind.shape.dim
    )


def _refuse_cycles(graph: gs.Graph, label: str) -> None:
    """Kahn's algorithm; what is left over lies on or behind a cycle."""
    waiting = {id(n): sum(1 for t in n.inputs if t.inputs) for n in graph.nodes}
    ready = [n for n in graph.nodes if waiting[id(n)] == 0]
    done = 0
    while ready:
        node = ready.pop()
        done += 1
        for tensor in node.outputs:
            for reader in tensor.outputs:
                if id(reader) in waiting:
                    waiting[id(reader)] -= 1
                    if waiting[id(reader)] == 0:
                        ready.append(reader)
    if done < len(graph.nodes):
        stuck = [n.name or n.op for n in graph.nodes if waiting[id(n)] > 0]
        more = " ..." if len(stuck) > 4 else ""
        raise ModelError("GO003", label, f"the graph has a cycle through {', '.join(stuck[:4])}{more}")
