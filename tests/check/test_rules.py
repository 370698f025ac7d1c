"""Each rule finds what it is for, and finds nothing in the near twin. Every rule has both, and a page that its docstring gives."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from graphopt.check import registry
from graphopt.check.codes import CODES, Status
from graphopt.check.finding import Checked
from graphopt.check.rule import SECTIONS
from graphopt.check.runner import Settings, check_file
from graphopt.check.subject import Asked
from graphopt.cli.explain import page
from graphopt.guard.limits import Limits
from graphopt.target import Target
from tests.check import number_cases as _numbers  # fills the table
from tests.check import residue_cases as _residue  # likewise
from tests.check.cases import CASES, Given, given

del _numbers, _residue

DOCS = Path(__file__).parents[2] / "docs" / "rules"


def checked(one: Given, folder: Path, codes: list[str]) -> Checked:
    path = one.path(folder)
    against = None
    if one.against is not None:
        against = folder / "reference.onnx"
        onnx.save(one.against, against)
    target = one.target
    if one.target_text:
        (folder / "target.toml").write_text(one.target_text)
        target = str(folder / "target.toml")
    asked = Asked(Target.load(target), against=against, limits=one.limits, samples=4, seconds=3.0)
    return check_file(path, Settings(asked, codes, limits=Limits(one.memory, one.seconds)))


EACH = [(code, index) for code in sorted(CASES) for index in range(len(CASES[code]))]


@pytest.mark.parametrize(("code", "index"), EACH, ids=[f"{code}-{index}" for code, index in EACH])
def test_the_rule_finds_its_model(code: str, index: int, tmp_path: Path) -> None:
    found = checked(given(code, index, True), tmp_path, [code])
    assert code in {f.code for f in found.findings}, found


@pytest.mark.parametrize(("code", "index"), EACH, ids=[f"{code}-{index}" for code, index in EACH])
def test_the_rule_finds_nothing_in_the_twin(code: str, index: int, tmp_path: Path) -> None:
    found = checked(given(code, index, False), tmp_path, [code])
    assert not found.findings
    assert code in found.ran, found.skipped  # it was asked, and did not merely keep silent


def test_every_rule_has_a_model_and_a_twin() -> None:
    assert set(CASES) == {code for code, entry in CODES.items() if entry.status is not Status.REMOVED}


@pytest.mark.parametrize("code", CODES)
def test_the_page_is_what_the_docstring_gives(code: str) -> None:
    assert (DOCS / f"{code}.md").read_text(encoding="utf-8") == page(code), "python -m tests.check.write_docs"


@pytest.mark.parametrize("code", CODES)
def test_every_section_says_something(code: str) -> None:
    doc = registry.doc(registry.load(code))
    assert doc.summary.endswith(".")
    assert all(len(doc.sections[name]) > 10 for name in SECTIONS)


def test_there_is_no_other_page() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == {*CODES, "README"}


def test_every_file_has_a_code() -> None:
    folder = Path(registry.__file__).parent / "rules"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == {entry.name.replace("-", "_") for entry in CODES.values()}


def test_names_and_codes_agree() -> None:
    assert all(registry.load(code).name == entry.name for code, entry in CODES.items())
    assert len({entry.name for entry in CODES.values()}) == len(CODES)
