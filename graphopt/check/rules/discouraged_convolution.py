"""A kind of convolution that the target runs badly.

What: By the target's table of costs the convolution takes much more time than one of a better form: channels that are no
    multiple of what its kernel is aligned to, or integers where float is faster.

Why: Depthwise and grouped convolutions have kernels of their own, which are fast for some numbers of channels only.

Example: A depthwise convolution of 20 channels where the kernel is aligned to 16; a grouped one in int8 on x86, 2 to 3 times
    slower than in float.

Remedy: Take widths that are multiples of the alignment, or leave the layer in float.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.check.widths import odd_convolution
from graphopt.model import node_key, node_label

WORTH = 1.25
"""Times that a better form must be faster before the rule speaks."""


def check(subject: Subject) -> Iterator[Finding]:
    """Compare the estimates of the target's table."""
    for node in subject.model.graph.nodes:
        if node.op != "Conv":
            continue
        why = odd_convolution(node, subject, WORTH)
        if why is not None:
            yield RULE.found(node_label(node), why, key=node_key(node))


RULE = Rule("GO303", "discouraged-convolution", Level.WARNING, check)
