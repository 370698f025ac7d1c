"""What the runtime makes of the quantized model, read from the graph that it really runs.

A unit that was placed in integers has fused if the float tensor behind it is gone from the optimized graph (or is produced by a
kernel that computes in integers and gives float). What is still there is a float kernel that nobody planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from graphopt.model import Model
from graphopt.passes.quant.placement import Placement
from graphopt.passes.quant.units import Unit
from graphopt.runtime.optimized import optimized_graph

INTEGER = (
    "QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger", "QLinearAdd", "QLinearMul",
    "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearAveragePool", "QLinearGlobalAveragePool",
    "QLinearWhere",
)  # fmt: skip
"""Integer kernels of onnxruntime's CPU provider by the names they have in the optimized graph."""

FLOAT_KERNELS = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "GRU", "LSTM", "RNN")
"""Float operators that multiply activations with weights, likewise."""

BORDER = ("DequantizeLinear", "QuantizeLinear")


@dataclass(frozen=True, slots=True)
class Proof:
    """The comparison of plan and runtime.

    Attributes:
        integer: integer kernels that run, by operator.
        floats: float kernels that run (``FLOAT_KERNELS`` only), by operator.
        borders: how many quantizers and dequantizers of activations are left.
        unplanned: labels of units that were placed in integers and run in float, with the operator that runs.
    """

    integer: dict[str, int]
    floats: dict[str, int]
    borders: int
    unplanned: list[str]


def prove(model: Model, units: Sequence[Unit], placement: Placement) -> Proof:
    """Load ``model`` and compare. Raises ModelError GO030 if onnxruntime does not load it."""
    graph = optimized_graph(model).graph
    nodes = {name: node for node in graph.node for name in node.output if name}
    counts = Counter(node.op_type for node in graph.node)
    unplanned: list[str] = []
    for unit in units:
        if unit.key not in placement.int8 or unit.head.op not in WATCHED:
            continue
        tensors = [t for node in unit.nodes for t in node.outputs]
        made = [_maker(nodes, t.name) for t in tensors if t.name in nodes]
        left = [op for op in made if op not in (*INTEGER, *BORDER)]
        if left:
            unplanned.append(f"{unit.label} runs as {left[0]}")
    return Proof(
        {op: counts[op] for op in INTEGER if counts[op]},
        {op: counts[op] for op in FLOAT_KERNELS if counts[op]},
        _activation_borders(graph),
        unplanned,
    )


def _maker(nodes: Mapping[str, onnx.NodeProto], name: str) -> str:
    """The operator that computes a tensor: the runtime puts a Reshape behind a Gemm that it made of MatMul and Add."""
    node = nodes[name]
    while node.op_type == "Reshape" and node.input[0] in nodes:
        node = nodes[node.input[0]]
    return node.op_type


WATCHED = frozenset((
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "Sigmoid", "LeakyRelu", "Softmax", "AveragePool", "GlobalAveragePool",
    "Where",
))  # fmt: skip
"""Operators that change their name when they become integer kernels; those that only move data keep it."""


def _activation_borders(graph: onnx.GraphProto) -> int:
    """Quantizers and dequantizers that run on activations (those of constants are folded or read initializers)."""
    constant = {i.name for i in graph.initializer}
    return sum(1 for n in graph.node if n.op_type in BORDER and n.input[0] not in constant)
