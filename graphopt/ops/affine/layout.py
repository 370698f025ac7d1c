"""Where the channels of a tensor lie, for operators that treat all axes alike."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from graphopt.ops.facts import Shape

_LAST_AXIS = frozenset({"MatMul", "LayerNormalization"})
_FIRST_AXIS = frozenset({"Conv", "ConvTranspose", "BatchNormalization", "AveragePool", "MaxPool", "PRelu", "Gemm"})
_SEARCHED = 8


def layout(node: gs.Node, shape: Shape | None) -> int | None:
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
