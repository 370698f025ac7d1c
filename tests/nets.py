"""Small networks for tests: a builder with one method an operator, weights drawn from a seeded generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]


class Net:
    """Collects nodes and initializers; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int = 0, dtype: Any = np.float32, opset: int = 17) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.widths: dict[str, int] = {}

    def input(self, *shape: int | str, name: str = "x") -> str:
        self.inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(self.dtype), list(shape)))
        if len(shape) > 1 and isinstance(shape[1], int):
            self.widths[name] = shape[1]
        return name

    def const(self, array: Any, name: str = "", *, exact: bool = False) -> str:
        """An initializer; floats take the network's type unless ``exact``."""
        value = np.asarray(array)
        value = value.astype(self.dtype) if value.dtype.kind == "f" and not exact else value
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Array:
        return self.rng.uniform(low, high, shape)

    def op(self, kind: str, *inputs: str, out: str = "", outputs: int = 1, **attrs: Any) -> str:
        name = out or f"t{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind.lower()}{len(self.nodes)}", **attrs))
        if inputs:
            self.widths[name] = self.widths.get(inputs[0], 0)
        return name

    def conv(self, x: str, width: int, kernel: int | Sequence[int] = 3, *, bias: bool = True, group: int = 1, **attrs: Any) -> str:
        """Conv; ``pad`` sets all pads at once."""
        taps = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        pad = attrs.pop("pad", None)
        if pad is not None:
            attrs["pads"] = [pad] * (2 * len(taps))
        weight = self.const(self.random(width, self.widths[x] // group, *taps))
        names = [x, weight, *([self.const(self.random(width))] if bias else [])]
        out = self.op("Conv", *names, group=group, kernel_shape=list(taps), **attrs)
        self.widths[out] = width
        return out

    def bn(self, x: str) -> str:
        return self.bn_of(x, self.widths[x])

    def bn_of(self, x: str, c: int) -> str:
        scale, var = self.const(self.random(c, low=0.5, high=1.5)), self.const(self.random(c, low=0.5, high=2.0))
        return self.op("BatchNormalization", x, scale, self.const(self.random(c)), self.const(self.random(c)), var)

    def model(self, *outputs: str, ir: int = 9) -> onnx.ModelProto:
        """The model, checked, with its output shapes inferred."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        outs = [helper.make_tensor_value_info(o, kind, None) for o in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, outs, self.initializers)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir)
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        for index, output in enumerate(inferred.graph.output):
            proto.graph.output[index].CopyFrom(output)
        onnx.checker.check_model(proto)
        return proto


def feed_for(proto: onnx.ModelProto, seed: int = 0, dynamic: int = 7) -> dict[str, Array]:
    """Standard normal inputs; dynamic dimensions get ``dynamic``."""
    rng = np.random.default_rng(seed)
    initial = {i.name for i in proto.graph.initializer}
    feed: dict[str, Array] = {}
    for value in proto.graph.input:
        if value.name not in initial:
            kind = value.type.tensor_type
            shape = [d.dim_value if d.HasField("dim_value") else dynamic for d in kind.shape.dim]
            feed[value.name] = rng.standard_normal(shape).astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return feed


def outputs_of(proto: onnx.ModelProto, feed: dict[str, Array]) -> list[Array]:
    """What onnxruntime computes, without optimizing the graph first."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, feed)]


def ops_of(proto: onnx.ModelProto) -> list[str]:
    """Operator types, sorted."""
    return sorted(n.op_type for n in proto.graph.node)


def exact_outputs(proto: onnx.ModelProto, feed: dict[str, Array]) -> list[Array]:
    """The model computed in float64 by ONNX's reference implementation: what rounding errors are measured against."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    for index, tensor in enumerate(proto.graph.initializer):
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor).astype(np.float64)
            wide.graph.initializer[index].CopyFrom(numpy_helper.from_array(value, tensor.name))
    for value in [*wide.graph.input, *wide.graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del wide.graph.value_info[:]
    doubles = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feed.items()}
    return [np.asarray(y) for y in ReferenceEvaluator(wide).run(None, doubles)]
