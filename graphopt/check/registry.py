"""Finding rules: the built-in ones by the map of codes, those of other packages by the entry-point group ``graphopt.checks``.

An entry point's name is the rule's code, its value ``module:RULE``. Codes that begin with ``GO`` are graphopt's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata

from graphopt.check.codes import CODES, Status
from graphopt.check.rule import Doc, Rule
from graphopt.errors import UsageError
from graphopt.spec import near

GROUP = "graphopt.checks"
WHERE = "rules"


@cache
def plugins() -> dict[str, metadata.EntryPoint]:
    """Rules of other packages by code.

    Raises:
        UsageError: GO954, two packages claim a code, or one claims a code of graphopt's.
    """
    found: dict[str, metadata.EntryPoint] = {}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if point.name.startswith("GO"):
            raise UsageError("GO954", f"{WHERE}: {point.name}", f"{point.value} claims a code of graphopt's", "take other letters")
        if point.name in found and found[point.name].value != point.value:
            claims = f"{found[point.name].value} and {point.value}"
            raise UsageError("GO954", f"{WHERE}: {point.name}", f"is claimed twice: {claims}", "uninstall one of them")
        found[point.name] = point
    return found


def load(code: str) -> Rule:
    """The rule of a code.

    Raises:
        UsageError: GO952, there is no such rule, or no longer; GO954, it cannot be imported or is no rule.
    """
    entry = CODES.get(code)
    if entry is not None:
        if entry.status is Status.REMOVED:
            raise UsageError("GO952", f"{WHERE}: {code}", "this rule was removed", entry.instead)
        rule: object = importlib.import_module(entry.module).RULE
    elif code in plugins():
        rule = _plugin(plugins()[code])
    else:
        raise UsageError("GO952", WHERE, f"there is no rule {code!r}", near(code, known()) or "`graphopt explain` lists them")
    if not isinstance(rule, Rule) or rule.code != code:
        raise UsageError("GO954", f"{WHERE}: {code}", "is not a graphopt.check.Rule of that code", "mend or uninstall its package")
    return rule


def _plugin(point: metadata.EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:
        why = f"{point.value} cannot be imported: {type(error).__name__}: {error}"
        raise UsageError("GO954", f"{WHERE}: {point.name}", why, "mend or uninstall its package") from error


def known() -> list[str]:
    """All codes that can be asked for."""
    return [code for code, entry in CODES.items() if entry.status is not Status.REMOVED] + list(plugins())


def status(code: str) -> Status:
    """Whether a rule can be relied on; what another package brings is for it to say, and counts as stable."""
    return CODES[code].status if code in CODES else Status.STABLE


def matching(pattern: str) -> list[str]:
    """The codes that a word of ``--select`` stands for: a code, the beginning of some, a rule's name, or ``all``.

    Raises:
        UsageError: GO952, it stands for none.
    """
    found = [code for code in known() if pattern.lower() == "all" or code.startswith(pattern.upper()) or _name(code) == pattern]
    if not found and pattern.upper() in CODES:
        load(pattern.upper())  # which says that it was removed, and what to use instead
    if not found:
        found = [code for code in plugins() if load(code).name == pattern]
    if not found:
        names = [*known(), *(entry.name for entry in CODES.values())]
        raise UsageError(
            "GO952", WHERE, f"no rule is meant by {pattern!r}", near(pattern, names) or "`graphopt explain` lists them"
        )
    return found


def _name(code: str) -> str:
    return CODES[code].name if code in CODES else ""


def chosen(select: Iterable[str], ignore: Iterable[str]) -> list[str]:
    """The codes to check for: those of ``select`` (all, if that is empty) without those of ``ignore``; the longer word wins."""
    kept, dropped = _weights(select), _weights(ignore)
    everything = not list(select)
    return [code for code in known() if (everything or kept[code] >= 0) and dropped[code] <= (-1 if everything else kept[code] - 1)]


def _weights(words: Iterable[str]) -> dict[str, int]:
    """Every code with the weight of the most precise word that means it, -1 if none does."""
    found = dict.fromkeys(known(), -1)
    for word in words:
        found |= {code: max(found[code], weight(word)) for code in matching(word)}
    return found


def weight(word: str) -> int:
    """How precise a word is: its length, and ``all`` is the least precise."""
    return 0 if word.lower() == "all" else len(word)


def doc(rule: Rule) -> Doc:
    """A rule's documentation.

    Raises:
        UsageError: GO954, its module's docstring does not have the sections.
    """
    point = plugins().get(rule.code)
    name = CODES[rule.code].module if rule.code in CODES else point.module if point is not None else ""
    text = importlib.import_module(name).__doc__ if name else None
    try:
        return Doc.parse(text or "")
    except ValueError as error:
        raise UsageError("GO954", f"{WHERE}: {rule.code}", f"its docstring: {error}", f"see {sys.modules[name].__file__}") from None
