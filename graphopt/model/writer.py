"""gs.Graph and ledger -> ModelProto.

Whatever is unchanged leaves as the very proto it came as; what a pass made is written anew. The order of nodes is the graph's,
the order of initializers the file's with new ones behind in the order of first use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphopt.model.attributes import encode, tensor_of
from graphopt.model.ledger import GraphRecord, Ledger
from graphopt.model.reader import dimensions
from graphopt.model.weights import Weights

_IR_WITHOUT_LISTING = 4
"""Before this version of the format every initializer had to be listed as an input too."""


class Writer:
    """Serialises one model.

    ``keep_bytes``: initializers larger than this become inputs without values (a skeleton). ``without``: initializers that
    are left out altogether, because their bytes go elsewhere.
    """

    def __init__(
        self,
        graph: gs.Graph,
        ledger: Ledger,
        label: str,
        keep_bytes: int | None = None,
        without: frozenset[str] = frozenset(),
    ) -> None:
        self._without = without
        self._graph = graph
        self._ledger = ledger
        self._label = label
        self._keep = keep_bytes

    def model(self) -> onnx.ModelProto:
        proto = onnx.ModelProto()
        proto.CopyFrom(self._ledger.shell)
        self._fill(proto.graph, self._graph)
        return proto

    def constants(self) -> dict[str, gs.Constant]:
        """The initializers of the main graph in the order of writing."""
        return dict(self._constants(self._graph, self._ledger.graph(self._graph)))

    def _fill(self, proto: onnx.GraphProto, graph: gs.Graph) -> None:
        record = self._ledger.graph(graph)
        proto.CopyFrom(record.shell)
        constants = dict(self._constants(graph, record))
        for node in graph.nodes:
            self._node(proto.node.add(), node)
        self._weights(proto, constants, record)
        self._values(proto, graph, record, constants)

    def _subgraph(self, graph: gs.Graph) -> onnx.GraphProto:
        proto = onnx.GraphProto()
        self._fill(proto, graph)
        return proto

    def _node(self, proto: onnx.NodeProto, node: gs.Node) -> None:
        origin = self._ledger.origin(node)
        if origin is not None:
            for field in ("doc_string", "overload"):
                if origin.HasField(field):
                    setattr(proto, field, getattr(origin, field))
            proto.metadata_props.extend(origin.metadata_props)
            proto.device_configurations.extend(origin.device_configurations)
        proto.op_type = node.op
        for field, text in (("name", node.name), ("domain", node.domain or "")):
            if text or (origin is not None and origin.HasField(field)):
                setattr(proto, field, text)
        proto.input.extend(t.name for t in node.inputs)
        proto.output.extend(t.name for t in node.outputs)
        before = {a.name: a for a in origin.attribute} if origin is not None else {}
        for name, value in node.attrs.items():
            where = f"{self._label}: {node.op} '{node.name}'"
            proto.attribute.append(encode(name, value, before.get(name), self._subgraph, where))

    def _constants(self, graph: gs.Graph, record: GraphRecord) -> Iterator[tuple[str, gs.Constant]]:
        """The initializers of this graph, in order: as they came, then new ones as they are first read."""
        read: dict[str, gs.Constant] = {}
        inner: set[str] = set()
        for node in graph.nodes:
            for tensor in _read_by(node):
                if isinstance(tensor, gs.Constant) and tensor.name:
                    read.setdefault(tensor.name, tensor)
            for subgraph in node.subgraphs(recursive=True):
                own = self._ledger.graph(subgraph)
                inner.update(own.initializers, own.sparse)
        for tensor in graph.outputs:
            if isinstance(tensor, gs.Constant):
                read.setdefault(tensor.name, tensor)
        known = dict.fromkeys([*record.initializers, *record.sparse])
        for name in known:
            constant = read.get(name) or record.unused.get(name)
            if constant is not None:
                yield name, constant
        outer = self._outer_names(graph)
        for name, constant in read.items():
            if name not in known and name not in inner and name not in outer:
                yield name, constant

    def _outer_names(self, graph: gs.Graph) -> set[str]:
        """Constants that a subgraph reads belong to the outermost graph unless they came with the subgraph."""
        if graph is self._graph:
            return set()
        record = self._ledger.graph(graph)
        own = {*record.initializers, *record.sparse}
        return {t.name for n in graph.nodes for t in _read_by(n) if isinstance(t, gs.Constant) and t.name not in own}

    def _weights(self, proto: onnx.GraphProto, constants: dict[str, gs.Constant], record: GraphRecord) -> None:
        known = dict.fromkeys(record.initializers)
        names = [n for n in known if n in constants or n in record.defaults]
        for name in [*names, *(n for n in constants if n not in known)]:
            if name in record.defaults and name not in constants:
                proto.initializer.append(record.defaults[name])
                continue
            if name in self._without:
                continue
            constant = constants[name]
            values = constant._values
            if isinstance(values, Weights) and isinstance(values.proto, onnx.SparseTensorProto):
                proto.sparse_initializer.append(values.proto)
            elif self._keep is None or values.nbytes <= self._keep:
                proto.initializer.append(tensor_of(constant, name))
            else:
                proto.input.append(_value_info(name, np.dtype(values.dtype), values.shape))

    def _values(self, proto: onnx.GraphProto, graph: gs.Graph, record: GraphRecord, constants: dict[str, gs.Constant]) -> None:
        stubs = {v.name for v in proto.input}
        live = {t.name: t for t in graph.inputs}
        for value in record.inputs:
            tensor = live.pop(value.name, None) or constants.get(value.name)
            if tensor is not None and value.name not in stubs:
                proto.input.append(_described(value, tensor))
        proto.input.extend(_described(None, tensor) for tensor in live.values())
        if graph is self._graph and self._ledger.shell.ir_version < _IR_WITHOUT_LISTING:
            # A file that did not list its own initializers keeps its way; only new ones are listed.
            listed = {*(v.name for v in proto.input), *record.initializers, *record.sparse}
            proto.input.extend(_described(None, c) for name, c in constants.items() if name not in listed)
        before = {v.name: v for v in record.outputs}
        proto.output.extend(_described(before.get(t.name), t) for t in graph.outputs)
        inner: dict[str, gs.Tensor] = {}
        for node in graph.nodes:
            inner.update((t.name, t) for t in node.outputs if t.name)
        taken = {v.name for v in [*proto.input, *proto.output]}
        seen: set[str] = set()
        counts = Counter(v.name for v in [*record.values, *record.outputs, *record.inputs])
        repeated = {name for name, count in counts.items() if count > 1}
        for value in record.values:
            tensor = inner.get(value.name) or constants.get(value.name)
            if tensor is not None or value.name in taken or value.name in record.strays:
                # Of two descriptions of one tensor the reader believed the last; here both stay as they came.
                proto.value_info.append(value if tensor is None or value.name in repeated else _described(value, tensor))
                seen.add(value.name)
        for name, tensor in inner.items():
            if name not in seen and name not in taken and tensor.dtype is not None and tensor.shape is not None:
                proto.value_info.append(_described(None, tensor))


def _read_by(node: gs.Node) -> Iterator[gs.Tensor]:
    yield from node.inputs
    for graph in node.subgraphs():
        yield from graph.outputs
        for inner in graph.nodes:
            yield from _read_by(inner)


def _described(origin: onnx.ValueInfoProto | None, tensor: gs.Tensor) -> onnx.ValueInfoProto:
    """A value's type: the original's where the tensor still has it, else made from the tensor."""
    if isinstance(tensor, gs.Constant) or tensor.dtype is None:
        if origin is not None:
            return origin
        if tensor.dtype is None:
            return onnx.ValueInfoProto(name=tensor.name)
    if origin is not None:
        kind = origin.type.tensor_type
        same_type = kind.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        if same_type and dimensions(kind) == (None if tensor.shape is None else tuple(tensor.shape)):
            return origin
    fresh = _value_info(tensor.name, np.dtype(tensor.dtype), tensor.shape)
    if origin is not None:
        fresh.doc_string = origin.doc_string
        fresh.metadata_props.extend(origin.metadata_props)
    return fresh


def _value_info(name: str, dtype: np.dtype[Any], shape: Any) -> onnx.ValueInfoProto:
    elem_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_value_info(name, elem_type, None if shape is None else list(shape))
