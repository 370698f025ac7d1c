"""Normalisation, scales, shifts and sums as affine maps (ONNX operator specification)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.ops import attrs
from graphopt.ops.affine.form import Refused
from graphopt.ops.affine.frames import diagonal
from graphopt.ops.affine.layout import layout
from graphopt.ops.affine.maps import identity_of
from graphopt.ops.affine.terms import NOT_CONSTANT, Linear, Part, Sum, Term, float_node, is_float
from graphopt.ops.facts import Facts, Shape, constant_input, has_input


def batch_norm(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """BatchNormalization in inference form: y = scale (x - mean) / sqrt(var + epsilon) + B."""
    shape = facts.shape(node.inputs[0])
    if attrs.int_(node, "training_mode", 0):
        return Refused("batch-norm-training", "a batch normalisation that updates its statistics")
    if not attrs.int_(node, "spatial", 1):
        return Refused("batch-norm-per-element", "a batch normalisation with statistics for each element")
    values = [constant_input(node, i, facts) for i in range(1, 5)]
    known = [v for v in values if v is not None]
    if len(known) < 4:
        return NOT_CONSTANT
    scale, shift, mean, variance = (np.asarray(v, np.float64).reshape(-1) for v in known)
    if shape is None:
        return Refused("unknown-shape", "how many axes its input has is not known")
    if len(shape) < 2 or len({v.size for v in (scale, shift, mean, variance)}) != 1:
        return None
    spread = variance + attrs.float_(node, "epsilon", 1e-5)
    if not np.all(spread > 0):
        return Refused("batch-norm-variance", "a batch normalisation with a variance of zero or less")
    factor = scale / np.sqrt(spread)
    names = tuple(t.name for t in node.inputs[1:5])
    return Linear(0, (diagonal(len(shape), 1, factor, shift - mean * factor, names, "batch_norm"),))


def identity(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Identity of a float tensor."""
    shape = facts.shape(node.inputs[0])
    axis = layout(node, shape)
    if shape is None or axis is None or not float_node(node, facts) or not isinstance(shape[axis], int):
        return None
    return Linear(0, (identity_of(len(shape), axis, int(shape[axis] or 0)),))


def dropout(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Dropout at inference, without its mask."""
    if any(t.name for t in node.outputs[1:]) or (facts.opset < 7 and not attrs.int_(node, "is_test", 0)):
        return None
    training = constant_input(node, 2, facts)
    if has_input(node, 2) and (training is None or bool(np.any(training))):
        return None
    return identity(node, facts)


def add(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Add and Sum: a shift per channel, or a sum of tensors."""
    return _affine_pair(node, facts, (1.0,) * len(node.inputs))


def subtract(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Sub."""
    return _affine_pair(node, facts, (1.0, -1.0))


def negate(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Neg."""
    return _scaled(node, facts, 0, np.asarray(-1.0))


def multiply(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Mul by a constant."""
    values = [facts.value(t) for t in node.inputs[:2]]
    if len(values) != 2 or (values[0] is None) == (values[1] is None):
        return None
    source = 0 if values[0] is None else 1
    factor = values[1 - source]
    return None if factor is None else _scaled(node, facts, source, factor)


def divide(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Div by a constant without zeros."""
    divisor = constant_input(node, 1, facts)
    if divisor is None or facts.value(node.inputs[0]) is not None or not is_float(divisor):
        return None
    if not np.all(divisor):
        return Refused("division-by-zero", "a division by a constant that holds a zero")
    return _scaled(node, facts, 0, 1.0 / np.asarray(divisor, np.float64))


def _affine_pair(node: gs.Node, facts: Facts, factors: Sequence[float]) -> Term | Refused | None:
    if not float_node(node, facts) or len(node.inputs) != len(factors):
        return None
    values = [facts.value(t) for t in node.inputs]
    moving = [i for i, v in enumerate(values) if v is None]
    if len(moving) > 1:
        return Sum(tuple(Part(i, factors[i]) for i in moving)) if len(moving) == len(values) else None
    if len(moving) != 1 or len(values) != 2:
        return None
    source, other = moving[0], values[1 - moving[0]]
    if other is None:
        return None
    shift = factors[1 - source] * np.asarray(other, np.float64)
    found = _per_channel(node, facts.shape(node.inputs[source]), shift)
    if found is None:
        return None
    rank, axis, vector = found
    names = (node.inputs[1 - source].name,)
    return Linear(source, (diagonal(rank, axis, np.full(vector.shape, factors[source]), vector, names, "shift"),))


def _scaled(node: gs.Node, facts: Facts, source: int, factor: NDArray[Any]) -> Term | None:
    if not float_node(node, facts):
        return None
    found = _per_channel(node, facts.shape(node.inputs[source]), np.asarray(factor, np.float64))
    if found is None:
        return None
    rank, axis, vector = found
    names = tuple(t.name for i, t in enumerate(node.inputs) if i != source)
    return Linear(source, (diagonal(rank, axis, vector, np.zeros(vector.shape), names, "scale"),))


def _per_channel(node: gs.Node, shape: Shape | None, values: NDArray[Any]) -> tuple[int, int, NDArray[Any]] | None:
    """Rank, channel axis and one value a channel of a broadcast operand; None if it varies along another axis too."""
    if shape is None or len(shape) < 2 or values.ndim > len(shape):
        return None
    rank = len(shape)
    full = (1,) * (rank - values.ndim) + values.shape
    wide = [a for a, size in enumerate(full) if size != 1]
    if len(wide) > 1 or values.size == 0:
        return None
    axis = wide[0] if wide else layout(node, shape)
    if axis is None or axis not in (1, rank - 1):
        return None
    channels = shape[axis]
    if not isinstance(channels, int) or (wide and channels != full[axis]):
        return None
    return rank, axis, np.broadcast_to(values.reshape(-1), (channels,))
