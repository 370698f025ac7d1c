"""An operator in float amid integers.

What: In a quantized model an operator other than a convolution or matrix product runs in float although quant would have it
    in integers.

Why: Its inputs are dequantized, its outputs quantized again: both read and write the whole tensor, and often cost more than
    the operator.

Example: An Add of a residual block with a quantizer before it and none behind it.

Remedy: Put quantizers on every input and output of the operator, as `graphopt run FLOAT --passes quant` does.
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
            if node.op not in KERNELS:
                why = f"a float island: quant would run it in int8 on {subject.asked.target.name}"
                yield RULE.found(node_label(node), why, key=node_key(node))


RULE = Rule("GO202", "float-island", Level.ERROR, check)
