"""The graph has no outputs.

What: `graph.output` is empty.

Why: Nothing of the graph is needed then, and runtimes refuse it or compute nothing.

Example: A script that cut the graph and forgot to name what it gives.

Remedy: Declare the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Look."""
    if not subject.model.graph.outputs:
        yield RULE.found("", "the graph declares no outputs")


RULE = Rule("GO051", "no-outputs", Level.ERROR, check)
