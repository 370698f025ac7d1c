"""A rule: its code, its name, how much it matters, and the function that looks for it.

A rule is one module of ``graphopt.check.rules`` (or of anybody, by the entry-point group ``graphopt.checks``) with a ``RULE`` and a
docstring of a summary and four sections, from which the documentation is made:

    Batch normalization that a convolution could absorb.

    What: ...
    Why: ...
    Example: ...
    Remedy: ...
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from graphopt.check.finding import Finding, Level

if TYPE_CHECKING:
    from graphopt.check.subject import Subject

SECTIONS = ("What", "Why", "Example", "Remedy")
_HEAD = re.compile(rf"(?m)^({'|'.join(SECTIONS)}): ")
_CODE = re.compile(r"[A-Z]{2,8}\d{3}")

Check = Callable[["Subject"], Iterable[Finding]]


class Stage(Enum):
    """Where a rule's findings come from."""

    DOOR = "door"
    """Reading the model refuses it, with this code."""
    STRUCTURE = "structure"
    """``graphopt.verify.check_structure`` tells it, with this code."""
    CONTACT = "contact"
    """A worker process that checked, loaded and ran the model did not survive it, with this code."""
    GRAPH = "graph"
    """A function of the model."""
    REFERENCE = "reference"
    """A function of the model and of another one, given with ``--against``."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: ``GO`` and three digits; another package takes letters of its own.
        name: a few words, kebab-case.
        level: how much a finding matters unless the configuration says otherwise.
        check: looks for it; None where the stage tells it.
        stage: where findings come from.
        fix: the pipeline that mends it, "" if no pass does.
    """

    code: str
    name: str
    level: Level
    check: Check | None = None
    stage: Stage = Stage.GRAPH
    fix: str = ""

    def __post_init__(self) -> None:
        if not _CODE.fullmatch(self.code):
            raise ValueError(f"{self.code!r} is no code: two to eight capital letters and three digits")
        if (self.check is None) != (self.stage in (Stage.DOOR, Stage.STRUCTURE, Stage.CONTACT)):
            raise ValueError(f"{self.code}: a rule has a function, or a stage that tells it")

    def found(
        self, where: str, why: str, *, key: str = "", hint: str = "", anchor: str = "", **facts: str | float | bool | None
    ) -> Finding:
        """A finding of this rule."""
        return Finding(self.code, where, why, hint, key, anchor, facts)


@dataclass(frozen=True, slots=True)
class Doc:
    """A rule's documentation: its summary, and the text of each section."""

    summary: str
    sections: dict[str, str]

    @staticmethod
    def parse(text: str) -> Doc:
        """Read a docstring. Raises ValueError where a section is missing, twice, or not in its order."""
        head, *rest = _HEAD.split(inspect.cleandoc(text))
        names, bodies = rest[::2], rest[1::2]
        if tuple(names) != SECTIONS:
            raise ValueError(f"the sections are {', '.join(names) or 'none'} instead of {', '.join(SECTIONS)}")
        return Doc(head.strip(), {name: body.strip() for name, body in zip(names, bodies, strict=True)})
