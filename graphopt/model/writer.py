"""gs.Graph and ledger -> ModelProto.

Whatever is unchanged leaves as the very proto it came as; what a pass made is written anew. The order of nodes is the graph's,
the order of initializers the file's with new ones behind in the order of first use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphopt.model.attributes import encode
from graphopt.model.bodies import bodies
from graphopt.model.ledger import GraphRecord, Ledger
from graphopt.model.payloads import INLINE, Fill, tensor_of
from graphopt.model.protos import copy_except
from graphopt.model.reader import dimensions
from graphopt.model.weights import Weights

_NODE_PARTS = ("op_type", "name", "domain", "input", "output", "attribute")

_IR_WITHOUT_LISTING = 4
"""Before this version of the format every initializer had to be listed as an input too."""


class Writer:
    """Serialises one model.

    Args:
        graph, ledger, label: the model.
        initializers: where the bytes of initializers go.
        attributes: where those of tensors in attributes go.
    """

    def __init__(
        self,
        graph: gs.Graph,
        ledger: Ledger,
        label: str,
        *,
        initializers: Fill = INLINE,
        attributes: Fill = INLINE,
    ) -> None:
        self.graph = graph
        self.ledger = ledger
        self.label = label
        self._initializers = initializers
        self._attributes = attributes

    def model(self) -> onnx.ModelProto:
        proto = onnx.ModelProto()
        proto.CopyFrom(self.ledger.shell)
        self._fill(proto.graph, self.graph)
        return proto

    def interface(self) -> onnx.GraphProto:
        """The inputs and outputs of the main graph as they would be written, and nothing else."""
        proto = onnx.GraphProto()
        record = self.ledger.graph(self.graph)
        self._ends(proto, self.graph, record, dict(self._constants(self.graph, record)))
        return proto

    def constants(self) -> dict[str, gs.Constant]:
        """The initializers of the main graph in the order of writing."""
        return dict(self._constants(self.graph, self.ledger.graph(self.graph)))

    def _fill(self, proto: onnx.GraphProto, graph: gs.Graph) -> None:
        record = self.ledger.graph(graph)
        proto.CopyFrom(record.shell)
        constants = dict(self._constants(graph, record))
        self._weights(proto, graph, constants, record)
        for node in graph.nodes:
            self.node(proto.node.add(), node)
        self._values(proto, graph, record, constants)

    def _subgraph(self, graph: gs.Graph) -> onnx.GraphProto:
        proto = onnx.GraphProto()
        self._fill(proto, graph)
        return proto

    def node(self, proto: onnx.NodeProto, node: gs.Node) -> None:
        """Write one node into an empty proto."""
        origin = self.ledger.origin(node)
        if origin is not None:
            copy_except(proto, origin, _NODE_PARTS)
        proto.op_type = node.op
        for field, text in (("name", node.name), ("domain", node.domain or "")):
            if text or (origin is not None and origin.HasField(field)):
                setattr(proto, field, text)
        proto.input.extend(t.name for t in node.inputs)
        proto.output.extend(t.name for t in node.outputs)
        before = {a.name: a for a in origin.attribute} if origin is not None else {}
        for name, value in node.attrs.items():
            where = f"{self.label}: {node.op} '{node.name}'"
            proto.attribute.append(self.attribute(node, name, value, before.get(name), where))

    def attribute(
        self, node: gs.Node, name: str, value: Any, origin: onnx.AttributeProto | None, where: str
    ) -> onnx.AttributeProto:
        """One attribute of ``node``."""
        del node
        return encode(name, value, origin, self._subgraph, where, self._attributes)

    def initializer(self, proto: onnx.GraphProto, graph: gs.Graph, name: str, constant: gs.Constant) -> None:
        """Write one dense initializer of ``graph``."""
        del graph
        proto.initializer.append(tensor_of(constant, name, self._initializers))

    def _constants(self, graph: gs.Graph, record: GraphRecord) -> Iterator[tuple[str, gs.Constant]]:
        """The initializers of this graph, in order: as they came, then new ones as they are first read."""
        read: dict[str, gs.Constant] = {}
        for node in graph.nodes:
            for tensor in self._needed_by(node):
                if isinstance(tensor, gs.Constant) and tensor.name:
                    read.setdefault(tensor.name, tensor)
        known = dict.fromkeys([*record.initializers, *record.sparse])
        for tensor in graph.outputs:
            elsewhere = graph is not self.graph and tensor.name not in known and tensor.name in self._came_with_a_graph
            if isinstance(tensor, gs.Constant) and not elsewhere:
                read.setdefault(tensor.name, tensor)
        for name in known:
            constant = record.kept.get(name) or read.get(name)
            if constant is not None:
                yield name, constant
        outer = self._outer_names(graph)
        for name, constant in read.items():
            if name not in known and name not in outer:
                yield name, constant

    def _needed_by(self, node: gs.Node) -> Sequence[gs.Tensor]:
        """What a node and the bodies in it take from outside. A body may have an initializer by the name of another one outside."""
        inner = bodies(node)
        if not inner:
            return node.inputs
        needed: list[gs.Tensor] = list(node.inputs)
        for body in inner:
            record = self.ledger.graph(body)
            own = {*record.initializers, *record.sparse}
            read = chain(body.outputs, *[self._needed_by(n) for n in body.nodes])
            needed.extend(tensor for tensor in read if tensor.name not in own)
        return needed

    def _outer_names(self, graph: gs.Graph) -> set[str]:
        """Constants that a subgraph reads belong to the outermost graph unless they came with the subgraph."""
        if graph is self.graph:
            return set()
        record = self.ledger.graph(graph)
        own = {*record.initializers, *record.sparse}
        return {t.name for n in graph.nodes for t in self._needed_by(n) if isinstance(t, gs.Constant) and t.name not in own}

    @cached_property
    def _came_with_a_graph(self) -> set[str]:
        """The initializers that the file had, in whichever graph. A subgraph may return one of another graph without owning it."""
        return {name for record in self.ledger.graphs.values() for name in (*record.initializers, *record.sparse)}

    def _weights(self, proto: onnx.GraphProto, graph: gs.Graph, constants: dict[str, gs.Constant], record: GraphRecord) -> None:
        known = dict.fromkeys(record.initializers)
        names = [n for n in known if n in constants or n in record.defaults]
        for name in [*names, *(n for n in constants if n not in known)]:
            constant = constants.get(name) or record.defaults[name]
            values = constant._values
            if isinstance(values, Weights) and isinstance(values.proto, onnx.SparseTensorProto):
                proto.sparse_initializer.append(values.proto)
            else:
                self.initializer(proto, graph, name, constant)

    def _ends(
        self, proto: onnx.GraphProto, graph: gs.Graph, record: GraphRecord, constants: dict[str, gs.Constant]
    ) -> frozenset[str]:
        """Write the inputs and outputs, and return the names that have several descriptions."""
        counts = Counter(v.name for v in [*record.values, *record.outputs, *record.inputs])
        # Of two descriptions of one tensor the reader believed the last; here both stay as they came.
        repeated = frozenset(name for name, count in counts.items() if count > 1)
        stubs = {v.name for v in proto.input}
        live = {t.name: t for t in graph.inputs}
        for value in record.inputs:
            tensor = live.pop(value.name, None) or constants.get(value.name)
            if tensor is not None and value.name not in stubs:
                proto.input.append(value if value.name in repeated else _described(value, tensor))
        proto.input.extend(_described(record.origin(tensor), tensor) for tensor in live.values())
        if graph is self.graph and self.ledger.shell.ir_version < _IR_WITHOUT_LISTING:
            # A file that did not list its own initializers keeps its way; only new ones are listed.
            listed = {*(v.name for v in proto.input), *record.initializers, *record.sparse}
            proto.input.extend(_described(None, c) for name, c in constants.items() if name not in listed)
        proto.output.extend(_outputs(graph, record, repeated))
        return repeated

    def _values(self, proto: onnx.GraphProto, graph: gs.Graph, record: GraphRecord, constants: dict[str, gs.Constant]) -> None:
        repeated = self._ends(proto, graph, record, constants)
        inner: dict[str, gs.Tensor] = {}
        for node in graph.nodes:
            inner.update((t.name, t) for t in node.outputs if t.name)
        taken = {v.name for v in [*proto.input, *proto.output]}
        seen: set[str] = set()
        for value in record.values:
            tensor = inner.get(value.name) or constants.get(value.name)
            if tensor is not None or value.name in taken or value.name in record.strays:
                proto.value_info.append(value if tensor is None or value.name in repeated else _described(value, tensor))
                seen.add(value.name)
        for name, tensor in inner.items():
            origin = record.origin(tensor)
            known = tensor.dtype is not None and tensor.shape is not None
            # A tensor that was renamed keeps its description; one that is no longer an output had it there.
            if name not in seen and name not in taken and (known or (origin is not None and origin.name != name)):
                proto.value_info.append(_described(origin, tensor))


def _outputs(graph: gs.Graph, record: GraphRecord, repeated: frozenset[str]) -> Iterator[onnx.ValueInfoProto]:
    """The outputs. One tensor may be given out twice, under two descriptions."""
    before: dict[str, list[onnx.ValueInfoProto]] = {}
    for value in record.outputs:
        before.setdefault(value.name, []).append(value)
    local = {id(tensor) for tensor in [*graph.inputs, *(t for node in graph.nodes for t in node.outputs)]}
    for tensor in graph.outputs:
        values = before.get(tensor.name)
        origin = values.pop(0) if values else record.origin(tensor)
        # A tensor of the graph around this one may be described otherwise there.
        own = id(tensor) in local or isinstance(tensor, gs.Constant)
        yield origin if origin is not None and (tensor.name in repeated or not own) else _described(origin, tensor)


def _described(origin: onnx.ValueInfoProto | None, tensor: gs.Tensor) -> onnx.ValueInfoProto:
    """A value's type: the original's where the tensor still has it, else made from the tensor."""
    if isinstance(tensor, gs.Constant) or tensor.dtype is None:
        if origin is None and tensor.dtype is None:
            return onnx.ValueInfoProto(name=tensor.name)
        if origin is not None:
            return _named(origin, tensor.name)
    elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    shape = None if tensor.shape is None else tuple(tensor.shape)
    if origin is not None:
        kind = origin.type.tensor_type
        if kind.elem_type == elem_type and dimensions(kind) == shape:
            return _named(origin, tensor.name)
    fresh = onnx.helper.make_tensor_value_info(tensor.name, elem_type, shape)
    if origin is not None:
        copy_except(fresh, origin, ("name", "type"))
        _keep_denotations(fresh.type, origin.type)
    return fresh


def _named(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    if value.name == name:
        return value
    renamed = onnx.ValueInfoProto()
    renamed.CopyFrom(value)
    renamed.name = name
    return renamed


def _keep_denotations(fresh: onnx.TypeProto, origin: onnx.TypeProto) -> None:
    """What the axes mean does not change with their sizes, if there are as many as before."""
    copy_except(fresh, origin, {field.name for field in origin.DESCRIPTOR.fields if field.name != "denotation"})
    before, after = origin.tensor_type.shape.dim, fresh.tensor_type.shape.dim
    if len(before) == len(after):
        for old, new in zip(before, after, strict=True):
            copy_except(new, old, ("dim_value", "dim_param"))
