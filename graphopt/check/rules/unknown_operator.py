"""An operator that ONNX does not define.

What: A node of a domain that is not of ONNX, or of an operator that the version of its domain does not have, and no function
    of the model says what it means.

Why: Only runtimes that were built with it run it, and graphopt takes it as opaque: its channels are frozen, it is neither
    folded nor quantized.

Example: A custom `org.example:MyOp`; a `com.microsoft:FusedConv` that onnxruntime wrote into an optimized model.

Remedy: Export with standard operators, or ship a function that says what it means; for onnxruntime, keep the model from
    before its optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import defs

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject, all_nodes
from graphopt.model import node_key, node_label
from graphopt.model.domains import STANDARD


def check(subject: Subject) -> Iterator[Finding]:
    """Look up every node, those of bodies too."""
    functions = {(f.domain, f.name) for f in subject.model.functions}
    for node in all_nodes(subject.model):
        domain = "" if node.domain in STANDARD else str(node.domain)
        if (domain, node.op) not in functions and not _defined(node.op, subject.model.opset_of(domain) or 1, domain):
            name = f"{domain}:{node.op}" if domain else f"{node.op} of opset {subject.model.opset}"
            yield RULE.found(node_label(node), f"ONNX does not define {name}", key=node_key(node))


def _defined(op: str, version: int, domain: str) -> bool:
    try:
        defs.get_schema(op, version, domain)
    except defs.SchemaError:
        return False
    return True


RULE = Rule("GO056", "unknown-operator", Level.WARNING, check)
