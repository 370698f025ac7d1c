"""Every kind of model that must be refused is found, by the code that tells what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.check import Level, registry
from graphopt.check.runner import Settings, check_file
from graphopt.check.subject import Asked
from graphopt.target import Target
from tests.check.must_reject import CODES
from tests.damage.corpus import Case, corpus
from tests.damage.draft import KINDS, Allowed

EXPECTED = {kind: code for code, kinds in CODES.items() for kind in kinds}
REFUSED = {name for name, kind in KINDS.items() if kind.allowed is Allowed.REFUSED}


def one_of_each() -> list[Case]:
    first: dict[str, Case] = {}
    for case in corpus(extra=False):
        if case.kind in REFUSED:
            first.setdefault(case.kind, case)
    return list(first.values())


@pytest.mark.parametrize("case", one_of_each(), ids=lambda case: case.kind)
def test_damage_is_found(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))  # what links of some kinds point to
    path = case.write(folder)
    asked = Asked(Target.load("ort-x86-vnni"))
    found = check_file(path, Settings(asked, registry.chosen(["GO0"], [])))
    errors = {f.code for f in found.findings if f.level is Level.ERROR}
    assert EXPECTED[case.kind] in errors


def test_the_table_has_every_kind_once() -> None:
    assert sum(map(len, CODES.values())) == len(EXPECTED)
    assert set(EXPECTED) == REFUSED
