"""Shape inference in pieces, for graphs of very many operators with bodies.

onnx's inference gives each body a copy of all names in sight, so its work grows with bodies times names: 20,000 nodes, half of them
Ifs, take minutes. Here a graph is cut, in the order of its nodes, into pieces of ``BODIES`` such operators each. A piece knows of
what came before just the types of what it reads, so all pieces together are linear. What is lost is what inference would know of
the *values* of shape vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import onnx

from graphopt.model.protos import copy_except, graphs_of

BODIES = 100
"""Operators with bodies in a piece."""

Infer = Callable[[onnx.ModelProto], onnx.ModelProto]


def is_long(proto: onnx.ModelProto) -> bool:
    """Whether there are so many operators with bodies in the main graph that pieces pay."""
    return sum(map(_has_body, proto.graph.node)) > 2 * BODIES


def infer_in_pieces(proto: onnx.ModelProto, infer: Infer) -> onnx.ModelProto:
    """As ``infer`` of the whole; ``proto`` is not changed. Raises whatever ``infer`` raises."""
    whole = proto.graph
    known = {value.name: value for value in (*whole.value_info, *whole.output, *whole.input)}
    tensors = {tensor.name: tensor for tensor in whole.initializer}
    sparse = {tensor.values.name: tensor for tensor in whole.sparse_initializer}
    leaving = {value.name for value in whole.output}
    result = onnx.ModelProto()
    copy_except(result, proto, ("graph",))
    copy_except(result.graph, whole, ("node", "value_info"))
    for nodes in _cut(list(whole.node)):
        piece = _frame(proto)
        piece.graph.node.extend(nodes)
        made = {name for node in nodes for name in node.output if name}
        read = _read(nodes)
        piece.graph.input.extend(known[name] for name in sorted(read - made) if name in known)
        piece.graph.output.extend(known[name] for name in sorted(made & leaving) if name in known)
        piece.graph.value_info.extend(known[name] for name in sorted(made - leaving) if name in known)
        piece.graph.initializer.extend(tensors[name] for name in sorted(read & tensors.keys()))
        piece.graph.sparse_initializer.extend(sparse[name] for name in sorted(read & sparse.keys()))
        found = infer(piece).graph
        result.graph.node.extend(found.node)
        known |= {value.name: value for value in (*found.value_info, *found.output)}
    made = {name for node in whole.node for name in node.output}
    declared = {value.name for value in whole.value_info}
    inner = (declared | made) - leaving
    result.graph.value_info.extend(value for name, value in known.items() if name in inner)
    for value in result.graph.output:
        value.CopyFrom(known[value.name])
    return result


def _frame(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its graph."""
    frame = onnx.ModelProto(ir_version=proto.ir_version)
    frame.opset_import.extend(proto.opset_import)
    frame.functions.extend(proto.functions)
    frame.graph.name = proto.graph.name
    return frame


def _cut(nodes: list[onnx.NodeProto]) -> Iterator[list[onnx.NodeProto]]:
    piece: list[onnx.NodeProto] = []
    bodies = 0
    for node in nodes:
        piece.append(node)
        bodies += _has_body(node)
        if bodies == BODIES:
            yield piece
            piece, bodies = [], 0
    yield piece


def _has_body(node: onnx.NodeProto) -> bool:
    return any(True for attribute in node.attribute for _ in graphs_of(attribute))


def _read(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names that nodes read, in bodies too; there what is local is among them, which does no harm."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.input)
        for attribute in node.attribute:
            for graph in graphs_of(attribute):
                found |= _read(graph.node)
                found.update(value.name for value in graph.output)
    return found
