"""docs/checks.md keeps its word: its configuration is read, its rule works, its limits and formats are those that there are."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

import onnx
import pytest

from graphopt.check import registry
from graphopt.check.config import LIMITS, read
from graphopt.cli.check import FORMATS
from graphopt.testing import assert_model
from tests.nets import Net

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(blocks("toml")[0])
    found = read(tmp_path / "pyproject.toml").options_for(tmp_path / "models" / "detector" / "a.onnx")
    assert found.limits == {"max-bytes": 4e6, "max-macs": 5e8, "min-sqnr-db": 30.0}
    assert found.target == "ort-x86-vnni"


def test_the_rule_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "no_tanh.py").write_text(blocks("python")[1])
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    point = metadata.EntryPoint("TEAM001", "my_package.no_tanh:RULE", registry.GROUP)
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [point])
    registry.plugins.cache_clear()
    try:
        net = Net()
        onnx.save(net.model(net.op("Tanh", net.input(1, 4))), tmp_path / "model.onnx")
        with pytest.raises(AssertionError, match="TEAM001: Tanh 'tanh0': runs on the CPU"):
            assert_model(tmp_path / "model.onnx", select=["TEAM001"])
        assert registry.doc(registry.load("TEAM001")).sections["Remedy"] == "Use HardTanh."
    finally:
        registry.plugins.cache_clear()
        sys.modules.pop("my_package.no_tanh", None)


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_is_told(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_every_format_is_told() -> None:
    assert "|".join(FORMATS) in TEXT


def test_the_pages_of_rules_are_linked() -> None:
    assert (ROOT / "docs" / re.findall(r"\]\((rules/[^)]*)\)", TEXT)[0]).is_file()


def test_the_action_and_the_hook_call_the_command_as_it_is() -> None:
    from graphopt.cli.check import command

    options = {name for parameter in command.params for name in parameter.opts}
    action = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"(?<!\S)\(?(--(?:also|format))", action)) <= options
    assert "${{ inputs" not in action.partition("run: |")[2]  # what an input holds is never text of the script
    assert "entry: graphopt check" in (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
