"""Convolutions: plain, grouped, depthwise and transposed, of one to three spatial dimensions."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from graphopt.ops import attrs, channels, cost
from graphopt.ops.affine import kernels as affine
from graphopt.ops.facts import Facts
from graphopt.ops.row import QuantRule, Role, Row


def is_depthwise(node: gs.Node, facts: Facts) -> bool:
    """As many groups as input channels, one or more outputs each."""
    group = attrs.int_(node, "group", 1)
    weight = facts.shape(node.inputs[1]) if len(node.inputs) > 1 else None
    return group > 1 and weight is not None and len(weight) > 2 and weight[1] == 1


def is_grouped(node: gs.Node, facts: Facts) -> bool:
    """More than one group."""
    del facts
    return attrs.int_(node, "group", 1) > 1


_KERNEL = QuantRule(Role.KERNEL, weight=1, bias=2, axis=0)

ROWS = (
    Row("Conv", subtype="depthwise", when=is_depthwise, cost=cost.conv, affine=affine.conv, channels=channels.CONV, quant=_KERNEL),
    Row("Conv", subtype="grouped", when=is_grouped, cost=cost.conv, affine=affine.conv, channels=channels.CONV, quant=_KERNEL),
    Row("Conv", cost=cost.conv, affine=affine.conv, channels=channels.CONV, quant=_KERNEL),
    Row(
        "ConvTranspose",
        cost=cost.conv_transpose,
        affine=affine.conv_transpose,
        channels=channels.CONV_TRANSPOSE,
        quant=QuantRule(Role.NONE),
    ),
)
