"""Quantizers that a model comes with: what they say is kept, and the graph is read as the float one that training saw behind them.

A QuantizeLinear with its DequantizeLinear is a function of floats, Q(x) = s (clip(round(x / s) + z) - z). ``take`` takes the pairs
out and keeps (s, z) by the tensor that they stood on; weights stay as the floats that they are rounded to, with their integers
beside them. What is planned for a float model can then be planned for this one: what was given is written as it was given, and
what is missing (a residual's quantizer) comes from the data.

Batch normalization behind a kernel with given integers, y = g * conv(x; s_c q) + h per channel c, is folded without rounding
anew, because scales are free where integers are not:

    g_c s_c q = |g_c| s_c * (sign(g_c) q)        as long as -q fits, that is q > -128 where g_c < 0

so the integers are those that training rounded to. (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, fold before they round, which needs no such care, but is not what exporters write.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis import Analyses, Shapes, ShapeTable
from graphopt.model import Model, links, node_label
from graphopt.ops.activation import bounds
from graphopt.ops.quantizers import DQ, Q, Scale, dequantize, is_quantizer, quantize, scale_of
from graphopt.passes.quant.affine import LIMITS, Params
from graphopt.passes.quant.units import FLOAT, Reason
from graphopt.passes.quant.weights import BIAS_LIMIT, Floats, Weight, along

_INTEGER_OPS = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QGemm")


@dataclass(frozen=True, slots=True)
class Given:
    """What the quantizers of a model said.

    Attributes:
        activations: tensor -> its parameters.
        weights: name of the float constant -> its integers.
        whole: activations that nothing reads but through their quantizer.
    """

    activations: dict[str, Params] = field(default_factory=dict[str, Params])
    weights: dict[str, Weight] = field(default_factory=dict[str, Weight])
    whole: set[str] = field(default_factory=set[str])

    def weight(self, name: str, axis: int, s_x: np.float32, bias: NDArray[np.floating] | None) -> Weight | None:
        """The integers of a kernel's weight; None if none are given, or not along ``axis``, or if the bias would not fit."""
        found = self.weights.get(name)
        if found is None or found.axis not in (None, axis):
            return None
        room = float(s_x) * found.scale.astype(np.float64) * BIAS_LIMIT
        return found if bias is None or bool(np.all(np.abs(bias) <= room)) else None


NONE_GIVEN = Given()


def is_quantized(graph: gs.Graph) -> bool:
    """Whether there is any quantizer or integer kernel, of ONNX or of onnxruntime."""
    return any(is_quantizer(n) or is_integer(n) for n in graph.nodes)


def is_integer(node: gs.Node) -> bool:
    """Whether the node computes with integers itself."""
    return node.op in _INTEGER_OPS or node.op.startswith("QLinear")


def is_in_training(model: Model) -> bool:
    """Whether weights are still floats that are rounded in the graph, as quantization-aware training leaves them."""
    return any(n.op == Q and is_quantizer(n) and model.value(n.inputs[0]) is not None for n in model.graph.nodes)


def take(model: Model) -> Given | Reason:
    """Take the quantizers out of the main graph, in place; the reason if some are not what this module's docstring speaks of."""
    facts = Analyses(model).get(Shapes())
    first = sorted(model.graph.nodes, key=lambda n: not is_integer(n))  # the plainest reason of several
    reason = next((r for n in first if (r := _refused(model, n, facts)) is not None), None)
    if reason is not None:
        return reason
    given = Given()
    pairs = [n for n in model.graph.nodes if n.op == DQ and is_quantizer(n)]
    # Those that a graph output takes its name from come first: the tensor before them then takes it too.
    for node in sorted(pairs, key=lambda n: not model.is_output(n.outputs[0])):
        maker = model.producer(node.inputs[0])
        if maker is None or model.value(maker.inputs[0]) is not None:
            _take_constant(model, node, given)
        else:
            _take_activation(model, node, maker.inputs[0], given)
    model.sort()
    model.edited()
    model.sweep()
    for norm in [n for n in model.graph.nodes if n.op == "BatchNormalization" and not n.domain]:
        _fold_norm(model, norm, given)
    return given


# -- what is not taken -------------------------------------------------------------------------------------------------------


def _refused(model: Model, node: gs.Node, facts: ShapeTable) -> Reason | None:
    if is_integer(node):
        return Reason(
            "integer-operators", f"'{node_label(node)}' computes with integers; only quantizers around float operators are read"
        )
    if not is_quantizer(node):
        return None
    scale = scale_of(model, node)
    if scale is None or scale.scale.dtype != np.float32 or not bool(np.all(np.isfinite(scale.scale) & (scale.scale > 0))):
        return Reason("scale", f"the scale of '{node_label(node)}' is not constant, or not a positive float32")
    real = node.inputs[0] if node.op == Q else node.outputs[0]
    if model.value(real) is None and facts.dtype(real) not in (0, FLOAT):
        return Reason("type", f"'{node_label(node)}' stands on a tensor that is not float32")
    return _refused_quantize(model, node, scale) if node.op == Q else _refused_dequantize(model, node, scale)


def _refused_quantize(model: Model, node: gs.Node, scale: Scale) -> Reason | None:
    stored, label = node.outputs[0], node_label(node)
    if model.is_output(stored) or any(u.op != DQ or not is_quantizer(u) or u.inputs[0] is not stored for u in model.users(stored)):
        return Reason("no-pair", f"what '{label}' gives is read by others than DequantizeLinear")
    if _kind(node, scale) not in LIMITS:
        return Reason("type", f"'{label}' is not of 8 bits")
    if model.value(node.inputs[0]) is None and scale.scale.size != 1:
        return Reason("per-channel", f"'{label}' has a scale for each channel of an activation")
    return None


def _refused_dequantize(model: Model, node: gs.Node, scale: Scale) -> Reason | None:
    source, label = node.inputs[0], node_label(node)
    maker = model.producer(source)
    if maker is not None and maker.op == Q and is_quantizer(maker):
        before = scale_of(model, maker)
        return None if before is not None and before.same(scale) else Reason("no-pair", f"'{label}' undoes another scale")
    value = model.value(source)
    if value is None:
        return Reason("no-pair", f"what '{label}' reads comes from no QuantizeLinear")
    return None if dequantize(value, scale) is not None else Reason("scale", f"the scale of '{label}' fits no axis")


def _kind(node: gs.Node, scale: Scale) -> str:
    """The integer type that a QuantizeLinear gives."""
    if scale.zero is not None:
        return str(scale.zero.dtype)
    return {0: "uint8", 2: "uint8", 3: "int8"}.get(int(node.attrs.get("output_dtype", 0)), "")


# -- what is -----------------------------------------------------------------------------------------------------------------


def _take_activation(model: Model, node: gs.Node, source: gs.Tensor, given: Given) -> None:
    quantizer, result = node.inputs[0].inputs[0], node.outputs[0]
    scale = scale_of(model, quantizer)
    assert scale is not None  # noqa: S101 - looked at before
    alone = all(_alike(model, n, quantizer, scale) for n in model.users(source)) and not model.is_output(source)
    zero = 0 if scale.zero is None else int(scale.zero.reshape(-1)[0])
    kind = _kind(quantizer, scale)
    found = Params(np.float32(scale.scale.reshape(-1)[0]), zero, "int8" if kind == "int8" else "uint8")
    maker = model.producer(source)
    model.remove(node)
    one_sided = found.low == 0 and not _never_negative(model, source)
    if one_sided and not model.is_output(result):  # it is a Relu too, which is not for those who read the tensor as it is
        clipped = model.variable(f"{source.name}_clipped", result.dtype, result.shape)
        model.add("Relu", [source], [clipped], name=model.fresh(f"{source.name}_clip"))
        model.replace_uses(result, clipped)
        source, alone = clipped, True
    elif not model.is_output(result):
        model.replace_uses(result, source)
    else:
        if maker is None or not alone:
            model.add("Relu" if one_sided else "Identity", [source], [result], name=model.fresh(f"{result.name}_identity"))
        else:
            links.set_outputs(maker, [result if t is source else t for t in maker.outputs])
            model.replace_uses(source, result)
        source, alone = result, True  # what leaves the graph is rounded
    known = given.activations.get(source.name)
    if known is None or known.high - known.low < found.high - found.low:
        given.activations[source.name] = found
    if alone:
        given.whole.add(source.name)


def _alike(model: Model, node: gs.Node, quantizer: gs.Node, scale: Scale) -> bool:
    """Whether ``node`` quantizes as ``quantizer`` does."""
    if node.op != Q or not is_quantizer(node):
        return False
    other = scale_of(model, node)
    return other is not None and other.same(scale) and _kind(node, other) == _kind(quantizer, scale)


def _never_negative(model: Model, tensor: gs.Tensor) -> bool:
    """Whether what is known of the operators behind a tensor says so; of many of them nothing is said."""
    waiting, seen = [tensor], set[str]()
    while waiting:
        one = waiting.pop()
        if one.name in seen:
            continue
        seen.add(one.name)
        node = model.producer(one)
        if node is None or node.domain or len(seen) > _LOOKED_AT:
            return False
        limits = bounds(node, model.value)
        if node.op in _POSITIVE or (limits is not None and limits[0] >= 0):
            continue
        passed = {"Concat": len(node.inputs), "Add": 2, "Mul": 2}.get(node.op, 1 if node.op in _MOVERS else 0)
        if not passed:
            return False
        waiting.extend(node.inputs[:passed])
    return True


_LOOKED_AT = 64
"""Tensors that are followed."""

_POSITIVE = ("Sigmoid", "Softmax", "Abs", "Exp", "HardSigmoid")

_MOVERS = frozenset(
    [
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Reshape",
        "Flatten",
        "Transpose",
        "Slice",
        "Squeeze",
        "Unsqueeze",
        "Split",
        "Identity",
        "Dropout",
        "Gather",
        "DepthToSpace",
        "Tile",
        "Expand",
    ]
)


def _take_constant(model: Model, node: gs.Node, given: Given) -> None:
    source, result, scale = node.inputs[0], node.outputs[0], scale_of(model, node)
    assert scale is not None  # noqa: S101 - looked at before
    maker, stored = model.producer(source), model.value(source)
    if maker is not None and maker.op == Q:
        real = model.value(maker.inputs[0])
        assert real is not None  # noqa: S101 - looked at by the caller
        source, stored = maker.inputs[0], quantize(real, scale, np.dtype(_kind(maker, scale)))
    values = None if stored is None else dequantize(stored, scale)
    if stored is None or values is None:
        return
    constant = model.constant(f"{source.name}_rounded", values)
    model.remove(node)
    if model.is_output(result):
        model.add("Identity", [constant], [result], name=model.fresh(f"{result.name}_identity"))
    else:
        model.replace_uses(result, constant)
    weight = _weight(stored, scale)
    if weight is not None:
        given.weights[constant.name] = weight


def _weight(stored: NDArray[Any], scale: Scale) -> Weight | None:
    """As int8 with zero point 0, if it is that but for how it is written."""
    zero = 0 if scale.zero is None else scale.zero.astype(np.int64)
    middle = {"int8": 0, "uint8": 128}.get(str(stored.dtype))
    if middle is None or scale.block or not bool(np.all(zero == middle)):
        return None
    axis = None if scale.scale.size == 1 else scale.axis % stored.ndim
    values = (stored.astype(np.int16) - middle).astype(np.int8)
    return Weight(values, scale.scale.reshape(() if axis is None else -1), axis, 0)


def _fold_norm(model: Model, norm: gs.Node, given: Given) -> None:
    """Into the kernel before it, if that has given integers and nobody else reads its output."""
    source = norm.inputs[0]
    kernel = model.producer(source)
    if kernel is None or kernel.op != "Conv" or kernel.domain or source.name in given.activations or model.is_output(source):
        return
    weight = given.weights.get(kernel.inputs[1].name)
    bias = model.value(kernel.inputs[2]) if len(kernel.inputs) > 2 and kernel.inputs[2].name else np.zeros(1)
    parameters = [model.value(t) for t in norm.inputs[1:5]]
    alone = len(model.users(source)) == 1 and not norm.attrs.get("training_mode", 0) and not any(t.name for t in norm.outputs[1:])
    if not alone or weight is None or weight.axis not in (None, 0) or bias is None:
        return
    known: list[Floats] = [p.astype(np.float64) for p in parameters if p is not None]
    if len(known) != 4:
        return
    scale, shift, mean, variance = known
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + float(norm.attrs.get("epsilon", 1e-5)))
        moved = (bias.astype(np.float64) - mean) * factor + shift
    scaled = _scaled(weight, factor)
    if scaled is None or not bool(np.all(np.isfinite(moved))):
        return
    constant = model.constant(f"{kernel.inputs[1].name}_normalized", scaled.real().astype(np.float32))
    given.weights[constant.name] = scaled
    result = norm.outputs[0]
    model.remove(norm)
    links.set_inputs(kernel, [kernel.inputs[0], constant, model.constant(f"{result.name}_bias", moved.astype(np.float32))])
    links.set_outputs(kernel, [result])
    model.edited()


def _scaled(weight: Weight, factor: Floats) -> Weight | None:
    """Each output channel times its factor; None where the integers or the scales do not allow it."""
    rank = weight.values.ndim
    turned = along(np.sign(factor), 0, rank) * weight.values.astype(np.int16)
    scale = np.where(factor == 0, 1.0, np.abs(factor)) * weight.scale.astype(np.float64)
    stored = scale.astype(np.float32)
    if turned.max(initial=0) > 127 or not bool(np.all(np.isfinite(stored) & (stored >= np.finfo(np.float32).tiny))):
        return None
    return Weight(turned.astype(np.int8), stored, 0, 0)
