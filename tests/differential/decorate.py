"""Fill a model with everything that ONNX allows and that tools lose: the round trip of the plain backend models is too easy.

Every decoration is legal where it is put, and none changes what the model computes: documentation and metadata at all levels,
denotations, device configurations, quantization annotations, training info, a function, unused and sparse initializers,
attributes with empty lists, bytes that are no text, lists of tensors, types and sparse tensors.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper


def decorated(proto: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A copy of ``proto`` with decorations drawn by ``seed``."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    draw = random.Random(seed)
    model.doc_string, model.domain, model.model_version = "a model", "org.example", 7
    model.producer_name, model.producer_version = "somebody", "1.2.3"
    _metadata(model, draw)
    training = model.training_info.add()
    training.algorithm.CopyFrom(helper.make_graph([], "step", [], []))
    training.update_binding.add(key="k", value="v")
    model.functions.append(_function())
    model.opset_import.append(helper.make_opsetid("org.example.functions", 1))
    _graph(model.graph, draw, outermost=True)
    return model


def _metadata(message: Any, draw: random.Random) -> None:
    for index in range(draw.randint(0, 2)):
        message.metadata_props.add(key=f"key{index}", value=draw.choice(["", "value", "\u00e4"]))


def _function() -> onnx.FunctionProto:
    node = helper.make_node("Elu", ["v"], ["w"])
    node.attribute.append(AttributeProto(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT))
    function = helper.make_function("org.example.functions", "Slope", ["v"], ["w"], [node], [helper.make_opsetid("", 17)])
    function.attribute.append("slope")
    function.doc_string = "a function"
    function.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, ["N"]))
    return function


def _graph(graph: onnx.GraphProto, draw: random.Random, *, outermost: bool) -> None:
    graph.doc_string = "a graph"
    _metadata(graph, draw)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _value(value, draw)
    for tensor in graph.initializer:
        tensor.doc_string = draw.choice(["", "a weight"])
        _metadata(tensor, draw)
    for node in graph.node:
        _node(node, draw)
    named = [name for node in graph.node for name in node.output if name]
    _annotations(graph, named, draw)
    if outermost:
        graph.initializer.append(numpy_helper.from_array(np.arange(3, dtype=np.float32), "unused dense"))
        graph.initializer.append(TensorProto(name="unused empty", data_type=TensorProto.INT64, dims=[0]))
        graph.sparse_initializer.append(_sparse("unused sparse"))


def _annotations(graph: onnx.GraphProto, named: Iterable[str], draw: random.Random) -> None:
    for name in list(named)[:2]:
        annotation = graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=draw.choice(["s", ""]))


def _value(value: onnx.ValueInfoProto, draw: random.Random) -> None:
    value.doc_string = draw.choice(["", "a value"])
    _metadata(value, draw)
    value.type.denotation = draw.choice(["", "IMAGE"])
    if value.type.WhichOneof("value") == "tensor_type":
        for dim in value.type.tensor_type.shape.dim:
            dim.denotation = draw.choice(["", "DATA_BATCH", "DATA_CHANNEL"])


def _node(node: onnx.NodeProto, draw: random.Random) -> None:
    node.doc_string = draw.choice(["", "a node"])
    _metadata(node, draw)
    node.device_configurations.add(configuration_id="one", pipeline_stage=draw.randint(0, 3))
    for attribute in node.attribute:
        attribute.doc_string = draw.choice(["", "an attribute"])
        for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            _graph(body, draw, outermost=False)
    node.attribute.extend(draw.sample(_attributes(), 3))


def _attributes() -> list[AttributeProto]:
    """Of every kind that trips a tool. Their names are nobody's."""
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "t")
    return [
        AttributeProto(name="zz_ints", type=AttributeProto.INTS),
        AttributeProto(name="zz_floats", type=AttributeProto.FLOATS),
        AttributeProto(name="zz_strings", type=AttributeProto.STRINGS),
        AttributeProto(name="zz_bytes", type=AttributeProto.STRING, s=b"\xff\xfe"),
        AttributeProto(name="zz_byte_list", type=AttributeProto.STRINGS, strings=[b"\xff", b"text"]),
        AttributeProto(name="zz_nan", type=AttributeProto.FLOAT, f=float("nan")),
        AttributeProto(name="zz_nans", type=AttributeProto.FLOATS, floats=[float("nan"), -0.0]),
        AttributeProto(name="zz_big", type=AttributeProto.INT, i=-(2**63)),
        AttributeProto(name="zz_tensor", type=AttributeProto.TENSOR, t=tensor),
        AttributeProto(name="zz_tensors", type=AttributeProto.TENSORS, tensors=[tensor, tensor]),
        AttributeProto(name="zz_sparse", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=_sparse("s")),
        AttributeProto(name="zz_type", type=AttributeProto.TYPE_PROTO, tp=helper.make_tensor_type_proto(1, ["N"])),
        AttributeProto(name="zz_typeless", i=3),
    ]


def _sparse(name: str) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([1.5], np.float32), name)
    indices = numpy_helper.from_array(np.array([2], np.int64), "")
    return helper.make_sparse_tensor(values, indices, [4])
