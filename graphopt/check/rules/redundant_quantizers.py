"""A tensor that is dequantized and quantized again alike.

What: A QuantizeLinear reads a DequantizeLinear of the same scale and zero point.

Why: The two cancel exactly. Left in, they may run as two passes over the tensor, and hide the integer kernel on one side
    from that on the other.

Example: Two tools that quantized the borders of one model each for itself.

Remedy: Connect the reader of the QuantizeLinear to the input of the DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label
from graphopt.ops.quantizers import Q


def check(subject: Subject) -> Iterator[Finding]:
    """Compare the parameters of every such pair."""
    quantizers = subject.quantizers
    for node in quantizers.nodes(Q):
        before = quantizers.dequantized(node.inputs[0])
        if before is None:
            continue
        first, second = quantizers.scale(before), quantizers.scale(node)
        kinds = [subject.shapes.dtype(t) for t in (before.inputs[0], node.outputs[0])]  # where no zero point tells the type
        if first is not None and second is not None and first.same(second) and kinds[0] == kinds[1]:
            yield RULE.found(node_label(node), f"undoes {node_label(before)}", key=node_key(node))


RULE = Rule("GO203", "redundant-quantizers", Level.ERROR, check)
