"""Scales behind an activation, moved before it, where the convolution takes them up.

a(s * x) = s * a(x) for s >= 0 where a is positively homogeneous: Relu, LeakyRelu and PRelu are, Clip(0, 6), Sigmoid and the rest
are not. So in Conv, Relu, Mul the scale changes places with the Relu and is the convolution's in the next round. It is done only
where that removes an operator: the convolution and the activation have no other readers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphopt.analysis import Shapes, ShapeTable
from graphopt.model import Model, node_label
from graphopt.ops import lookup
from graphopt.ops.affine import Leaf, Linear, Refused
from graphopt.ops.kernels import KERNELS
from graphopt.ops.row import Role
from graphopt.pipeline import Context, Rewrite

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu"})
"""a(s * x) = s * a(x) for every s >= 0."""

_SCALE_SIGN = Refused("scale-sign", "a scale that is negative for some channel does not pass an activation")
_ACTIVATION = Refused("activation", "a scale does not pass an activation that is not positively homogeneous")

Refusals = list[tuple[str, Refused]]


def through_activations(model: Model, ctx: Context) -> tuple[list[Rewrite], Refusals]:
    """Move scales before activations; what was moved, and what could not be."""
    facts = ctx.analyses(model).get(Shapes())
    rewrites: list[Rewrite] = []
    refusals: Refusals = []
    placed: dict[int, list[gs.Node]] = {}
    for node, activation, leaf in _candidates(model, facts):
        where = node_label(node)
        if activation.op not in HOMOGENEOUS:
            refusals.append((where, _ACTIVATION))
            continue
        factor = np.asarray(leaf.build(np).weight).reshape(-1)
        if not (factor >= 0).all():
            refusals.append((where, _SCALE_SIGN))
            continue
        placed[id(node)] = _swapped(model, facts, node, activation, leaf, factor)
        rewrites.append(Rewrite(where, f"its scale passed the {activation.op} before it, which is positively homogeneous"))
    if placed:
        model.splice(placed)
        model.sweep()
    return rewrites, refusals


def _candidates(model: Model, facts: ShapeTable) -> Iterator[tuple[gs.Node, gs.Node, Leaf]]:
    """A scale without a shift, the activation before it, and the map of the scale; before both is a kernel of constants."""
    active = {id(node) for node in model.graph.nodes if _activates(node, facts)}
    for node in model.graph.nodes:
        if not any(t.inputs and id(t.inputs[0]) in active for t in node.inputs):
            continue
        row = lookup(node, facts)
        term = row.affine(node, facts) if row is not None and row.affine is not None else None
        if not isinstance(term, Linear) or len(term.steps) != 1:
            continue
        leaf = term.steps[0]
        if not leaf.form.diagonal or leaf.form.identity or leaf.form.biased:
            continue
        activation = model.producer(node.inputs[term.source])
        if activation is None or id(activation) not in active or not activation.inputs[0].inputs:
            continue
        kernel = activation.inputs[0].inputs[0]
        inner = lookup(kernel, facts)
        constant = inner is not None and inner.affine is not None and isinstance(inner.affine(kernel, facts), Linear)
        if kernel.op in KERNELS and constant and _only(model, kernel, activation) and _only(model, activation, node):
            yield node, activation, leaf


def _activates(node: gs.Node, facts: ShapeTable) -> bool:
    """Whether a node is an activation: a function of one tensor, element by element."""
    row = lookup(node, facts)
    known = row is not None and row.quant is not None and row.quant.role is Role.ACTIVATION
    return node.op in HOMOGENEOUS or known or node.op in ("Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Elu")


def _only(model: Model, node: gs.Node, reader: gs.Node) -> bool:
    """Whether ``reader`` is the only one to read what ``node`` makes."""
    outputs = [t for t in node.outputs if t.name]
    return len(outputs) == 1 and not model.is_output(outputs[0]) and all(r is reader for r in outputs[0].outputs)


def _swapped(
    model: Model, facts: ShapeTable, node: gs.Node, activation: gs.Node, leaf: Leaf, factor: np.typing.NDArray[np.float64]
) -> list[gs.Node]:
    """The scale, and then the activation, which takes over the tensor."""
    source, top = activation.inputs[0], node.outputs[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(facts.dtype(top))
    shape = (factor.size, *([1] * (leaf.form.rank - leaf.form.axis - 1)))
    scale = model.constant(f"{top.name}.scale", factor.astype(dtype).reshape(shape))
    scaled = model.variable(f"{top.name}.scaled", top.dtype)
    first = model.make("Mul", [source, scale], [scaled], name=node.name)
    rest = list(activation.inputs)[1:]
    second = model.make(activation.op, [scaled, *rest], [top], dict(activation.attrs), name=activation.name)
    return [first, second]
