"""Batch normalization that a convolution could absorb.

What: A BatchNormalization that fold would compose with its neighbours.

Why: It is an affine map with constant coefficients: the convolution before it can have them in its weights, exactly. Left
    alone it costs a pass over the activations, and stands between the convolution and its quantizer.

Example: `Conv -> BatchNormalization -> Relu`, exported in training mode or with `do_constant_folding=False`.

Remedy: `graphopt run MODEL --passes fold -o OUT`, or export in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label
from graphopt.ops.kernels import KERNELS


def check(subject: Subject) -> Iterator[Finding]:
    """Ask fold which regions it would compose, and look for the operator in them."""
    for region in subject.regions:
        for node in region.nodes:
            if node.op == "BatchNormalization":
                into = next((n for n in region.nodes if n.op in KERNELS), region.nodes[-1])
                yield RULE.found(node_label(node), f"fold would put it into {node_label(into)}", key=node_key(node))


RULE = Rule("GO101", "unfolded-batch-norm", Level.ERROR, check, fix="fold")
