"""An operator in training mode.

What: A BatchNormalization or Dropout in training mode, an operator of a training domain, or training information in the
    model.

Why: Batch normalization in training mode normalises by the statistics of the batch that it is given: the same image gives
    another answer in other company.

Example: `torch.onnx.export(..., training=TrainingMode.TRAINING)`.

Remedy: Export in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject, all_nodes
from graphopt.model import node_key, node_label
from graphopt.model.domains import STANDARD

DOMAINS = frozenset(("ai.onnx.preview.training", "ai.onnx.training"))


def check(subject: Subject) -> Iterator[Finding]:
    """Look at every node, those of bodies too."""
    for node in all_nodes(subject.model):
        if node.domain in DOMAINS:
            yield RULE.found(node_label(node), f"it is of the domain {node.domain}", key=node_key(node))
        elif node.domain in STANDARD and _trains(node, subject):
            yield RULE.found(node_label(node), "it is in training mode", key=node_key(node))
    if subject.proto.training_info:
        yield RULE.found("", "the model holds training information")


def _trains(node: gs.Node, subject: Subject) -> bool:
    if node.op == "BatchNormalization":
        old = subject.model.opset < 14 and sum(1 for t in node.outputs if t.name) > 1
        return old or bool(node.attrs.get("training_mode", 0))
    mode = subject.model.value(node.inputs[2]) if node.op == "Dropout" and len(node.inputs) > 2 else None
    return mode is not None and bool(mode.any())


RULE = Rule("GO110", "training-operator", Level.ERROR, check)
