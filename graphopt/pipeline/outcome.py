"""What a pass reports: what it rewrote, what it refused and why, and what the reader must know.

A refusal is a value, not an exception: "this block stays as it is, because ..." is an answer. Its ``code`` is a
kebab-case word that names the reason (``padded-bias``, ``extra-consumer``), one code a reason, so that refusals can be
counted and searched for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from graphopt.model import Model

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"
"""Anything that ``json.dumps`` writes."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite that was made.

    ``where`` names the place (a node label, or a tensor), ``what`` says in a few words what was done, ``macs_saved`` is
    how many multiply-accumulates for one input it saves (negative where it costs), ``code`` is a kebab-case word for the
    kind of rewrite, where a pass makes several kinds.
    """

    where: str
    what: str
    macs_saved: int = 0
    code: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rewrite that was considered and not made: where, the reason's code (kebab-case), and the reason in words."""

    where: str
    code: str
    why: str


def _rewrites() -> list[Rewrite]:
    return []


def _refusals() -> list[Refusal]:
    return []


def _notes() -> list[str]:
    return []


def _facts() -> dict[str, JSON]:
    return {}


@dataclass(slots=True)
class Outcome:
    """What one run of a pass did.

    Attributes:
        changed: whether the model was edited at all. ``False`` promises that nothing was, and nothing is verified then.
        rewrites: what was done.
        refusals: what was not done, and why.
        notes: sentences that the reader must not miss; they are printed loudly.
        approximate: an exact pass was asked to give up equality, and did so in this run; it is then measured like a lossy one.
        reference: for a lossy pass, the model that the result must equal exactly (the masked original, for pruning).
            Without one the result is only measured, and the report says so.
        facts: figures of the pass's own for the JSON report.
    """

    changed: bool = False
    rewrites: list[Rewrite] = field(default_factory=_rewrites)
    refusals: list[Refusal] = field(default_factory=_refusals)
    notes: list[str] = field(default_factory=_notes)
    approximate: bool = False
    reference: Model | None = None
    facts: dict[str, JSON] = field(default_factory=_facts)
