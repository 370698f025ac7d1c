"""Finding a pass by its name.

Passes are entry points of the group ``graphopt.passes``: name to ``module:Class``. The built-in ones register in the
same way as anybody's; the table below is the same list again, for a checkout that is not installed (a test holds the
two together).

A plugin that cannot be imported breaks only itself: the others are still listed and found.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from graphopt.errors import UsageError
from graphopt.pipeline.base import Pass
from graphopt.spec import WHERE, PassText, build, near, same_word

GROUP = "graphopt.passes"

BUILTIN: Mapping[str, str] = {
    "simplify": "graphopt.passes.simplify:Simplify",
    "fold": "graphopt.passes.fold:Fold",
    "prune": "graphopt.passes.prune:Prune",
    "quant": "graphopt.passes.quant:Quant",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a pass is to be found: ``module:Class``, and the distribution that says so."""

    name: str
    target: str
    origin: str


def entries() -> dict[str, list[Entry]]:
    """Every registered pass by name, the built-in ones first. More than one entry for a name is a conflict."""
    found = {name: [Entry(name, target, "graphopt")] for name, target in BUILTIN.items()}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        known = found.setdefault(point.name, [])
        target = point.value.replace(" ", "")
        if all(entry.target != target for entry in known):
            origin = point.dist.name if point.dist is not None else "an unknown distribution"
            known.append(Entry(point.name, target, origin))
    return found


def find(name: str) -> type[Pass]:
    """The class of a pass.

    Raises:
        UsageError: GO911, there is no such pass; GO915, it cannot be imported or is no pass; GO916, two distributions
            claim it.
    """
    known = entries()
    match = next((other for other in known if same_word(other, name)), None)
    if match is None:
        hint = near(name, known) or "`graphopt passes` lists them"
        raise UsageError("GO911", WHERE, f"there is no pass {name!r}", hint)
    if len(known[match]) > 1:
        claims = ", ".join(f"{entry.target} of {entry.origin}" for entry in known[match])
        raise UsageError("GO916", WHERE, f"the pass {match!r} is claimed twice: {claims}", "uninstall one of them")
    return load(known[match][0])


def load(entry: Entry) -> type[Pass]:
    """Import the class of an entry. Raises UsageError GO915."""
    where = f"{WHERE}: {entry.name}"
    hint = f"it comes from {entry.origin}; mend or uninstall that"
    module, _, attribute = entry.target.partition(":")
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        why = f"{entry.target} cannot be imported: {type(error).__name__}: {error}"
        raise UsageError("GO915", where, why, hint) from error
    if not (isinstance(found, type) and issubclass(found, Pass)):
        raise UsageError("GO915", where, f"{entry.target} is not a subclass of graphopt.Pass", hint)
    return found


def make(text: PassText) -> Pass:
    """The pass that a text names, with its options."""
    return build(find(text.name), text)
