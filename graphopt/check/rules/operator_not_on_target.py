"""An operator that the target does not run.

What: The target lists what it runs (`operators`), and a node is not of it. Targets that list nothing make no claim.

Why: The compiler of the device refuses the model, or leaves the node to the CPU, which costs two copies and a wait.

Example: A GridSample on an accelerator that has none.

Remedy: Replace the operator, or run that part elsewhere on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import NotAsked, Subject, all_nodes
from graphopt.model import node_key, node_label
from graphopt.model.domains import STANDARD


def check(subject: Subject) -> Iterator[Finding]:
    """Compare with the target's list."""
    target = subject.asked.target
    if target.operators is None:
        raise NotAsked(f"the target {target.name} does not list its operators")
    for node in all_nodes(subject.model):
        name = node.op if node.domain in STANDARD or not node.domain else f"{node.domain}:{node.op}"
        if name not in target.operators:
            yield RULE.found(node_label(node), f"{target.name} does not run {name}", key=node_key(node))


RULE = Rule("GO057", "operator-not-on-target", Level.ERROR, check)
