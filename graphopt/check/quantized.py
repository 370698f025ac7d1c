"""Quantizers in a model: what they hold, what runs in integers between them, and the model without them.

A node runs in integers if the target has an integer kernel for its operator, everything that it reads comes from a
DequantizeLinear and everything that reads it is a QuantizeLinear, perhaps behind an activation that the quantizer absorbs (section
``int8`` of the target's file). Operators that only move values need the same; kernels of ``float_output`` may give float.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model, node_key
from graphopt.model.domains import STANDARD
from graphopt.target import Int8Scheme

Q, DQ = "QuantizeLinear", "DequantizeLinear"
_DOMAINS = STANDARD | {"com.microsoft"}
INTEGER_OPS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


@dataclass(frozen=True, slots=True)
class Scale:
    """The constant parameters of a quantizer; ``zero`` is None where none is given (then it is 0 of uint8, or of the input), and
    ``block`` 0 where a scale is not for a block of elements along the axis.
    """

    scale: NDArray[Any]
    zero: NDArray[Any] | None
    axis: int
    block: int = 0

    def same(self, other: Scale) -> bool:
        """Whether both quantize alike."""
        first, second = (np.zeros((), np.int8) if s.zero is None else s.zero for s in (self, other))
        if first.ndim and second.ndim and first.shape != second.shape:
            return False
        kinds = [None if s.zero is None else s.zero.dtype for s in (self, other)]
        alike = kinds[0] == kinds[1] or None in kinds
        per_axis = self.scale.size > 1
        return (
            self.scale.shape == other.scale.shape
            and np.array_equal(self.scale, other.scale)
            and bool(np.all(first == second))
            and alike
            and (not per_axis or (self.axis, self.block) == (other.axis, other.block))
        )


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
        return (n for n in self.model.graph.nodes if n.op in ops and (n.domain in _DOMAINS or not n.domain))

    def scale(self, node: gs.Node) -> Scale | None:
        """The parameters of a quantizing node, None if they are no constants."""
        if len(node.inputs) < 2:
            return None
        scale = self.model.value(node.inputs[1])
        given = len(node.inputs) > 2 and bool(node.inputs[2].name)
        zero = self.model.value(node.inputs[2]) if given else None
        if scale is None or (given and zero is None):
            return None
        return Scale(scale, zero, int(node.attrs.get("axis", 1)), int(node.attrs.get("block_size", 0)))

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


def dequantize(stored: NDArray[Any], scale: Scale) -> NDArray[Any] | None:
    """(q - zero) * scale, element by element; None if there are more or fewer parameters than ``stored`` has channels or blocks."""
    zero = np.zeros((), stored.dtype) if scale.zero is None else scale.zero
    factors, zeros = (_spread(np.asarray(one).astype(np.float64), stored.shape, scale) for one in (scale.scale, zero))
    if factors is None or zeros is None:
        return None
    return np.asarray((stored.astype(np.float64) - zeros) * factors, np.float32)


def _spread(parameter: NDArray[Any], shape: tuple[int, ...], scale: Scale) -> NDArray[Any] | None:
    """A parameter in a shape that broadcasts to ``shape``: one for all, one a channel, or one a block of a channel."""
    if parameter.size == 1:
        return parameter.reshape(())
    rank = len(shape)
    if not -rank <= scale.axis < rank:
        return None
    axis = scale.axis % rank
    if parameter.shape == (shape[axis],):
        return parameter.reshape([-1 if i == axis else 1 for i in range(rank)])
    if scale.block > 0:
        blocks = tuple(-(-n // scale.block) if i == axis else n for i, n in enumerate(shape))
        if parameter.shape == blocks:
            return np.take(np.repeat(parameter, scale.block, axis), np.arange(shape[axis]), axis)
    return None
