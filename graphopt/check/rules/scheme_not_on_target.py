"""A way of quantizing that the target has no kernels for.

What: The element type of activations or weights, zero points of weights, scales per channel or the opset are not as the
    target's file states.

Why: The runtime keeps such operators in float, in silence: the model loads, is small, and is slower than before.

Example: int8 activations on x86, where onnxruntime has kernels for uint8.

Remedy: Quantize for this target: `graphopt run FLOAT --passes quant --target T`.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from graphopt.check.finding import Finding, Level
from graphopt.check.quantized import Quantizers
from graphopt.check.rule import Rule
from graphopt.check.subject import NotAsked, Subject
from graphopt.model import node_key, node_label
from graphopt.target import Int8Scheme


def check(subject: Subject) -> Iterator[Finding]:
    """Compare every quantizer with the target's scheme; each kind of fault once, at its first place."""
    scheme, quantizers = subject.asked.target.int8, subject.quantizers
    if not quantizers.present:
        return
    if scheme is None:
        raise NotAsked(f"the target {subject.asked.target.name} states no integer scheme")
    faults: dict[str, list[gs.Node]] = {}
    for node in quantizers.nodes("DequantizeLinear"):
        for why in _faults(node, quantizers, scheme):
            faults.setdefault(why, []).append(node)
    if subject.model.opset < scheme.min_opset:
        yield RULE.found("", f"opset {subject.model.opset}; {subject.asked.target.name} needs {scheme.min_opset}")
    for why, nodes in faults.items():
        more = f" (and {len(nodes) - 1} more)" if len(nodes) > 1 else ""
        yield RULE.found(node_label(nodes[0]), f"{why}{more}", key=node_key(nodes[0]), count=len(nodes))


def _faults(node: gs.Node, quantizers: Quantizers, scheme: Int8Scheme) -> Iterator[str]:
    scale = quantizers.scale(node)
    if scale is None:
        yield "its scale or zero point is computed, not constant"
        return
    stored = quantizers.model.value(node.inputs[0])
    kind = scale.zero.dtype.name if scale.zero is not None else stored.dtype.name if stored is not None else "uint8"
    if kind == scheme.bias:
        return
    if not quantizers.is_weight(node):
        if kind != scheme.activation:
            yield f"activations are {kind} instead of {scheme.activation}"
        return
    if kind != scheme.weight:
        yield f"weights are {kind} instead of {scheme.weight}"
    elif scale.zero is not None and scale.zero.any():
        yield "weights have a zero point"
    if scale.scale.size > 1 and not scheme.per_channel:
        yield "weights have a scale for each channel"


RULE = Rule("GO208", "scheme-not-on-target", Level.ERROR, check)
