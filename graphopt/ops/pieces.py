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
    constants = {name: tensor for node in whole.node for name, tensor in _constant(node)}
    leaving = {value.name for value in whole.output}
    symbols = {dim.dim_param for value in known.values() for dim in _dims(value)}
    local = {(function.domain, function.name) for function in proto.functions}
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    foreign = False
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
        piece.graph.initializer.extend(constants[name] for name in sorted((read - made) & constants.keys()))
        if foreign:  # behind an operator that it does not know inference is lenient, in the pieces that follow too
            piece.graph.node.insert(0, onnx.NodeProto(op_type="Unknown", domain=_FOREIGN))
            piece.opset_import.add(domain=_FOREIGN, version=1)
        before = {dim.dim_param for graph in _graphs(piece.graph) for value in _values(graph) for dim in _dims(value)}
        found = infer(piece).graph
        if foreign:
            del found.node[0]
        foreign = foreign or not all(_is_known(node, local, versions) for node in nodes)
        _rename(found, before, symbols)
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


_FOREIGN = "graphopt.unknown"


def _is_known(node: onnx.NodeProto, local: set[tuple[str, str]], versions: dict[str, int]) -> bool:
    if (node.domain, node.op_type) in local:
        return True
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = versions.get(node.domain, versions.get(domain, versions.get("ai.onnx", 0)))
    return bool(onnx.defs.has(node.op_type, version, domain))


def _constant(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """What a Constant holds as a tensor, named as its output: as much use to what comes after it as an initializer."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.attribute) != 1 or len(node.output) != 1:
        return
    attribute = node.attribute[0]
    tensor = onnx.TensorProto()
    if attribute.name == "value" and attribute.HasField("t"):
        tensor.CopyFrom(attribute.t)
    elif attribute.name in ("value_int", "value_ints"):
        many = attribute.name == "value_ints"
        tensor.data_type = onnx.TensorProto.INT64
        tensor.dims.extend([len(attribute.ints)] if many else [])
        tensor.int64_data.extend(attribute.ints if many else [attribute.i])
    else:
        return
    tensor.name = node.output[0]
    yield tensor.name, tensor


def _rename(graph: onnx.GraphProto, before: set[str], taken: set[str]) -> None:
    """Names that inference made up for dimensions become such as no other piece has; those are added to ``taken``."""
    names: dict[str, str] = {}
    for part in _graphs(graph):
        for value in _values(part):
            for dim in _dims(value):
                symbol = dim.dim_param
                if not symbol or symbol in before:
                    continue
                if symbol not in names:
                    number = len(taken)
                    while (name := f"unk__{number}") in taken:
                        number += 1
                    taken.add(name)
                    names[symbol] = name
                dim.dim_param = names[symbol]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in graphs_of(attribute):
                yield from _graphs(inner)


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.value_info
    yield from graph.output


def _dims(value: onnx.ValueInfoProto) -> Iterable[onnx.TensorShapeProto.Dimension]:
    kind = value.type
    while (field := kind.WhichOneof("value")) in ("sequence_type", "optional_type"):
        kind = getattr(kind, field).elem_type
    return (
        getattr(kind, field).shape.dim
        if field in ("tensor_type", "sparse_tensor_type") and getattr(kind, field).HasField("shape")
        else ()
    )
