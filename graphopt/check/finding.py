"""What a rule found: a value with a code, a level, a place and a reason.

A finding's ``anchor`` names its place by structure and not by name (``graphopt.check.anchor``), so that a baseline still knows it
after every node was renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters: an ``error`` makes the check fail, a ``warning`` and a ``note`` are only told."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class State(StrEnum):
    """Whether a finding counts: it is new, it was there when the baseline was written, or the model says to leave it out."""

    NEW = "new"
    BASELINE = "baseline"
    SUPPRESSED = "suppressed"


Fact = str | int | float | bool | None


def _no_facts() -> dict[str, Fact]:
    return {}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of one model.

    Attributes:
        code: the rule's.
        where: the node or tensor, as a person would name it; "" for the whole model.
        why: the reason, one sentence without a full stop.
        hint: what to do about it; the rule's remedy stands in the documentation.
        key: id of the node that it is about (name of its first output), "" if there is none.
        anchor: the place by structure; the runner fills it in where the rule does not.
        facts: the figures behind the reason, for machines.
        level, state: given by the runner, from the rule, the configuration and the baseline.
    """

    code: str
    where: str
    why: str
    hint: str = ""
    key: str = ""
    anchor: str = ""
    facts: Mapping[str, Fact] = field(default_factory=_no_facts)
    level: Level = Level.ERROR
    state: State = State.NEW


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one model.

    Attributes:
        model: its path, as it was given.
        findings: all of them, those that do not count included.
        ran: the codes of the rules that were asked.
        skipped: rules that could not be asked, with the reason.
        facts: figures that were measured (cost, drift, latency), whether or not there was a limit for them.
        seconds: how long it took.
    """

    model: str
    findings: tuple[Finding, ...]
    ran: tuple[str, ...]
    skipped: Mapping[str, str]
    facts: Mapping[str, Fact]
    seconds: float

    def count(self, level: Level) -> int:
        """How many new findings there are of a level."""
        return sum(1 for f in self.findings if f.state is State.NEW and f.level is level)

    @property
    def failed(self) -> bool:
        """Whether there is a new error."""
        return self.count(Level.ERROR) > 0
