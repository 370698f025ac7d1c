"""Quantizers in a model: what they hold, what runs in integers between them, and the model without them.

A node runs in integers if the target has an integer kernel for its operator, everything that it reads comes from a
DequantizeLinear and everything that reads it is a QuantizeLinear, perhaps behind an activation that the quantizer absorbs (section
``int8`` of the target's file). Operators that only move values need the same; kernels of ``float_output`` may give float.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import onnx_graphsurgeon as gs

from graphopt.model import Model, node_key
from graphopt.ops.quantizers import DQ, QUANTIZER_DOMAINS, Q, Scale, dequantize, scale_of
from graphopt.target import Int8Scheme

INTEGER_OPS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


class Quantizers:
    """The quantizers of one model, seen with one target's eyes."""

    def __init__(self, model: Model, scheme: Int8Scheme | None) -> None:
        self.model = model
        self.scheme = scheme

    @cached_property
    def present(self) -> bool:
        """Whether the model is quantized at all."""
        return any(n.op in (Q, DQ) or n.op.startswith("QLinear") or n.op in INTEGER_OPS for n in self.model.graph.nodes)

    def nodes(self, *ops: str) -> Iterator[gs.Node]:
        """The quantizing nodes of the main graph."""
        return (n for n in self.model.graph.nodes if n.op in ops and (n.domain in QUANTIZER_DOMAINS))

    def scale(self, node: gs.Node) -> Scale | None:
        """The parameters of a quantizing node, None if they are no constants."""
        return scale_of(self.model, node)

    def dequantized(self, tensor: gs.Tensor) -> gs.Node | None:
        """The DequantizeLinear that makes a tensor."""
        maker = self.model.producer(tensor)
        return maker if maker is not None and maker.op == DQ else None

    def is_weight(self, node: gs.Node) -> bool:
        """Whether a DequantizeLinear stands for a constant: stored in integers, or quantized from a constant."""
        source = node.inputs[0]
        maker = self.model.producer(source)
        if maker is not None and maker.op == Q:
            source = maker.inputs[0]
        return self.model.value(source) is not None

    @cached_property
    def integer(self) -> frozenset[str]:
        """Ids of the nodes that run in integers."""
        found = {node_key(n) for n in self.model.graph.nodes if n.op.startswith("QLinear") or n.op in INTEGER_OPS}
        if self.scheme is None:
            return frozenset(found)
        absorbed: set[str] = set()
        for node in self.model.graph.nodes:
            if node.op in self.scheme.kernels | self.scheme.same_scale and self._reads_integers(node):
                behind = self._written(node)
                if behind is not None:
                    found.add(node_key(node))
                    absorbed.update(behind)
        return frozenset(found | absorbed)

    def _reads_integers(self, node: gs.Node) -> bool:
        moves = self.scheme is not None and node.op in self.scheme.same_scale
        # A bias in float is no obstacle: onnxruntime quantizes it by itself when it loads the model.
        bias = node.inputs[2:3] if node.op in ("Conv", "Gemm") and self._is_constant(node.inputs[2:3]) else []
        data = [t for t in node.inputs[: 1 if moves else None] if t.name and all(t is not b for b in bias)]
        makers = [self.dequantized(t) for t in data]
        plain = [t for t, m in zip(data, makers, strict=True) if m is None and not self._may_be_plain(t)]
        return any(m is not None and not self.is_weight(m) for m in makers) and not plain

    def _is_constant(self, tensors: list[gs.Tensor]) -> bool:
        return all(self.model.value(t) is not None for t in tensors)

    def _may_be_plain(self, tensor: gs.Tensor) -> bool:
        value = self.model.value(tensor)
        return value is not None and value.dtype.kind in "biu"

    def _written(self, node: gs.Node) -> list[str] | None:
        """Ids of the activations that the output's quantizer absorbs; None if the output is needed in float."""
        scheme = self.scheme
        if scheme is None:
            return None
        absorbed: list[str] = []
        for output in [t for t in node.outputs if t.name]:
            users = self.model.users(output)
            if node.op == "MatMul" and len(users) == 1 and users[0].op == "Add" and not self.model.is_output(output):
                absorbed.append(node_key(users[0]))
                users = self.model.users(users[0].outputs[0])
            if len(users) == 1 and users[0].op in scheme.fused_activations and not self.model.is_output(output):
                absorbed.append(node_key(users[0]))
                users = self.model.users(users[0].outputs[0])
            if node.op in scheme.float_output:
                continue
            if self.model.is_output(output) or not users or any(u.op != Q for u in users):
                return None
        return absorbed


def strip(model: Model) -> None:
    """Take the quantizers out, in place: activations are read as they were computed, stored weights become floats."""
    eyes = Quantizers(model, None)
    for node in list(eyes.nodes(DQ)):
        source, result = node.inputs[0], node.outputs[0]
        maker = model.producer(source)
        if maker is not None and maker.op == Q:
            source = maker.inputs[0]
        else:
            stored, scale = model.value(source), eyes.scale(node)
            values = None if stored is None or scale is None else dequantize(stored, scale)
            if values is None:
                continue
            source = model.constant(f"{source.name}_float", values)
        model.replace_uses(result, source)
        model.graph.outputs = [source if t is result else t for t in model.graph.outputs]
        model.remove(node)
    model.edited()
    model.sweep()
