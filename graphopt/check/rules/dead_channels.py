"""Channels that training left dead.

What: Channels that are zero wherever they are read, or read with zero weights, so that their removal changes no output.

Why: They are computed, stored and read for nothing.

Example: Filters that weight decay drove to zero; batch norm scales of zero.

Remedy: `graphopt run MODEL --passes prune:ratio=0 -o OUT` removes them, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Ask prune what it would remove at no loss."""
    for rewrite in subject.pruned:
        key = subject.makers.get(rewrite.where.strip("'"), "")
        yield RULE.found(rewrite.where, f"prune would remove dead channels: {rewrite.what}", key=key)


RULE = Rule("GO305", "dead-channels", Level.ERROR, check, fix="prune:ratio=0")
