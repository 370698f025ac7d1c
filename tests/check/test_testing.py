"""The pytest helper, and rules of other packages."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.check import Finding, Level, Rule, registry
from graphopt.errors import UsageError
from graphopt.report.checks import github, junit, markdown, sarif
from graphopt.testing import assert_model
from tests.check.number_cases import PARAMS, two_convs
from tests.check.test_config import with_batch_norm
from tests.nets import Net


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


def raises(subject: object) -> list[Finding]:
    raise KeyError("oops")


def another(subject: object) -> list[Finding]:
    return [Finding("TEAM999", "", "of another rule")]


def nothing(subject: object) -> None:
    """Forgot to return anything."""


RAISES = Rule("TEAM003", "raises", Level.ERROR, raises)
ANOTHER = Rule("TEAM004", "another", Level.ERROR, another)
NOTHING = Rule("TEAM005", "nothing", Level.ERROR, nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "words"), [("RAISES", "KeyError: 'oops'"), ("ANOTHER", "no finding of its own"), ("NOTHING", "TypeError")]
)
def test_a_fault_of_a_rule_is_told_of_its_package(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = globals()[name].code
    points(monkeypatch, **{code: f"{__name__}:{name}"})
    onnx.save(two_convs(32), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=f"GO954.*{code}") as caught:
        assert_model(tmp_path / "model.onnx")
    assert words in str(caught.value)


def test_a_rule_of_another_package_has_its_name_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, TEAM001=f"{__name__}:RULE")
    onnx.save(two_convs(32), tmp_path / "model.onnx")
    checked = assert_model(tmp_path / "model.onnx", select=["no-relu"], warning=["TEAM001"])
    assert [f.code for f in checked.findings] == ["TEAM001"]
    for module in (github, junit, markdown):
        assert "relu" in module.render([checked])
    (run,) = json.loads(sarif.render([checked]))["runs"]
    assert run["tool"]["driver"]["rules"][0]["name"] == "NoRelu"  # although its module documents nothing


# -- what is asked of one model ----------------------------------------------------------------------------------------------------


def test_a_limit_that_cannot_be_checked_fails_the_test(tmp_path: Path) -> None:
    onnx.save(image_net(), tmp_path / "model.onnx")
    with pytest.raises(AssertionError, match="GO512"):
        assert_model(tmp_path / "model.onnx", against=tmp_path / "model.onnx", min_top1=0.9)


def image_net() -> onnx.ModelProto:
    net = Net()
    return net.model(net.conv(net.input(1, 3, 16, 16), 3, pad=1))


def test_a_path_is_a_path(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx", "c[1].onnx"):
        onnx.save(two_convs(32), tmp_path / name)
    assert assert_model(tmp_path / "c[1].onnx").model == str(tmp_path / "c[1].onnx")
    with pytest.raises(UsageError, match="GO950"):
        assert_model(tmp_path / "*.onnx")


def test_data_may_be_a_path(tmp_path: Path) -> None:
    onnx.save(two_convs(32), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 16, 8, 8), np.float32))
    assert_model(tmp_path / "model.onnx", data=tmp_path / "data.npz", against=tmp_path / "model.onnx", min_cosine=0.99)
