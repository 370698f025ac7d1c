"""Multiply-accumulates by operator. One multiply-accumulate is one product added to a sum; data movement and element-wise
arithmetic count none, as is the custom in the field.
"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from graphopt.ops import attrs
from graphopt.ops.equation import spelled
from graphopt.ops.facts import Facts, elements, static


def nothing(node: gs.Node, facts: Facts) -> int | None:
    """No multiply-accumulates."""
    del node, facts
    return 0


def conv(node: gs.Node, facts: Facts) -> int | None:
    """Conv: every output element sums over C_in/group * kernel taps."""
    weight, out = static(facts.shape(node.inputs[1])), elements(facts.shape(node.outputs[0]))
    return None if weight is None or out is None else out * math.prod(weight[1:])


def conv_transpose(node: gs.Node, facts: Facts) -> int | None:
    """ConvTranspose: every input element is spread over C_out/group * kernel taps."""
    weight, source = static(facts.shape(node.inputs[1])), elements(facts.shape(node.inputs[0]))
    return None if weight is None or source is None else source * math.prod(weight[1:])


def gemm(node: gs.Node, facts: Facts) -> int | None:
    """Gemm: M * N * K."""
    left, out = static(facts.shape(node.inputs[0])), elements(facts.shape(node.outputs[0]))
    if left is None or out is None or len(left) != 2:
        return None
    return out * left[0 if attrs.int_(node, "transA", 0) else 1]


def einsum(node: gs.Node, facts: Facts) -> int | None:
    """Einsum of two operands: the product of the sizes of all its letters."""
    named = spelled(node, facts)
    if named is None:
        return None
    sizes: dict[str, int] = {}
    for letters, tensor in zip(named[0], node.inputs, strict=True):
        shape = static(facts.shape(tensor))
        if shape is None:
            return None
        for letter, size in zip(letters, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, size))  # an axis of 1 is spread over the other's
    return math.prod(sizes.values())


def recurrent(node: gs.Node, facts: Facts) -> int | None:
    """RNN, GRU, LSTM: for every step, sample and direction every gate of every unit sums over the input and over all units."""
    data, weight, state = (static(facts.shape(t)) for t in node.inputs[:3])
    if data is None or weight is None or state is None or len(data) != 3:
        return None
    return data[0] * data[1] * (math.prod(weight) + math.prod(state))


def matmul(node: gs.Node, facts: Facts) -> int | None:
    """MatMul: output elements times the contracted dimension."""
    left, out = facts.shape(node.inputs[0]), elements(facts.shape(node.outputs[0]))
    if not left or out is None or not isinstance(left[-1], int):
        return None
    return out * left[-1]
