"""An independent copy of a graph and its ledger. Arrays and protos are shared: both are treated as immutable."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_graphsurgeon as gs

from graphopt.guard.garbage import keeping
from graphopt.model import links
from graphopt.model.ledger import GraphRecord, Ledger


@keeping()
def copy_graph(graph: gs.Graph, ledger: Ledger) -> tuple[gs.Graph, Ledger]:
    """Copy ``graph`` with all subgraphs; tensors keep their names, subgraphs read the copied outer tensors."""
    shell = onnx.ModelProto()
    shell.CopyFrom(ledger.shell)
    copier = _Copier(ledger, Ledger(shell, ledger.files))
    twin = copier.graph(graph)
    twin.opset, twin.ir_version, twin.import_domains = graph.opset, graph.ir_version, shell.opset_import
    return twin, copier.new


class _Copier:
    def __init__(self, old: Ledger, new: Ledger) -> None:
        self.old = old
        self.new = new
        self.tensors: dict[int, tuple[gs.Tensor, gs.Tensor]] = {}

    def graph(self, graph: gs.Graph) -> gs.Graph:
        twin = gs.Graph(name=graph.name, doc_string=graph.doc_string)
        record = self.old.graph(graph)
        twin.inputs = [self.tensor(t) for t in graph.inputs]
        twin.nodes.extend(self.node(n) for n in graph.nodes)
        twin.outputs = [self.tensor(t) for t in graph.outputs]
        kept = {n: c for n, t in record.kept.items() if isinstance(c := self.tensor(t), gs.Constant)}
        self.new.graphs[id(twin)] = GraphRecord(
            twin, record.shell, list(record.inputs), list(record.outputs), list(record.values),
            list(record.initializers), list(record.sparse), kept, record.named, set(record.strays), dict(record.defaults),
            {id(t): (t, value) for old, value in record.described.values() for t in [self.tensor(old)]},
        )  # fmt: skip
        return twin

    def tensor(self, tensor: gs.Tensor) -> gs.Tensor:
        if not tensor.name:
            return gs.Variable("")
        known = self.tensors.get(id(tensor))
        if known is None:
            twin: gs.Tensor
            if isinstance(tensor, gs.Constant):
                twin = gs.Constant(tensor.name, tensor._values)
            else:
                twin = gs.Variable(tensor.name, tensor.dtype, tensor.shape)
            known = self.tensors[id(tensor)] = (tensor, twin)
        return known[1]

    def node(self, node: gs.Node) -> gs.Node:
        attrs = {name: self.value(value) for name, value in node.attrs.items()}
        twin = gs.Node(node.op, node.name, attrs, domain=node.domain)
        for tensor in map(self.tensor, node.inputs):
            links.read_by(tensor, twin)
        for tensor in map(self.tensor, node.outputs):
            links.made_by(tensor, twin)
        origin = self.old.origin(node)
        if origin is not None:
            self.new.nodes[id(twin)] = (twin, origin)
        return twin

    def value(self, value: Any) -> Any:
        if isinstance(value, gs.Graph):
            return self.graph(value)
        return list(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
