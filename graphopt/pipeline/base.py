"""The pass: a frozen dataclass whose fields are its options.

    @dataclass(frozen=True, kw_only=True)
    class Halve(Pass):
        '''Halve every weight. The first line of the docstring is what `graphopt passes` shows.'''

        name: ClassVar[str] = "halve"
        kind: ClassVar[Kind] = Kind.LOSSY

        times: int = option(1, "how often to halve")

        def run(self, model: Model, ctx: Context) -> Outcome: ...

A pass is a value: two passes with the same options are equal, and its text (``halve:times=2``) gives it back. It edits
the model it is given, which is a private copy, and keeps nothing. It is found by the entry-point group
``graphopt.passes``, under its name.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, TypeVar

from graphopt.spec import format_pass

if TYPE_CHECKING:
    from graphopt.model import Model
    from graphopt.pipeline.context import Context
    from graphopt.pipeline.outcome import Outcome

T = TypeVar("T")

DOC = "doc"
"""The key of an option's documentation in its field's metadata."""


class Kind(Enum):
    """What a pass promises about the outputs."""

    EXACT = "exact"
    """The result computes what the pass's input computes, up to rounding. Held against it after every run (unless the outcome says
    that an option gave that up)."""
    LOSSY = "lossy"
    """The result computes something close. Held against the outcome's reference where there is one, measured in any
    case."""


def option(default: T, doc: str) -> T:
    """An option of a pass: a dataclass field with its default and one line of documentation.

    The type of an option is ``bool``, ``int``, ``float``, ``str``, a ``Path``, a ``Literal`` of strings or an ``Enum``,
    or one of these ``| None``. (The return type is the default's, so that type checkers see a plain dataclass default.)
    """
    made: T = dataclasses.field(default=default, metadata={DOC: doc})
    return made


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pass(ABC):
    """One transformation of a model. Subclasses are frozen, keyword-only dataclasses with a ``name`` and a ``kind``."""

    name: ClassVar[str]
    kind: ClassVar[Kind]

    @abstractmethod
    def run(self, model: Model, ctx: Context) -> Outcome:
        """Edit ``model``, a private copy, in place, and say what was done and what was refused.

        Raise a ``GraphoptError`` only for what the user must mend (a bad option value, data that does not fit, a budget
        that cannot be met). What the pass cannot do on this model is a refusal in the outcome.
        """

    def kept(self, outcome: Outcome) -> Kind:
        """What this run promises: the pass's kind, unless an option made it give up equality."""
        return Kind.LOSSY if outcome.approximate else self.kind

    def __str__(self) -> str:
        return format_pass(self.name, self)
