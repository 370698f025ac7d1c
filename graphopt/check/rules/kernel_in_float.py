"""A convolution or matrix product that stays in float in a quantized model.

What: The model has quantizers, and a Conv, ConvTranspose, Gemm or MatMul does not run in integers although quant would have
    it so.

Why: It runs at float speed, and each border to its neighbours costs a conversion.

Example: A head that was left out of quantization-aware training; a missing quantizer behind one layer.

Remedy: Quantize the layer too, or see by `graphopt run FLOAT --passes quant --explain` why it should stay.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label
from graphopt.ops.kernels import KERNELS


def check(subject: Subject) -> Iterator[Finding]:
    """Compare what runs in integers with what quant would have run so."""
    if subject.quantizers.present:
        for node in subject.in_float():
            if node.op in KERNELS:
                why = f"it runs in float, and quant would run it in int8 on {subject.asked.target.name}"
                yield RULE.found(node_label(node), why, key=node_key(node))


RULE = Rule("GO201", "kernel-in-float", Level.ERROR, check)
