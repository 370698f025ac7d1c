"""A scale that is not a positive number.

What: The scale of a quantizer or an integer kernel is zero, negative, NaN or infinite.

Why: Dividing by it makes every value of the tensor the same, or none; a negative one turns the order around, and kernels
    assume that it is not.

Example: A layer that was dead on the calibration data, with the range [0, 0].

Remedy: Calibrate on data that reaches the layer; for a tensor that is always zero any positive scale will do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label

SCALES = {"QuantizeLinear": (1,), "DequantizeLinear": (1,), "QLinearConv": (1, 4, 6), "QLinearMatMul": (1, 4, 6)}
"""Operator -> the inputs that are scales."""


def check(subject: Subject) -> Iterator[Finding]:
    """Look at every constant scale."""
    for node in subject.quantizers.nodes(*SCALES):
        for index in SCALES[node.op]:
            value = subject.model.value(node.inputs[index]) if index < len(node.inputs) else None
            if value is not None and not bool((np.isfinite(value) & (value > 0)).all()):
                worst = value.reshape(-1)[int(np.argmin(np.where(np.isfinite(value), value, -np.inf)))]
                yield RULE.found(node_label(node), f"the scale '{node.inputs[index].name}' is {worst}", key=node_key(node))


RULE = Rule("GO206", "scale-not-positive", Level.ERROR, check)
