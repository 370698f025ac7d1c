"""Exact rewrites that a device asks for before quantization, because it has an integer kernel for one form and not for the other.

``reduce-mean-to-pool``: the mean over all spatial axes of [N, C, ...] is GlobalAveragePool; without kept dimensions a Flatten
follows.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_graphsurgeon as gs

from graphopt.model import Model, node_label
from graphopt.ops import Facts, attrs
from graphopt.passes.quant.units import FLOAT
from graphopt.pipeline import Rewrite
from graphopt.target import Int8Scheme

Rule = Callable[[Model, gs.Node, Facts], Rewrite | None]


def rewrite(model: Model, facts: Facts, scheme: Int8Scheme) -> list[Rewrite]:
    """Do all rewrites that the scheme names; what was done."""
    done: list[Rewrite] = []
    for node in list(model.graph.nodes):
        for name, op, rule in RULES:
            if name in scheme.rewrites and node.op == op and not node.domain:
                made = rule(model, node, facts)
                if made is not None:
                    done.append(made)
                    break
    return done


def _mean_to_pool(model: Model, node: gs.Node, facts: Facts) -> Rewrite | None:
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


RULES: tuple[tuple[str, str, Rule], ...] = (("reduce-mean-to-pool", "ReduceMean", _mean_to_pool),)
"""(name in the target's table, operator, rule)."""
