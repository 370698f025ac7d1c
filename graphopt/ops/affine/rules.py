"""The affine map of each operator, read off its attributes and constant operands (ONNX operator specification).

A rule returns a ``Linear`` (a map of one input), a ``Sum`` (a weighted sum of inputs), a ``Refused`` where the operator would be
affine but for a reason worth telling, or None where it simply is not.

Weights are not read here: their shape and type are enough to say what a map is, and most of them stay where they are. Biases,
scales and shifts are small and are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from graphopt.ops import attrs
from graphopt.ops.affine.form import Form, Refused, pointwise
from graphopt.ops.affine.maps import Kernel, Leaf, identity_of
from graphopt.ops.facts import Facts, Shape, constant_input, has_input, positive, static

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
_NOT_CONSTANT = Refused("weights-not-constant", "the weights are computed at run time or may be overridden by the caller")


@dataclass(frozen=True, slots=True)
class Linear:
    """The output is ``map`` of input ``source``."""

    source: int
    map: Leaf


@dataclass(frozen=True, slots=True)
class Sum:
    """The output is the sum of inputs, each times a factor: pairs (input index, factor)."""

    parts: tuple[tuple[int, float], ...]


Term = Linear | Sum
AffineRule = Callable[[gs.Node, Facts], Term | Refused | None]


@dataclass(frozen=True, slots=True)
class _Weight:
    """A constant operand: its shape, and its values when somebody asks."""

    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]


def _weight(node: gs.Node, index: int, facts: Facts) -> _Weight | Refused | None:
    """Input ``index`` if it is a constant of floats with elements; None if it is another constant, Refused if it is none."""
    if not has_input(node, index):
        return None
    tensor = node.inputs[index]
    if isinstance(tensor, gs.Constant):
        shape, is_float = static(facts.shape(tensor)), facts.dtype(tensor) in FLOATS

        def read() -> NDArray[Any]:
            return np.asarray(facts.value(tensor))

        return _Weight(shape, read) if shape is not None and is_float and all(shape) else None
    value = facts.value(tensor)
    if value is None:
        return _NOT_CONSTANT
    return _Weight(value.shape, lambda: value) if _is_float(value) and value.size else None


# -- convolutions ------------------------------------------------------------------------------------------------------------


def conv(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Conv (1-D to 3-D, grouped, dilated)."""
    read = _weight_and_bias(node, facts)
    if read is None or isinstance(read, Refused):
        return read
    weight, bias, sources = read
    groups, n = attrs.int_(node, "group", 1), len(weight.shape) - 2
    kernel = weight.shape[2:]
    dilations = attrs.ints(node, "dilations", (1,) * n)
    strides = attrs.ints(node, "strides", (1,) * n)
    if groups < 1 or weight.shape[0] % groups or len(dilations) != n or len(strides) != n:
        return Refused("attributes", "group, strides or dilations do not fit the weights")
    if not (positive(dilations) and positive(strides) and positive(kernel)):
        return Refused("attributes", "a stride, dilation or kernel extent of zero or less")
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    pads = _pads(node, facts, extent, strides)
    if isinstance(pads, Refused):
        return pads
    grid = tuple(d if k > 1 else 0 for k, d in zip(kernel, dilations, strict=True))
    biased = bias is not None and bool(np.any(bias))
    form = Form(n + 2, 1, weight.shape[1] * groups, weight.shape[0], groups, extent, grid, strides, pads[0], pads[1], biased)
    return Linear(0, Leaf(form, lambda xp: _spread(weight.read(), bias, form, form.c_out, xp), sources))


def conv_transpose(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """ConvTranspose with explicit pads; its kernel keeps the operator's own layout [C_in, C_out/groups, k...]."""
    read = _weight_and_bias(node, facts)
    if read is None or isinstance(read, Refused):
        return read
    weight, bias, sources = read
    groups, n = attrs.int_(node, "group", 1), len(weight.shape) - 2
    kernel = weight.shape[2:]
    dilations = attrs.ints(node, "dilations", (1,) * n)
    strides = attrs.ints(node, "strides", (1,) * n)
    extra = attrs.ints(node, "output_padding", (0,) * n)
    pads = attrs.ints(node, "pads", (0,) * (2 * n))
    if groups < 1 or weight.shape[0] % groups or {len(dilations), len(strides), len(extra), len(pads) / 2} != {n}:
        return Refused("attributes", "group, strides, dilations or pads do not fit the weights")
    if not (positive(dilations) and positive(strides) and positive(kernel)) or "output_shape" in node.attrs:
        return Refused("attributes", "an output shape instead of pads, or a stride, dilation or kernel extent of zero")
    if attrs.str_(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return Refused("attributes", "a transposed convolution with automatic padding")
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    grid = tuple(d if k > 1 else 0 for k, d in zip(kernel, dilations, strict=True))
    c_out = weight.shape[1] * groups
    biased = bias is not None and bool(np.any(bias))
    form = Form(
        n + 2, 1, weight.shape[0], c_out, groups, extent, grid, strides, pads[:n], pads[n:], biased, True, extra
    )  # fmt: skip
    return Linear(0, Leaf(form, lambda xp: _spread(weight.read(), bias, form, c_out, xp), sources))


def _weight_and_bias(node: gs.Node, facts: Facts) -> tuple[_Weight, NDArray[Any] | None, tuple[str, ...]] | Refused | None:
    if not has_input(node, 0):
        return None
    weight, bias = _weight(node, 1, facts), constant_input(node, 2, facts)
    if weight is None or isinstance(weight, Refused):
        return weight
    if has_input(node, 2) and bias is None:
        return _NOT_CONSTANT
    if len(weight.shape) < 3:
        return None
    sources = tuple(node.inputs[i].name for i in (1, 2) if has_input(node, i))
    return weight, bias, sources


def _spread(weight: NDArray[Any], bias: NDArray[Any] | None, form: Form, c_out: int, xp: Any) -> Kernel:
    """Put a dilated kernel on its full extent."""
    dense = _float64(weight, xp)
    if any(g > 1 for g in form.grid):
        steps = tuple(slice(None, None, g or 1) for g in form.grid)
        taps, dense = dense, xp.zeros((*weight.shape[:2], *form.extent), dtype=xp.float64)
        dense[(..., *steps)] = taps
    return Kernel(dense, xp.zeros((c_out,), dtype=xp.float64) if bias is None else _float64(bias, xp))


def _float64(array: NDArray[Any], xp: Any) -> Any:
    return xp.asarray(np.array(array, np.float64))


def _pads(
    node: gs.Node, facts: Facts, extent: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | Refused:
    """Begin and end pads; automatic ones need the input's size (ONNX: SAME_UPPER puts the odd one at the end)."""
    n = len(extent)
    auto = attrs.str_(node, "auto_pad", "NOTSET")
    if auto == "VALID":
        return (0,) * n, (0,) * n
    if auto == "NOTSET":
        pads = attrs.ints(node, "pads", (0,) * (2 * n))
        if len(pads) != 2 * n or min(pads, default=0) < 0:
            return Refused("attributes", "pads that do not fit the kernel, or negative ones")
        return pads[:n], pads[n:]
    sizes = static((facts.shape(node.inputs[0]) or (None,))[2:])
    if sizes is None or len(sizes) != n:
        return Refused("dynamic-auto-pad", "automatic padding of an input whose size is not known")
    total = [max((-(-h // s) - 1) * s + e - h, 0) for h, s, e in zip(sizes, strides, extent, strict=True)]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def average_pool(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """AveragePool as a depthwise kernel of equal weights: exact where padded zeros count, or nothing is padded."""
    shape = facts.shape(node.inputs[0])
    kernel = attrs.ints(node, "kernel_shape", ())
    n = len(kernel)
    if shape is None or len(shape) != n + 2 or not isinstance(shape[1], int) or not positive(kernel):
        return None
    strides = attrs.ints(node, "strides", (1,) * n)
    dilations = attrs.ints(node, "dilations", (1,) * n)
    if attrs.int_(node, "ceil_mode", 0) or set(dilations) - {1} or len(strides) != n or not positive(strides):
        return Refused("pool-rounding", "an average pool that rounds its size up, or is dilated")
    pads = _pads(node, facts, kernel, strides)
    if isinstance(pads, Refused):
        return pads
    if (any(pads[0]) or any(pads[1])) and not attrs.int_(node, "count_include_pad", 0):
        return Refused("pool-excludes-pad", "an average pool that leaves padding out of its mean is no convolution at the border")
    channels = shape[1]
    grid = tuple(1 if k > 1 else 0 for k in kernel)
    form = Form(n + 2, 1, channels, channels, channels, kernel, grid, strides, pads[0], pads[1])

    def build(xp: Any) -> Kernel:
        weight = xp.zeros((channels, 1, *kernel), dtype=xp.float64) + 1.0 / math.prod(kernel)
        return Kernel(weight, xp.zeros((channels,), dtype=xp.float64))

    return Linear(0, Leaf(form, build))


def pad(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Pad with zeros on spatial axes: the identity with pads."""
    shape = facts.shape(node.inputs[0])
    if shape is None or len(shape) < 3 or not isinstance(shape[1], int):
        return None
    if attrs.str_(node, "mode", "constant") != "constant":
        return Refused("pad-mode", "padding that repeats or reflects the input is no convolution")
    if facts.opset >= 11:
        amounts, fill = constant_input(node, 1, facts), constant_input(node, 2, facts)
        if amounts is None or (has_input(node, 2) and fill is None) or has_input(node, 3):
            return _NOT_CONSTANT
        pads, value = tuple(int(v) for v in amounts.reshape(-1)), float(fill.reshape(-1)[0]) if fill is not None else 0.0
    else:
        pads, value = attrs.ints(node, "pads", ()), attrs.float_(node, "value", 0.0)
    rank = len(shape)
    if len(pads) != 2 * rank or min(pads) < 0 or any(pads[:2]) or any(pads[rank : rank + 2]):
        return None
    if value != 0.0:
        return Refused("pad-value", "padding with a value other than zero")
    form = pointwise(rank, 1, shape[1], biased=False)
    form = Form(
        rank, 1, shape[1], shape[1], shape[1], form.extent, form.grid, form.stride, pads[2:rank], pads[rank + 2 :]
    )  # fmt: skip
    unit = identity_of(rank, 1, shape[1])
    return Linear(0, Leaf(form, unit.build))


# -- matrix products ---------------------------------------------------------------------------------------------------------


def gemm(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Gemm with a constant right factor: y = alpha x B + beta C."""
    weight, bias = _weight(node, 1, facts), constant_input(node, 2, facts)
    if attrs.int_(node, "transA", 0) or weight is None:
        return None
    if isinstance(weight, Refused) or (has_input(node, 2) and bias is None):
        return _NOT_CONSTANT
    if len(weight.shape) != 2:
        return None
    across = bool(attrs.int_(node, "transB", 0))
    c_out, c_in = weight.shape if across else weight.shape[::-1]
    if bias is not None and bias.size not in (1, c_out):
        return Refused("bias-per-row", "a Gemm whose bias differs from row to row")
    if bias is not None and bias.ndim == 2 and bias.shape[0] != 1:
        return Refused("bias-per-row", "a Gemm whose bias differs from row to row")
    alpha, beta = attrs.float_(node, "alpha", 1.0), attrs.float_(node, "beta", 1.0)
    shift = None if bias is None else np.broadcast_to(bias.reshape(-1), (c_out,))
    form = Form(2, 1, c_in, c_out, 1, biased=shift is not None and bool(np.any(shift)) and beta != 0.0)

    def build(xp: Any) -> Kernel:
        offset = xp.zeros((c_out,), dtype=xp.float64) if shift is None else beta * _float64(shift, xp)
        matrix = weight.read()
        return Kernel(alpha * _float64(matrix if across else matrix.T, xp), offset)

    return Linear(0, Leaf(form, build, tuple(node.inputs[i].name for i in (1, 2) if has_input(node, i))))


def matmul(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """MatMul with a constant matrix on the right."""
    weight, shape = _weight(node, 1, facts), facts.shape(node.inputs[0])
    if weight is None or isinstance(weight, Refused) or shape is None or len(shape) < 2 or len(weight.shape) != 2:
        return None
    c_in, c_out = weight.shape
    form = Form(len(shape), len(shape) - 1, c_in, c_out, 1)

    def build(xp: Any) -> Kernel:
        return Kernel(_float64(weight.read().T, xp), xp.zeros((c_out,), dtype=xp.float64))

    return Linear(0, Leaf(form, build, (node.inputs[1].name,)))


# -- scale, shift, sum -------------------------------------------------------------------------------------------------------


def batch_norm(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """BatchNormalization in inference form: y = scale (x - mean) / sqrt(var + epsilon) + B."""
    shape = facts.shape(node.inputs[0])
    if attrs.int_(node, "training_mode", 0) or any(t.name for t in node.outputs[1:]):
        return Refused("batch-norm-training", "a batch normalisation that updates its statistics")
    if not attrs.int_(node, "spatial", 1):
        return Refused("batch-norm-per-element", "a batch normalisation with statistics for each element")
    values = [constant_input(node, i, facts) for i in range(1, 5)]
    known = [v for v in values if v is not None]
    if len(known) < 4:
        return _NOT_CONSTANT
    scale, shift, mean, variance = (np.asarray(v, np.float64).reshape(-1) for v in known)
    if shape is None:
        return Refused("unknown-shape", "the rank of what it normalises is not known")
    if len(shape) < 2 or len({v.size for v in (scale, shift, mean, variance)}) != 1:
        return None
    spread = variance + attrs.float_(node, "epsilon", 1e-5)
    if not np.all(spread > 0):
        return Refused("batch-norm-variance", "a batch normalisation with a variance of zero or less")
    factor = scale / np.sqrt(spread)
    names = tuple(t.name for t in node.inputs[1:5])
    return Linear(0, _diagonal(len(shape), 1, factor, shift - mean * factor, names))


def identity(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Identity of a float tensor."""
    shape = facts.shape(node.inputs[0])
    axis = _layout(node, shape)
    if shape is None or axis is None or not _float_node(node, facts) or not isinstance(shape[axis], int):
        return None
    return Linear(0, identity_of(len(shape), axis, int(shape[axis] or 0)))


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
    if divisor is None or facts.value(node.inputs[0]) is not None or not _is_float(divisor):
        return None
    if not np.all(divisor):
        return Refused("division-by-zero", "a division by a constant that holds a zero")
    return _scaled(node, facts, 0, 1.0 / np.asarray(divisor, np.float64))


def _affine_pair(node: gs.Node, facts: Facts, factors: Sequence[float]) -> Term | Refused | None:
    if not _float_node(node, facts) or len(node.inputs) != len(factors):
        return None
    values = [facts.value(t) for t in node.inputs]
    moving = [i for i, v in enumerate(values) if v is None]
    if len(moving) > 1:
        return Sum(tuple((i, factors[i]) for i in moving)) if len(moving) == len(values) else None
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
    return Linear(source, _diagonal(rank, axis, np.full(vector.shape, factors[source]), vector, (node.inputs[1 - source].name,)))


def _scaled(node: gs.Node, facts: Facts, source: int, factor: NDArray[Any]) -> Term | None:
    if not _float_node(node, facts):
        return None
    found = _per_channel(node, facts.shape(node.inputs[source]), np.asarray(factor, np.float64))
    if found is None:
        return None
    rank, axis, vector = found
    names = tuple(t.name for i, t in enumerate(node.inputs) if i != source)
    return Linear(source, _diagonal(rank, axis, vector, np.zeros(vector.shape), names))


def _diagonal(rank: int, axis: int, factor: NDArray[Any], shift: NDArray[Any], names: tuple[str, ...]) -> Leaf:
    form = pointwise(rank, axis, factor.size, biased=bool(np.any(shift)))

    def build(xp: Any) -> Kernel:
        return Kernel(_float64(factor, xp).reshape(-1, 1, *form.extent), _float64(shift, xp))

    return Leaf(form, build, names)


def _per_channel(node: gs.Node, shape: Shape | None, values: NDArray[Any]) -> tuple[int, int, NDArray[Any]] | None:
    """Rank, channel axis and one value a channel of a broadcast operand; None if it varies along another axis too."""
    if shape is None or len(shape) < 2 or values.ndim > len(shape):
        return None
    rank = len(shape)
    full = (1,) * (rank - values.ndim) + values.shape
    wide = [a for a, size in enumerate(full) if size != 1]
    if len(wide) > 1 or values.size == 0:
        return None
    axis = wide[0] if wide else _layout(node, shape)
    if axis is None or axis not in (1, rank - 1):
        return None
    channels = shape[axis]
    if not isinstance(channels, int) or (wide and channels != full[axis]):
        return None
    return rank, axis, np.broadcast_to(values.reshape(-1), (channels,))


_LAST_AXIS = frozenset({"MatMul", "LayerNormalization"})
_FIRST_AXIS = frozenset({"Conv", "ConvTranspose", "BatchNormalization", "AveragePool", "MaxPool", "PRelu", "Gemm"})
_SEARCHED = 8


def _layout(node: gs.Node, shape: Shape | None) -> int | None:
    """Where a scalar's neighbours have their channels: axis 1, or the last one beside matrix products."""
    if shape is None or len(shape) < 2:
        return None
    if len(shape) == 2:
        return 1
    for step in (_before, _after):
        near = step(node)
        for _ in range(_SEARCHED):
            if near is None or near.op in _FIRST_AXIS:
                break
            if near.op in _LAST_AXIS:
                return len(shape) - 1
            near = step(near)
    return 1


def _before(node: gs.Node) -> gs.Node | None:
    return next((t.inputs[0] for t in node.inputs if t.inputs and t.inputs[0].op != "Constant"), None)


def _after(node: gs.Node) -> gs.Node | None:
    return next((t.outputs[0] for t in node.outputs if t.outputs), None)


def _is_float(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _float_node(node: gs.Node, facts: Facts) -> bool:
    return facts.dtype(node.outputs[0]) in FLOATS or any(facts.dtype(t) in FLOATS for t in node.inputs)
