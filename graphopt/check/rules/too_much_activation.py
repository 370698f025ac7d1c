"""More memory for activations than allowed.

What: At some node the tensors that are still needed take more than `max-activation` bytes.

Why: Memory on small devices is fixed, and it is the activations that decide whether a model fits.

Example: `max-activation = 1e6`, and a skip connection keeps an early map alive.

Remedy: Lower the resolution earlier, or shorten the skip.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.check.budgets import over
from graphopt.check.finding import Finding, Level
from graphopt.check.rule import Rule
from graphopt.check.subject import NotAsked, Subject

LIMIT = "max-activation"


def check(subject: Subject) -> Iterator[Finding]:
    """Compare with the limit."""
    most = subject.budget(LIMIT)
    if subject.peak is None:
        raise NotAsked(f"the size of some tensor is not known ({LIMIT}={most:g})")
    count, where = subject.peak
    if count > most:
        label, key = subject.node_of(where)
        yield RULE.found(label, over(count, most, "bytes of activations"), key=key, count=count, limit=most)


RULE = Rule("GO413", "too-much-activation", Level.ERROR, check)
