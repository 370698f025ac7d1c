"""A quantized bias that integer kernels cannot add.

What: The bias of a quantized convolution or matrix product is not int32, has a zero point, or a scale other than the input's
    times the weight's.

Why: An integer kernel sums int8 products in int32, in steps of s_x * s_w: a bias in other steps cannot be added, and the
    runtime keeps the whole operator in float.

Example: A bias in int8; a bias scale that was rounded when it was written.

Remedy: Store round(b / (s_x * s_w)) as int32, with that scale and zero point 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.check.finding import Finding, Level
from graphopt.check.quantized import Quantizers
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label

TOLERANCE = 1e-6
"""Of a scale: a product of two float32 that was rounded once more."""


def check(subject: Subject) -> Iterator[Finding]:
    """Look at every kernel whose data, weight and bias are dequantized."""
    quantizers = subject.quantizers
    for node in subject.model.graph.nodes:
        if node.op not in ("Conv", "Gemm") or len(node.inputs) < 3:
            continue
        makers = [quantizers.dequantized(t) for t in node.inputs[:3]]
        why = _fault(quantizers, makers) if all(m is not None for m in makers) else None
        if why is not None:
            yield RULE.found(node_label(node), why, key=node_key(node))


def _fault(quantizers: Quantizers, makers: list[gs.Node | None]) -> str | None:
    data, weight, bias = (quantizers.scale(m) if m is not None else None for m in makers)
    stored = quantizers.model.value(makers[2].inputs[0]) if makers[2] is not None else None
    if stored is not None and stored.dtype != np.int32:
        return f"its bias is {stored.dtype} instead of int32"
    if data is None or weight is None or bias is None:
        return None
    if bias.zero is not None and bias.zero.any():
        return "its bias has a zero point"
    first, second, own = (np.asarray(one.scale, np.float64).reshape(-1) for one in (data, weight, bias))
    if len({first.size, second.size, own.size} - {1}) > 1:
        return f"its bias has {own.size} scales, its input {first.size} and its weight {second.size}"
    wanted = first * second
    if np.allclose(own, wanted, rtol=TOLERANCE, atol=0.0):
        return None
    with np.errstate(invalid="ignore"):  # scales that are infinite or NaN are another rule's
        off = float(np.max(np.abs(own / np.where(wanted == 0, 1, wanted) - 1)))
    return f"the scale of its bias is not that of input times weight (off by {off:.2%})"


RULE = Rule("GO204", "bias-quantization", Level.ERROR, check)
