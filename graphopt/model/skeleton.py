"""A model without its large weights, for whoever looks at the graph only: the checker, shape inference, the report.

A large initializer of the main graph becomes an input. Where a graph can get no further input (bodies of If, Loop and Scan) and for
the value of a Constant node, a sparse tensor without any values stands in: same type, same shape, no bytes. Operator sets before 11
know no sparse Constant; there the value stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, TensorProto

from graphopt.model.domains import STANDARD
from graphopt.model.ledger import Ledger
from graphopt.model.protos import nodes_within
from graphopt.model.weights import Weights
from graphopt.model.writer import Writer

_SPARSE_CONSTANTS_SINCE = 11


class Skeleton(Writer):
    """Writes a model without tensors of more than ``keep_bytes``."""

    def __init__(self, graph: gs.Graph, ledger: Ledger, label: str, keep_bytes: int, opset: int) -> None:
        super().__init__(graph, ledger, label)
        self._keep = keep_bytes
        self._sparse = opset >= _SPARSE_CONSTANTS_SINCE
        self._defaults = set(ledger.graph(graph).defaults)

    def model(self) -> onnx.ModelProto:
        """The skeleton; "ai.onnx" is written as "", the only name by which the checker and shape inference know it."""
        proto = super().model()
        _shorten_imports(proto)
        for function in proto.functions:
            _shorten_imports(function)
        for node in nodes_within(node for function in proto.functions for node in function.node):
            _shorten_domain(node)
        return proto

    def node(self, proto: onnx.NodeProto, node: gs.Node) -> None:
        """A node, its domain likewise."""
        super().node(proto, node)
        _shorten_domain(proto)

    def initializer(self, proto: onnx.GraphProto, graph: gs.Graph, name: str, constant: gs.Constant) -> None:
        """An initializer, or what stands for it."""
        values = constant._values
        main = graph is self.graph
        if values.nbytes <= self._keep or not (main or self._sparse):
            super().initializer(proto, graph, name, constant)
        elif not main:
            node = proto.node.add(op_type="Constant", output=[name])
            node.attribute.append(_hollow(constant))
        elif name not in self._defaults:  # an overridable one is an input already
            elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(values.dtype))
            proto.input.append(onnx.helper.make_tensor_value_info(name, elem_type, values.shape))

    def attribute(self, node: gs.Node, name: str, value: Any, origin: AttributeProto | None, where: str) -> AttributeProto:
        """An attribute; the value of a Constant node may be replaced."""
        constant = node.op == "Constant" and node.domain in STANDARD and name == "value"
        if constant and self._sparse and isinstance(value, gs.Constant) and value._values.nbytes > self._keep:
            return _hollow(value)
        return super().attribute(node, name, value, origin, where)


def _shorten_domain(node: onnx.NodeProto) -> None:
    if node.domain and node.domain in STANDARD:
        node.domain = ""


def _shorten_imports(part: onnx.ModelProto | onnx.FunctionProto) -> None:
    """Import the default operator set once and under its short name; of two versions of it the last one named."""
    if not any(entry.domain and entry.domain in STANDARD for entry in part.opset_import):
        return
    versions = {"" if entry.domain in STANDARD else entry.domain: entry.version for entry in part.opset_import}
    del part.opset_import[:]
    part.opset_import.extend(onnx.helper.make_opsetid(*pair) for pair in versions.items())


def _hollow(constant: gs.Constant) -> AttributeProto:
    """``sparse_value`` of a Constant node: the type and shape of ``constant``, all zero."""
    values = constant._values
    elem_type = values.elem_type if isinstance(values, Weights) else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(values.dtype))
    nothing = onnx.SparseTensorProto(
        dims=values.shape,
        values=TensorProto(name=constant.name or "hollow", data_type=elem_type, dims=[0]),
        indices=TensorProto(data_type=TensorProto.INT64, dims=[0]),
    )
    return AttributeProto(name="sparse_value", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=nothing)
