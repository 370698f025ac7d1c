"""A quantizer between a kernel and its activation.

What: A convolution or matrix product is quantized before the Relu or Clip behind it, and that again behind it.

Why: The quantizer of the activation absorbs it for nothing; a quantizer before it spends half of its steps on values that
    the Relu drops, and makes the Relu an operator of its own.

Example: `Conv -> Q -> DQ -> Relu -> Q`.

Remedy: Quantize once, behind the activation.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label
from graphopt.ops.kernels import KERNELS
from graphopt.ops.quantizers import Q

ACTIVATIONS = frozenset(("Relu", "Clip"))


def check(subject: Subject) -> Iterator[Finding]:
    """Look for the pattern."""
    model, quantizers = subject.model, subject.quantizers
    scheme = subject.asked.target.int8
    for node in model.graph.nodes:
        if node.op not in (ACTIVATIONS if scheme is None else scheme.fused_activations):
            continue
        dequantizer = quantizers.dequantized(node.inputs[0])
        quantizer = None if dequantizer is None else model.producer(dequantizer.inputs[0])
        kernel = model.producer(quantizer.inputs[0]) if quantizer is not None and quantizer.op == Q else None
        alone = dequantizer is not None and len(model.users(dequantizer.outputs[0])) == 1
        if kernel is not None and kernel.op in KERNELS and alone and any(u.op == Q for u in model.users(node.outputs[0])):
            yield RULE.found(node_label(node), f"is quantized apart from {node_label(kernel)}", key=node_key(node))


RULE = Rule("GO205", "activation-outside-quantizers", Level.ERROR, check)
