"""What several rules ask alike: simplify for rewrites, fold for regions, the drift for a figure that is below its limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from graphopt.check.dryrun import describe, kind_of
from graphopt.check.finding import Finding
from graphopt.check.rule import Rule
from graphopt.check.subject import NotAsked, Subject
from graphopt.model import node_key, node_label
from graphopt.verify import OutputDrift


class Rewritten(NamedTuple):
    """A node that simplify would rewrite: why (``Rewrite.code``), its label, id and operator ("" if the model has no such node),
    and what becomes of it.
    """

    code: str
    label: str
    key: str
    op: str
    what: str


def rewritten(subject: Subject, *codes: str) -> Iterator[Rewritten]:
    """The nodes that simplify rewrites for one of these reasons."""
    for rewrite in subject.simplified:
        if rewrite.code in codes:
            label, key = subject.node_of(rewrite.where)
            yield Rewritten(rewrite.code, label, key, subject.op_of(key), rewrite.what)


def foldable(rule: Rule, subject: Subject, kind: str) -> Iterator[Finding]:
    """The regions of this kind (``dryrun.kind_of``) that fold would compose."""
    for region in subject.regions:
        if kind_of(region) == kind:
            yield rule.found(
                node_label(region.nodes[-1]),
                f"fold would make one operator of {describe(region)}",
                key=node_key(region.nodes[-1]),
                macs_before=region.macs_before,
                macs_after=region.macs_after,
            )


def too_low(
    rule: Rule, subject: Subject, limit: str, figure: Callable[[OutputDrift], float | None], told: str
) -> Iterator[Finding]:
    """The outputs whose figure against the reference is below the budget ``limit``; ``told`` formats a figure. What cannot be
    compared does not hold the limit; of the rest, outputs without the figure are left out. Raises NotAsked if no output has it.
    """
    least, drift = subject.budget(limit), subject.drift
    if drift.failure is not None:
        yield rule.found("", f"cannot be compared: {drift.failure}", limit=least)
        return
    values = {output.name: figure(output) for output in drift.outputs if output.failure is None}
    for output in drift.outputs:
        value = values.get(output.name)
        if output.failure is not None:
            yield rule.found("", f"output '{output.name}' cannot be compared: {output.failure}", output=output.name, limit=least)
        elif value is not None and value < least:
            why = f"output '{output.name}': {told.format(value)}, less than the limit of {least:g}"
            yield rule.found("", why, output=output.name, value=value, limit=least)
    if all(value is None for value in values.values()) and len(values) == len(drift.outputs):
        raise NotAsked(f"no output is of a kind that has the figure ({limit}={least:g})")
