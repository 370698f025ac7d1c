"""What is known of channels without running the graph: those whose every element is one number.

A row of a mixer without weights gives its bias; a batch normalisation of scale 0 its shift; a multiplication by a constant mask of
zeros gives 0. From there values are followed: functions are computed on them (by the runtime, with the node's own attributes),
moves of data and pools keep them, sums need all terms, a depthwise convolution without a border adds up its taps. Zeros go further
than other numbers: through products with anything finite, through paddings with zeros, through mixers that have nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx.helper import (
    make_attribute,
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_value_info,
    np_dtype_to_tensor_dtype,
)

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import ChannelGraph, rows_of
from graphopt.errors import GraphoptError
from graphopt.model import node_key
from graphopt.ops import Facts, attrs, lookup
from graphopt.ops.channels import Labels, Layout, Mixer
from graphopt.runtime import Session

Values = Mapping[int, float]
"""By channel (representative of its class) the number that all its elements are."""

NOTHING: Values = {}
"""Of tensors of which nothing is known."""

COMPUTED = frozenset(
    ("Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Clip", "Cos", "Cosh",
     "DequantizeLinear", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Mean",
     "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid",
     "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu")
)  # fmt: skip
"""Functions of one element of each operand."""

_KEPT = frozenset(
    ("DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool",
     "ReduceMax", "ReduceMean", "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
     "Unsqueeze")
)  # fmt: skip
"""Of elements that are all one number they make elements that are that number."""

_ONLY_ZERO = frozenset(("AveragePool", "LpPool", "ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare", "Resize", "Upsample"))
"""... only if it is 0."""


def padded(node: gs.Node) -> bool:
    """Whether a convolution reads zeros at a border."""
    return any(attrs.ints(node, "pads", ())) or attrs.str_(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")


class ChannelValues:
    """The channels of every tensor that are known numbers."""

    def __init__(self, graph: ChannelGraph) -> None:
        self._graph = graph
        self._facts: Facts = Analyses(graph.model).get(Shapes())
        self._found: dict[str, Values] = {}
        self._mixers = {m.node: m for m in graph.flow.mixers}
        for node in graph.model.graph.nodes:
            values = self._step(node) if node.outputs and node.outputs[0].name else NOTHING
            for index, output in enumerate(node.outputs):
                # A mask of Dropout or the indices of MaxPool are other numbers.
                mine = values if index == 0 or node.op == "Split" else NOTHING
                self._found[output.name] = {c: v for c, v in mine.items() if c in self._classes(output)} if mine else mine

    def of(self, node: gs.Node, index: int) -> Values:
        """The known channels of what a node reads as input ``index``."""
        tensor = node.inputs[index]
        if self._graph.model.value(tensor) is None:
            return self._found.get(tensor.name, NOTHING)
        value, layout = self._graph.model.value(tensor), self._graph.flow.operand(node, index)
        if value is None or layout is None or value.dtype.kind not in "fiu" or not value.size:
            return NOTHING
        return self._constant(value, layout)

    def _constant(self, value: NDArray[Any], layout: Layout) -> Values:
        found: dict[int, float] = {}
        several: set[int] = set()
        for field in layout.fields:
            axis = layout.axis_of(field.at[0])
            if len(field.at) != 1 or len(layout.axes[axis]) != 1:
                continue
            wide = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
            low, high = wide.min(1), wide.max(1)
            for channel, first, last in zip(
                self._graph.flow.table.find(field.labels).tolist(), low.tolist(), high.tolist(), strict=True
            ):
                if first != last or found.setdefault(channel, float(first)) != first:
                    several.add(channel)
        return {c: v for c, v in found.items() if c not in several}

    def _classes(self, tensor: gs.Tensor) -> set[int]:
        layout = self._graph.flow.layout(tensor)
        found = [f.labels.reshape(-1) for f in layout.fields] if layout is not None else []
        return set(self._graph.flow.table.find(np.concatenate(found)).tolist()) if found else set()

    def _step(self, node: gs.Node) -> Values:
        mixer = self._mixers.get(node_key(node))
        if mixer is not None:
            return self._mixed(node, mixer) if mixer.linear else NOTHING
        row = lookup(node, self._facts)
        if row is None or row.channels is None or node.domain not in (None, "", "ai.onnx"):
            return NOTHING
        if node.op in _KEPT:
            return self.of(node, 0)
        if node.op in _ONLY_ZERO:
            return {c: v for c, v in self.of(node, 0).items() if v == 0}
        if node.op == "BatchNormalization":
            return self._normalised(node)
        if node.op == "Concat":
            return self._joined(node)
        if node.op == "Pad":
            return self._padded(node)
        return self._computed(node) if node.op in COMPUTED else NOTHING

    def _joined(self, node: gs.Node) -> Values:
        parts = [(self.of(node, k), self._operand_classes(node, k)) for k in range(len(node.inputs))]
        known = {c: v for values, _ in parts for c, v in values.items()}
        return {c: v for c, v in known.items() if all(values.get(c) == v for values, classes in parts if c in classes)}

    def _operand_classes(self, node: gs.Node, index: int) -> set[int]:
        layout = self._graph.flow.operand(node, index)
        found = [f.labels.reshape(-1) for f in layout.fields] if layout is not None else []
        return set(self._graph.flow.table.find(np.concatenate(found)).tolist()) if found else set()

    def _padded(self, node: gs.Node) -> Values:
        """What is padded with the same number, or with copies."""
        if attrs.str_(node, "mode", "constant") != "constant":
            return self.of(node, 0)
        named = len(node.inputs) > 2 and bool(node.inputs[2].name)
        fill = self._graph.model.value(node.inputs[2]) if named else np.asarray(attrs.float_(node, "value", 0.0))
        if fill is None or fill.size != 1:
            return NOTHING
        return {c: v for c, v in self.of(node, 0).items() if v == float(fill.reshape(-1)[0])}

    def _normalised(self, node: gs.Node) -> Values:
        scale, shift, mean, variance = (self.of(node, k) for k in range(1, 5))
        data, epsilon = self.of(node, 0), attrs.float_(node, "epsilon", 1e-5)
        found: dict[int, float] = {}
        for channel, factor in scale.items():
            known = channel in shift and channel in mean and channel in variance
            if factor == 0 and channel in shift:
                found[channel] = shift[channel]
            elif known and channel in data:
                found[channel] = (data[channel] - mean[channel]) / (variance[channel] + epsilon) ** 0.5 * factor + shift[channel]
        return found

    def _mixed(self, node: gs.Node, mixer: Mixer) -> Values:
        """Rows of zeros, and rows that read nothing but zeros."""
        weight = self._graph.weight(mixer)
        if weight is None or weight.ndim < 2:
            return NOTHING
        data: Values = NOTHING if mixer.data is None else self.of(node, mixer.data)
        silent = np.array(weight != 0)
        if mixer.groups == 1:
            columns = self._graph.flow.operand(node, mixer.weight)
            for field in columns.fields_on(mixer.columns) if columns is not None else ():
                zero = [data.get(c) == 0 for c in self._graph.flow.table.find(field.labels.reshape(-1)).tolist()]
                silent[(slice(None),) * mixer.columns + (np.asarray(zero),)] = False
        rows = rows_of(self._graph.flow, node, mixer)
        if mixer.blockwise and node.op == "Conv" and weight.shape[1] == 1 and not padded(node):
            return self._depthwise(node, mixer, weight, rows, data)
        alive = np.moveaxis(silent, mixer.rows, 0).reshape(weight.shape[mixer.rows], -1).any(1)
        if rows.size != alive.size or (mixer.blockwise and not mixer.rows_in_data_order):
            return NOTHING
        if mixer.blockwise and weight.shape[mixer.columns] == 1:
            alive &= np.asarray([data.get(c) != 0 for c in rows.tolist()])
        return self._bias(node, mixer, set(rows[~alive].tolist()) - set(rows[alive].tolist()))

    def _depthwise(self, node: gs.Node, mixer: Mixer, weight: NDArray[Any], rows: Labels, data: Values) -> Values:
        """What a depthwise convolution without a border makes of channels that are one number, or has no taps for."""
        taps = weight.reshape(weight.shape[0], -1).astype(np.float64)
        made = [
            0.0 if not t.any() else t.sum() * data[c] if c in data else np.nan for t, c in zip(taps, rows.tolist(), strict=True)
        ]
        bias = self._bias(node, mixer, set(rows.tolist()))
        found: dict[int, float] = {}
        several = {c for c in rows.tolist() if c not in bias}
        for c, value in zip(rows.tolist(), made, strict=True):
            if found.setdefault(c, value) != value:  # nan is not equal to itself
                several.add(c)
        return {c: v + bias[c] for c, v in found.items() if c not in several}

    def _bias(self, node: gs.Node, mixer: Mixer, quiet: set[int]) -> Values:
        """Of the channels ``quiet`` the bias, 0 where there is none; nothing of those whose elements have several biases."""
        index = mixer.bias
        if index is None or index >= len(node.inputs) or not node.inputs[index].name:
            return dict.fromkeys(quiet, 0.0)
        value = self._graph.model.value(node.inputs[index])
        if value is None:
            return NOTHING
        if not value.any():
            return dict.fromkeys(quiet, 0.0)
        beta = attrs.float_(node, "beta", 1.0) if node.op == "Gemm" else 1.0
        return {c: beta * v for c, v in self.of(node, index).items() if c in quiet}

    def _computed(self, node: gs.Node) -> Values:
        """A function of one element of each operand, on the channels that are known in all of them."""
        operands: list[tuple[Values, float | None]] = []
        for index, tensor in enumerate(node.inputs):
            value = self._graph.model.value(tensor) if tensor.name else None
            scalar = float(value.reshape(-1)[0]) if value is not None and value.size == 1 and value.dtype.kind in "fiu" else None
            operands.append((NOTHING if scalar is not None or not tensor.name else self.of(node, index), scalar))
        channels = sorted({c for values, _ in operands for c in values})
        found: dict[int, float] = {}
        if node.op == "Mul":
            found = {c: 0.0 for c in channels if any(values.get(c) == 0 for values, _ in operands)}
        given = [not t.name or s is not None for t, (_, s) in zip(node.inputs, operands, strict=True)]
        known = [c for c in channels if all(g or c in v for g, (v, _) in zip(given, operands, strict=True))]
        made = self._evaluated(node, operands, known) if known else None
        if made is not None:
            found.update(zip(known, made, strict=True))
        return found

    def _evaluated(self, node: gs.Node, operands: Sequence[tuple[Values, float | None]], known: list[int]) -> list[float] | None:
        feed: list[NDArray[Any] | None] = [
            np.asarray(scalar if scalar is not None else [values[c] for c in known]) if tensor.name else None
            for tensor, (values, scalar) in zip(node.inputs, operands, strict=True)
        ]
        made = evaluated(node, self._facts, feed, (len(known),))
        return None if made is None else [float(v) for v in made.reshape(-1)]


def evaluated(
    node: gs.Node, facts: Facts, operands: Sequence[NDArray[Any] | None], shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """What the runtime makes of a function of one element of each operand (None: left out); channels are the last axis."""
    feed: dict[str, NDArray[Any]] = {}
    names: list[str] = []
    for index, (tensor, operand) in enumerate(zip(node.inputs, operands, strict=True)):
        names.append("" if operand is None else f"x{index}")
        if operand is not None:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(facts.dtype(tensor) or onnx.TensorProto.FLOAT)
            feed[f"x{index}"] = np.asarray(operand, dtype)
    kind = facts.dtype(node.outputs[0]) or onnx.TensorProto.FLOAT
    named: dict[str, Any] = dict(node.attrs) | ({"axis": len(shape) - 1} if "axis" in node.attrs else {})
    try:
        inputs = [make_tensor_value_info(k, np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feed.items()]
        proto = make_node(node.op, names, ["y"])
        proto.attribute.extend(make_attribute(key, value) for key, value in named.items())
        graph = make_graph([proto], "values", inputs, [make_tensor_value_info("y", kind, shape)])
        model = make_model(graph, opset_imports=[make_opsetid("", facts.opset)], ir_version=8)
        made = Session(model, optimize=False, label="values").run(feed)["y"]
    except (GraphoptError, ValueError, TypeError):
        return None
    return np.asarray(made, np.float64).reshape(shape)
