"""Exact rewrites that a device asks for before quantization, because it has an integer kernel for one form and not for the other.

``reduce-mean-to-pool``: the mean over all spatial axes of [N, C, ...] is GlobalAveragePool; without kept dimensions a Flatten
follows.

``transposed-to-blocks``: where kernel and stride of a ConvTranspose are both s by s, every input pixel makes a block of s by s
pixels of its own, y[o, s h + i, s w + j] = sum over c of W[c, o, i, j] x[c, h, w] + b[o]. That is a 1x1 convolution with s^2
outputs for each o, and DepthToSpace, (o, i, j) as its mode CRD has it; groups stay groups. In float it is slower; in integers it
pays where channels are many, as the target's costs say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model, node_label
from graphopt.ops import Facts, attrs
from graphopt.ops.facts import elements
from graphopt.passes.quant.units import FLOAT
from graphopt.pipeline import Rewrite
from graphopt.target import CostTable, Target
from graphopt.target.costs import Counts

Rule = Callable[[Model, gs.Node, Facts, CostTable], Rewrite | None]


def rewrite(model: Model, facts: Facts, target: Target, given: Collection[str] = ()) -> list[Rewrite]:
    """Do all rewrites that the target's scheme names; what was done. ``given``: constants that nodes must go on reading."""
    done: list[Rewrite] = []
    wanted = frozenset[str]() if target.int8 is None else target.int8.rewrites
    for node in list(model.graph.nodes):
        for name, op, rule in RULES:
            if name in wanted and node.op == op and not node.domain and not any(t.name in given for t in node.inputs):
                made = rule(model, node, facts, target.costs)
                if made is not None:
                    done.append(made)
                    break
    return done


def _mean_to_pool(model: Model, node: gs.Node, facts: Facts, costs: CostTable) -> Rewrite | None:
    del costs
    source, result = node.inputs[0], node.outputs[0]
    shape = facts.shape(source)
    axes = _axes(node, facts)
    if shape is None or len(shape) < 3 or axes is None or facts.dtype(source) != FLOAT:
        return None
    if sorted(axis % len(shape) for axis in axes) != list(range(2, len(shape))):
        return None
    label = node_label(node)
    if attrs.int_(node, "keepdims", 1):
        model.add("GlobalAveragePool", [source], [result], name=node.name, before=node)
        what = "mean over the spatial axes written as GlobalAveragePool"
    else:
        pooled = model.variable(f"{result.name}_pooled")
        model.add("GlobalAveragePool", [source], [pooled], name=node.name, before=node)
        model.add("Flatten", [pooled], [result], {"axis": 1}, before=node)
        what = "mean over the spatial axes written as GlobalAveragePool and Flatten"
    model.remove(node)
    return Rewrite(label, what)


def _axes(node: gs.Node, facts: Facts) -> tuple[int, ...] | None:
    """An attribute below opset 18, an input since; None if absent or not constant."""
    if len(node.inputs) > 1 and node.inputs[1].name:
        value = facts.value(node.inputs[1])
        return None if value is None else tuple(int(v) for v in value.reshape(-1))
    return attrs.ints(node, "axes", ()) or None


def _transposed_to_blocks(model: Model, node: gs.Node, facts: Facts, costs: CostTable) -> Rewrite | None:
    weight, bias = facts.value(node.inputs[1]), None
    if weight is None or weight.ndim != 4 or weight.dtype != np.float32 or not _in_blocks(node, weight.shape):
        return None
    groups, size, label = attrs.int_(node, "group", 1), int(weight.shape[2]), node_label(node)
    if len(node.inputs) > 2 and node.inputs[2].name:
        bias = facts.value(node.inputs[2])
        if bias is None:
            return None
    if not _pays(node, facts, costs, weight, groups):
        return None
    rows, outputs = weight.shape[0] // groups, weight.shape[1]
    blocks = weight.reshape(groups, rows, outputs, size, size).transpose(0, 2, 3, 4, 1).reshape(-1, rows, 1, 1)
    source, result = node.inputs[0], node.outputs[0]
    inputs: list[gs.Tensor] = [source, model.constant(f"{node.inputs[1].name}_blocks", np.ascontiguousarray(blocks))]
    if bias is not None:
        inputs.append(model.constant(f"{node.inputs[2].name}_blocks", np.repeat(bias, size * size)))
    between = model.variable(f"{result.name}_blocks", np.float32)
    model.add("Conv", inputs, [between], {"kernel_shape": [1, 1], "group": groups}, name=node.name, before=node)
    model.add("DepthToSpace", [between], [result], {"blocksize": size, "mode": "CRD"}, before=node)
    model.remove(node)
    return Rewrite(label, "kernel and stride are equal: written as Conv and DepthToSpace")


def _in_blocks(node: gs.Node, weight: Sequence[int]) -> bool:
    """Whether every pixel makes a square block of its own."""
    size = int(weight[2])
    plain = attrs.str_(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID") and not attrs.ints(node, "output_shape", ())
    untouched = not any(attrs.ints(node, "pads", ())) and not any(attrs.ints(node, "output_padding", ()))
    spread = all(d == 1 for d in attrs.ints(node, "dilations", ()))
    return plain and untouched and spread and size > 1 and weight[3] == size and attrs.ints(node, "strides", ()) == (size, size)


def _pays(node: gs.Node, facts: Facts, costs: CostTable, weight: NDArray[np.float32], groups: int) -> bool:
    """Whether both operators in integers cost less than the one in float between quantizers."""
    read, made = (elements(facts.shape(t)) for t in (node.inputs[0], node.outputs[0]))
    if read is None or made is None:
        return False
    channels = weight.shape[1] * groups * weight.shape[2] ** 2
    counts = Counts(made, read * weight.shape[1] * weight.shape[2] ** 2, made // channels * groups, weight.size, channels)
    kind = "dense" if groups == 1 else "grouped"
    integer = [costs.cost("Conv", kind, "int8", counts), costs.cost("DepthToSpace", "", "int8", Counts(made))]
    borders = [costs.cost("DequantizeLinear", "", "float", Counts(read)), costs.cost("QuantizeLinear", "", "float", Counts(made))]
    real = [costs.cost("ConvTranspose", "", "float", counts), *borders]
    return None not in integer and None not in real and sum(filter(None, integer)) < sum(filter(None, real))


RULES: tuple[tuple[str, str, Rule], ...] = (
    ("reduce-mean-to-pool", "ReduceMean", _mean_to_pool),
    ("transposed-to-blocks", "ConvTranspose", _transposed_to_blocks),
)
"""(name in the target's table, operator, rule)."""
