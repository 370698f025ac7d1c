"""A Dropout, which does nothing in inference.

What: A Dropout that is not in training mode.

Why: It is a copy, and a sign that the model was exported in training mode, in which batch normalization also keeps its
    statistics apart.

Example: `torch.onnx.export(model, ..., training=TrainingMode.PRESERVE)` on a model in training mode.

Remedy: Export in evaluation mode (`model.eval()`), or `graphopt run MODEL --passes simplify -o OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.asking import rewritten
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask simplify."""
    for node in rewritten(subject, "neutral"):
        if node.op == "Dropout":
            yield RULE.found(node.label, "it does nothing outside of training", key=node.key)


RULE = Rule("GO109", "dropout", Level.ERROR, check, fix="simplify")
