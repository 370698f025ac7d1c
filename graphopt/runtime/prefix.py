"""The part of a model that some tensors need: for streaming, so that what lies behind them is not computed, nor what is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx


def prefix(proto: onnx.ModelProto, outputs: Sequence[str], known: Sequence[onnx.ValueInfoProto] | None = None) -> onnx.ModelProto:
    """A model whose outputs are ``outputs``, tensors of ``proto``'s outermost graph, with just the nodes that they need.

    Inputs stay, all of them; with ``known``, tensors that are not to be computed but given, these are the inputs, and of the
    graph's own those that are needed besides. Types of new outputs are left open; onnxruntime infers them. Raises ValueError for
    a name that the graph does not have.
    """
    graph = proto.graph
    given_up = {value.name for value in known or ()}
    producers = {name: node for node in graph.node for name in node.output if name and name not in given_up}
    given = {value.name for value in graph.input} | set(_initializers(graph)) | given_up
    needed: set[int] = set()
    read: set[str] = set()
    waiting = list(dict.fromkeys(outputs))
    for name in waiting:
        if name not in producers and name not in given:
            raise ValueError(f"the graph has no tensor '{name}'")
    while waiting:
        name = waiting.pop()
        if name in read:
            continue
        read.add(name)
        node = producers.get(name)
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            waiting.extend(reads(node))
    inputs = list(graph.input)
    if known is not None:
        inputs = [*known, *(value for value in inputs if value.name in read and value.name not in given_up)]
    return _cut(proto, [node for node in graph.node if id(node) in needed], read, outputs, inputs)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads: its inputs, and whatever its subgraphs mention (their own names too, which harms nobody)."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from reads(inner)


def _initializers(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def _cut(
    proto: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    read: set[str],
    outputs: Sequence[str],
    inputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    graph = proto.graph
    result = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    result.graph.name = graph.name
    result.graph.node.extend(nodes)
    result.graph.input.extend(inputs)
    result.graph.initializer.extend(t for t in graph.initializer if t.name in read)
    result.graph.sparse_initializer.extend(t for t in graph.sparse_initializer if t.values.name in read)
    declared = {value.name: value for value in graph.output}
    result.graph.output.extend(declared.get(n) or onnx.ValueInfoProto(name=n) for n in dict.fromkeys(outputs))
    listed = {tensor.name for tensor in graph.initializer} - read
    kept = [value for value in result.graph.input if value.name not in listed]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    return result
