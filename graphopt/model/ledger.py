"""What onnx-graphsurgeon cannot carry, kept beside the graph from reading to writing.

Graphsurgeon's objects have no place for a model's metadata, training info and functions, for the documentation and metadata
of graphs, nodes and values, for quantization annotations, the order of initializers, initializers that nothing reads,
defaults of overridable inputs, sequence and map types, or unusual attributes. The ledger holds the original protos of all of
these. Objects are found by identity: graphsurgeon's are unhashable, so the key is ``id`` and the entry keeps the object alive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
import onnx_graphsurgeon as gs

from graphopt.model.storage import DataFile, Folder


@dataclass(slots=True)
class Files:
    """The files that a model is read from: its own, None if it came from memory, and its external data."""

    own: DataFile | None
    folder: Folder

    def identities(self) -> set[tuple[int, int]]:
        """Device and inode of each."""
        files = [*self.folder.files.values(), *([self.own] if self.own is not None else [])]
        return {file.identity for file in files}


@dataclass(slots=True)
class GraphRecord:
    """The parts of a GraphProto that have no place in ``gs.Graph``.

    Attributes:
        shell: the GraphProto without nodes, values and initializers (name, doc_string, metadata, quantization annotation).
        inputs, outputs, values: the ValueInfoProtos in the order of the file.
        initializers: names of dense initializers in the order of the file; ``sparse`` the same for sparse ones.
        kept: the initializers that are written whether or not something reads them: those that nothing read already on arrival, and
            those that are ``named``.
        named: names of initializers that a quantization annotation or training information refers to.
        strays: names with a value_info that nothing in the graph defines (kept, since they came that way).
        defaults: values of inputs that a caller may override (IR 4 and later).
        described: tensors and the ValueInfoProto that they came with, by identity: a renamed tensor keeps its documentation.
    """

    graph: gs.Graph
    shell: onnx.GraphProto
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list[onnx.ValueInfoProto])
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list[onnx.ValueInfoProto])
    values: list[onnx.ValueInfoProto] = field(default_factory=list[onnx.ValueInfoProto])
    initializers: list[str] = field(default_factory=list[str])
    sparse: list[str] = field(default_factory=list[str])
    kept: dict[str, gs.Constant] = field(default_factory=dict[str, gs.Constant])
    named: frozenset[str] = frozenset()
    strays: set[str] = field(default_factory=set[str])
    defaults: dict[str, gs.Constant] = field(default_factory=dict[str, gs.Constant])
    described: dict[int, tuple[gs.Tensor, onnx.ValueInfoProto]] = field(
        default_factory=dict[int, tuple[gs.Tensor, onnx.ValueInfoProto]]
    )

    def origin(self, tensor: gs.Tensor) -> onnx.ValueInfoProto | None:
        """The description that ``tensor`` came with."""
        entry = self.described.get(id(tensor))
        return entry[1] if entry is not None else None


@dataclass(slots=True)
class Ledger:
    """All records of one model.

    Attributes:
        shell: the ModelProto without its graph.
        files: the files that its weights are read from; shared by all copies of the model.
    """

    shell: onnx.ModelProto
    files: Files
    graphs: dict[int, GraphRecord] = field(default_factory=dict[int, GraphRecord])
    nodes: dict[int, tuple[gs.Node, onnx.NodeProto]] = field(default_factory=dict[int, tuple[gs.Node, onnx.NodeProto]])

    def graph(self, graph: gs.Graph) -> GraphRecord:
        """The record of ``graph``; a new, empty one for a graph made by a pass."""
        record = self.graphs.get(id(graph))
        if record is None:
            record = GraphRecord(graph, onnx.GraphProto(name=graph.name))
            self.graphs[id(graph)] = record
        return record

    def origin(self, node: gs.Node) -> onnx.NodeProto | None:
        """The proto that ``node`` was read from; None for a node made by a pass."""
        entry = self.nodes.get(id(node))
        return entry[1] if entry is not None else None
