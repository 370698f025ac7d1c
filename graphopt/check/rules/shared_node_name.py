"""Two nodes have one name.

What: Several nodes of the main graph bear the same name, which is not empty.

Why: Names of nodes mean nothing to ONNX, but onnxruntime refuses two of one name in some cases, and profiles and messages
    cannot tell them apart.

Example: A block that was copied by a script.

Remedy: `graphopt run MODEL --passes simplify -o OUT` gives each its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject
from graphopt.model import node_key, node_label


def check(subject: Subject) -> Iterator[Finding]:
    """Count names."""
    counts = Counter(node.name for node in subject.model.graph.nodes if node.name)
    seen: set[str] = set()
    for node in subject.model.graph.nodes:
        if counts[node.name] > 1 and node.name not in seen:
            seen.add(node.name)
            yield RULE.found(node_label(node), f"{counts[node.name]} nodes have this name", key=node_key(node))


RULE = Rule("GO059", "shared-node-name", Level.WARNING, check, fix="simplify")
