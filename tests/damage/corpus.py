"""The corpus: every kind of damage on several bases, the same for the same seed.

A case is a kind, a base and a seed, nothing more: its files are made when they are needed, so a corpus is cheap to hold and to send
to another process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.damage import kinds as _kinds  # registers the kinds
from tests.damage.draft import KINDS, Allowed, Draft, Kind, Skip, draft

del _kinds

SEED = 4

EXACT = ("run", "--passes", "simplify,fold")
LOSSY = ("run", "--passes", "fold,prune:macs=0.8,quant")
INSPECT = ("inspect",)
GROUPS = ("groups",)
_SHARES = (LOSSY, INSPECT, GROUPS)
_EVERY = 4
"""Every case is run with the exact passes, and every fourth with another command too, in turn."""


@dataclass(frozen=True)
class Case:
    """One damaged model and the command that it is given to."""

    kind: str
    base: str
    seed: int
    command: tuple[str, ...] = EXACT

    @property
    def id(self) -> str:
        how = "" if self.command == EXACT else f" [{' '.join(self.command[:1] + self.command[2:])}]"
        return f"{self.kind}/{self.base}/{self.seed}{how}"

    @property
    def allowed(self) -> Allowed:
        """What may come of it. Only the exact passes have to bring a sound model through; others may refuse."""
        allowed = KINDS[self.kind].allowed
        return allowed if self.command == EXACT else Allowed.EITHER

    def draft(self) -> Draft:
        """The damaged model. Raises Skip if the kind does not fit the base."""
        made = draft(self.base, number(f"{self.kind}/{self.base}/{self.seed}"))
        KINDS[self.kind].apply(made)
        return made

    def write(self, folder: Path) -> Path:
        """Write the files into ``folder`` and return the model's path."""
        made = self.draft()
        for name, raw in made.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(raw)
        for name, target in made.links.items():
            (folder / name).symlink_to(target)
        for name, target in made.hard.items():
            os.link(folder / target, folder / name)
        path = folder / "m.onnx"
        path.write_bytes(made.bytes())
        return path


def number(text: str) -> int:
    """A seed that does not depend on Python's hashing."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _fits(case: Case) -> bool:
    try:
        case.draft()
    except Skip:
        return False
    return True


def _of(kind: Kind, seed: int) -> Iterator[Case]:
    """``count`` models: bases in an order of the kind's own, then the same bases with other random numbers."""
    bases = sorted(kind.bases, key=lambda name: number(f"{seed}/{kind.name}/{name}"))
    left = kind.count
    for turn in range(kind.count):
        for name in bases:
            case = Case(kind.name, name, seed * 1000 + turn)
            if left and _fits(case):
                left -= 1
                yield case


def corpus(only: str = "", seed: int = SEED, *, extra: bool = True) -> list[Case]:
    """All cases of the kinds (or rooms) whose name contains ``only``; ``extra``: the other commands too."""
    cases: list[Case] = []
    for index, kind in enumerate(KINDS.values()):
        if only not in kind.name and only != kind.room:
            continue
        for turn, case in enumerate(_of(kind, seed)):
            cases.append(case)
            if extra and turn % _EVERY == 0:
                cases.append(Case(case.kind, case.base, case.seed, _SHARES[index % len(_SHARES)]))
    return cases
