"""ONNX shape inference that comes back: the one place that calls it on a whole graph.

onnx's inference is C++ that trusts its input, and a file need not be trustworthy.

- **Values.** It can follow the values of shape vectors (``data_prop``), and then keeps one entry for each element of whatever has
  one dimension: of thirty Concats of a vector with itself, of a Mul of two vectors of 2**40 floats. So it is run without values
  first, and with them only if no vector comes out too long.
- **Numbers.** What stands for an axis is cast to 32 bits and used as an index, not always after a look at its range: a
  LayerNormalization of axis 2**63 - 1, a GatherND with ``batch_dims`` of -2 and a Split that has more outputs than it says kill the
  process (found by trying extreme values of every attribute of every operator). Such a node is left out, so that its outputs are
  unknown; ``screened`` says which nodes these are.
- **Steps.** A Slice whose step does not fit into 32 bits is followed for as long as 32 bits last, and one value is kept for each
  turn. Then nothing is said of values either, nor if a step is computed and might not fit.
- **Memory.** In a process that is watched it may take ``_MEMORY``, and ``_PER_BYTE`` for each byte of the model. What it cannot
  allocate it throws; that is a failed inference here, not a failed process.

What remains is for a process that may die (``graphopt.guard``).
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator
from functools import partial

import onnx
from onnx.shape_inference import infer_shapes

from graphopt.guard.doing import doing
from graphopt.guard.limits import at_most
from graphopt.model.domains import STANDARD
from graphopt.model.protos import graphs_of, nodes_within
from graphopt.ops.pieces import infer_in_pieces, is_long

ELEMENT_TYPES = frozenset(onnx.helper.get_all_tensor_dtypes())
"""Those that onnx knows. Inference passes on whatever number a file says."""

LONGEST = 2**12
"""Elements of a vector that Concats make of shorter ones."""

_WIDEST = 2**20
"""Elements of any tensor of one dimension: a fraction of a second for each node that reads it."""

_MEMORY = 2**28
_PER_BYTE = 16

_LONGEST_STEP = 2**31 - 1

_PASSING = frozenset({"Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"})
"""Operators that make no greater integers than they are given."""

_MOST_AXES = 2**15
"""No tensor has so many dimensions."""

_AXES = frozenset({"axis", "axes", "batch_axis", "time_axis", "perm"})
_COUNTS = frozenset({"batch_dims", "num_outputs", "num_scan_inputs"})
_NUMBERS = _AXES | _COUNTS


def infer(proto: onnx.ModelProto, *, strict: bool = False, check_type: bool = False) -> onnx.ModelProto:
    """A model with the shapes that can be inferred; the one given is not changed.

    Args:
        proto: the model, preferably without big weights.
        strict: whether to raise for what contradicts itself, or to go on without.
        check_type: whether declared types are held against inferred ones.

    Raises:
        onnx.shape_inference.InferenceError, RuntimeError, ValueError, MemoryError: inference failed.
    """
    sound = _without_screened(proto)
    with doing("onnx", "inferring shapes"), at_most(_MEMORY + _PER_BYTE * sound.ByteSize()):
        run = partial(infer_shapes, check_type=check_type, strict_mode=strict)
        if is_long(sound):
            return infer_in_pieces(sound, run)
        found = run(sound, data_prop=False)
        if not _bounded(found.graph) or _strides(found):
            return found
        return run(sound, data_prop=True)


def screened(node: onnx.NodeProto) -> str:
    """Why a node, or one in its subgraphs, must not come before native code; "" if it may."""
    standard = node.domain in STANDARD  # inference knows no other
    if node.op_type == "Split" and standard:
        declared = next((a.i for a in node.attribute if a.name == "num_outputs"), len(node.output))
        if declared != len(node.output):
            return f"says that it has {declared} outputs, and has {len(node.output)}"
    for attribute in node.attribute:
        numbers = (attribute.i, *attribute.ints) if standard and attribute.name in _NUMBERS else ()
        low = 0 if attribute.name in _COUNTS else -_MOST_AXES
        wrong = next((n for n in numbers if not low <= n <= _MOST_AXES), None)
        if wrong is not None:
            return f"has the attribute {attribute.name} = {wrong}, which no tensor can have"
        for graph in graphs_of(attribute):
            for node_inside in graph.node:
                inner = screened(node_inside)
                if inner:
                    return f"holds a node that {inner}"
    return ""


def faults(proto: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, str]]:
    """The nodes that are screened, those of functions too, with the reason."""
    for node in _nodes(proto):
        why = screened(node)
        if why:
            yield node, why


def _nodes(proto: onnx.ModelProto) -> Iterable[onnx.NodeProto]:
    yield from proto.graph.node
    for function in proto.functions:
        yield from function.node


def _without_screened(proto: onnx.ModelProto) -> onnx.ModelProto:
    if next(faults(proto), None) is None:
        return proto
    sound = onnx.ModelProto()
    sound.CopyFrom(proto)
    for nodes in (sound.graph.node, *(function.node for function in sound.functions)):
        kept = [node for node in nodes if not screened(node)]
        del nodes[:]
        nodes.extend(kept)
    return sound


def _bounded(graph: onnx.GraphProto) -> bool:
    """Whether no vector whose values inference would follow is too long. Only Concat makes vectors longer than their operands."""
    if any(_length(value.type) > _WIDEST for value in [*graph.input, *graph.value_info]):
        return False
    return _vectors_bounded(graph, ChainMap())


def _vectors_bounded(graph: onnx.GraphProto, outer: ChainMap[str, int]) -> bool:
    lengths = outer.new_child({t.name: t.dims[0] for t in graph.initializer if len(t.dims) == 1})
    for node in graph.node:
        given = [lengths.get(name, 1) for name in node.input]
        if node.op_type == "Constant" and len(node.attribute) == 1:
            attribute = node.attribute[0]
            given = [len(attribute.ints), *attribute.t.dims[:1]]
        length = sum(given) if node.op_type == "Concat" else max(given, default=1)
        if length > LONGEST and node.op_type == "Concat":
            return False
        lengths.update(dict.fromkeys(node.output, min(length, LONGEST)))
        for attribute in node.attribute:
            if not all(_vectors_bounded(inner, lengths) for inner in graphs_of(attribute)):
                return False
    return True


def _strides(proto: onnx.ModelProto) -> bool:
    """Whether some Slice may take a step that is too long: its steps come from a constant that holds one, or are computed."""
    nodes = [*nodes_within(proto.graph.node), *(n for function in proto.functions for n in nodes_within(function.node))]
    pending = [node.input[4] for node in nodes if node.op_type == "Slice" and len(node.input) > 4]
    if not pending:
        return False
    makers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.output:
            makers.setdefault(name, []).append(node)
    graphs = [proto.graph, *(graph for node in nodes for attribute in node.attribute for graph in graphs_of(attribute))]
    long = {tensor.name for graph in graphs for tensor in graph.initializer if _long(tensor)}
    seen = {""}
    while pending:
        name = pending.pop()
        if name in long:
            return True
        if name in seen:
            continue
        seen.add(name)
        for node in makers.get(name, ()):
            if node.op_type in _PASSING:
                pending.extend(node.input)
            elif node.op_type != "Constant" or any(map(_holds_long, node.attribute)):
                return True
    return False


def _holds_long(attribute: onnx.AttributeProto) -> bool:
    return any(abs(n) > _LONGEST_STEP for n in (attribute.i, *attribute.ints)) or (attribute.HasField("t") and _long(attribute.t))


def _long(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor of integers has one that is no step, or is too large to look."""
    if tensor.data_type not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        return False
    return math.prod(tensor.dims) > LONGEST or any(
        abs(n) > _LONGEST_STEP for n in onnx.numpy_helper.to_array(tensor).ravel().tolist()
    )


def _length(kind: onnx.TypeProto) -> int:
    """Elements of a tensor of one dimension; 0 for any other."""
    dims = kind.tensor_type.shape.dim
    return dims[0].dim_value if len(dims) == 1 else 0
