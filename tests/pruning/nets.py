"""Networks whose weights are all different, and what they compute in float64, tensor by tensor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests import oracle
from tests.nets import Net

Array = NDArray[Any]


class Distinct(Net):
    """A network in which no two elements of a constant are equal, so that each can be told from all others."""

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Array:
        count = int(np.prod(shape))
        return low + (high - low) * ((self.rng.permutation(count) + 0.5) / max(count, 1)).reshape(shape)


def values_of(proto: onnx.ModelProto, feed: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor of a model, in float64."""
    values = {**oracle.constants_of(proto), **{k: oracle.wide(v) for k, v in feed.items()}}
    _run(proto.graph.node, values, proto)
    return values


def constants_of(proto: onnx.ModelProto) -> dict[str, Array]:
    """The tensors that do not depend on an input: initializers, and what is computed of them, in the file's own types."""
    values = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    if proto.ir_version >= 4:  # before, the format demanded that every initializer be an input
        given = {v.name for v in proto.graph.input}
        values = {k: v for k, v in values.items() if k not in given}
    known, nodes = set(values), list[NodeProto]()
    for node in proto.graph.node:
        if all(name in known for name in (*node.input, *captured(node)) if name) and not _random(node):
            known.update(name for name in node.output if name)
            nodes.append(node)
    return {**values, **_computed(proto, nodes, values)}


def _computed(proto: onnx.ModelProto, nodes: list[NodeProto], values: Mapping[str, Array]) -> dict[str, Array]:
    made = [name for node in nodes for name in node.output if name]
    if not made:
        return {}
    read = {name for node in nodes for name in (*node.input, *captured(node))}
    weights = [i for i in proto.graph.initializer if i.name in read and i.name in values]
    outputs = [helper.make_tensor_value_info(name, 0, None) for name in made]
    for output in outputs:
        output.ClearField("type")
    graph = helper.make_graph(nodes, "constants", [], outputs, weights)
    model = helper.make_model(graph, opset_imports=list(proto.opset_import), ir_version=max(proto.ir_version, 4))
    return dict(zip(made, plain_session(model).run(None, {}), strict=True))


def plain_session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """onnxruntime on a graph as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if fits_a_message(proto):
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with tempfile.TemporaryDirectory() as folder:
        copied = onnx.ModelProto()
        copied.CopyFrom(proto)  # saving takes the weights out of it
        onnx.save(copied, f"{folder}/model.onnx", save_as_external_data=True, location="weights")
        return onnxruntime.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])


def fits_a_message(proto: onnx.ModelProto) -> bool:
    """Whether protobuf can serialize it, which it does for its size too: less than 2 GiB, a little of it for the graph."""
    return sum(len(t.raw_data) for t in proto.graph.initializer) < 2**31 - 2**24


def _random(node: NodeProto) -> bool:
    return node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))


def captured(node: NodeProto) -> Iterator[str]:
    """The names of the outer graph that the bodies of a node read."""
    for attribute in node.attribute:
        for body in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            inner = {i.name for i in body.input} | {i.name for i in body.initializer} | {o for n in body.node for o in n.output}
            reads = [*(name for n in body.node for name in (*n.input, *captured(n))), *(o.name for o in body.output)]
            yield from (name for name in reads if name and name not in inner)


def _run(nodes: Iterable[NodeProto], values: dict[str, Array], proto: onnx.ModelProto) -> None:
    opset = oracle.opset_of(proto)
    for node in nodes:
        outer = sorted(set(captured(node)))
        if outer:
            _run_with_bodies(node, outer, values, proto)
        elif node.op_type in _HERE and node.domain in ("", "ai.onnx"):
            values.update(zip(node.output, _HERE[node.op_type](node, values), strict=True))
        else:
            _run_one(node, values, opset)


def _run_one(node: NodeProto, values: dict[str, Array], opset: int) -> None:
    try:
        oracle.run([node], values, opset)
    except NotImplementedError:
        feed = {name: values[name] for name in node.input if name}
        found = ReferenceEvaluator(node, opsets={"": opset}).run(None, feed)  # type: ignore[arg-type]
        values.update({n: oracle.wide(np.asarray(v)) for n, v in zip(node.output, found, strict=True)})


def _split(node: NodeProto, values: Mapping[str, Array]) -> list[Array]:
    """With sizes by input, by attribute, or in as many equal parts as there are outputs (the last one may be smaller)."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    data, axis, count = values[node.input[0]], attrs.get("axis", 0), len(node.output)
    given = values[node.input[1]].tolist() if len(node.input) > 1 and node.input[1] else attrs.get("split")
    part = -(-data.shape[axis] // count)
    cuts = np.cumsum(given)[:-1].tolist() if given else [part * k for k in range(1, count)]
    return np.split(data, cuts, axis)


def _global_max(node: NodeProto, values: Mapping[str, Array]) -> list[Array]:
    data = values[node.input[0]]
    return [data.max(axis=tuple(range(2, data.ndim)), keepdims=True)]


_HERE = {"Split": _split, "GlobalMaxPool": _global_max}
"""Operators that neither the oracle nor ONNX's reference implementation computes in every form."""


def _run_with_bodies(node: NodeProto, outer: list[str], values: dict[str, Array], proto: onnx.ModelProto) -> None:
    """A node with bodies, as a graph of its own: what the bodies capture becomes inputs."""
    names = sorted({*outer, *(name for name in node.input if name)})
    kinds = {n: helper.np_dtype_to_tensor_dtype(np.asarray(values[n]).dtype) for n in names}
    inputs = [helper.make_tensor_value_info(n, kinds[n], None) for n in names]
    outputs = [helper.make_tensor_value_info(n, 1, None) for n in node.output]
    graph = helper.make_graph([node], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=list(proto.opset_import))
    found = ReferenceEvaluator(model).run(None, {n: values[n] for n in names})
    values.update({n: oracle.wide(np.asarray(v)) for n, v in zip(node.output, found, strict=True)})
