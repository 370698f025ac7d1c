"""The pytest helper, and rules of other packages."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import onnx
import pytest

from graphopt.check import Finding, Level, Rule, registry
from graphopt.errors import UsageError
from graphopt.testing import assert_model
from tests.check.number_cases import PARAMS, two_convs
from tests.check.test_config import with_batch_norm


def test_a_sound_model_passes_and_gives_its_figures(tmp_path: Path) -> None:
    onnx.save(two_convs(32), tmp_path / "model.onnx")
    checked = assert_model(tmp_path / "model.onnx", max_params=PARAMS, against=tmp_path / "model.onnx", min_sqnr_db=100)
    assert checked.facts["params"] == PARAMS


def test_a_faulty_one_fails_with_the_report(tmp_path: Path) -> None:
    onnx.save(with_batch_norm(), tmp_path / "model.onnx")
    with pytest.raises(AssertionError, match="error GO101: BatchNormalization"):
        assert_model(tmp_path / "model.onnx")
    assert_model(tmp_path / "model.onnx", ignore=["GO101"])


@pytest.mark.parametrize(
    ("budget", "code"),
    [
        ({"max_params": 1}, "GO410"),
        ({"max_macs": 1}, "GO411"),
        ({"max_bytes": 1}, "GO412"),
        ({"max_activation": 1}, "GO413"),
        ({"max_nodes": 1}, "GO414"),
    ],
)
def test_budgets(tmp_path: Path, budget: dict[str, float], code: str) -> None:
    onnx.save(two_convs(32), tmp_path / "model.onnx")
    with pytest.raises(AssertionError, match=code):
        assert_model(tmp_path / "model.onnx", **budget)  # type: ignore[arg-type]


def test_a_wrong_word_is_no_failed_assertion(tmp_path: Path) -> None:
    onnx.save(two_convs(32), tmp_path / "model.onnx")
    with pytest.raises(UsageError):
        assert_model(tmp_path / "model.onnx", ignore=["GO777"])


# -- rules of other packages ------------------------------------------------------------------------------------------------------


def no_relu(subject: object) -> list[Finding]:
    return [RULE.found("", "there is a Relu")] if "Relu" in subject.ops.values() else []  # type: ignore[attr-defined]


RULE = Rule("TEAM001", "no-relu", Level.ERROR, no_relu)  # type: ignore[arg-type]
NO_RULE = "a text"


def points(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    found = [metadata.EntryPoint(name, target, registry.GROUP) for name, target in entries.items()]
    monkeypatch.setattr(metadata, "entry_points", lambda group: found if group == registry.GROUP else [])
    registry.plugins.cache_clear()
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: found)


@pytest.fixture(autouse=True)
def forget() -> object:
    yield
    registry.plugins.cache_clear()


def test_a_rule_of_another_package_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, TEAM001=f"{__name__}:RULE")
    onnx.save(two_convs(32), tmp_path / "model.onnx")
    with pytest.raises(AssertionError, match="TEAM001: there is a Relu"):
        assert_model(tmp_path / "model.onnx")
    assert_model(tmp_path / "model.onnx", ignore=["TEAM"])


@pytest.mark.parametrize(
    "entry",
    [
        {"TEAM002": f"{__name__}:RULE"},
        {"TEAM002": f"{__name__}:NO_RULE"},
        {"TEAM002": "nosuch.module:RULE"},
        {"GO777": f"{__name__}:RULE"},
    ],
    ids=["another code", "no rule", "no module", "a code of ours"],
)
def test_a_broken_one_is_named(entry: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, **entry)
    onnx.save(two_convs(32), tmp_path / "model.onnx")
    with pytest.raises(UsageError) as caught:
        assert_model(tmp_path / "model.onnx")
    assert caught.value.diagnostic.code == "GO954"
