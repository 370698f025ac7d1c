"""The README keeps its word: its Python runs as printed, and its commands are those of the Makefile."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.nets import Net

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_runs_as_printed(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    x = net.input("N", 3, 8, 8, name="image")
    onnx.save(net.model(net.op("Relu", net.op("Identity", net.conv(x, 4, pad=1)))), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    names = {"images": np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)}
    # dont_inherit: the annotations of this file are strings, those of the README are not.
    exec(compile(BLOCKS[number], "README.md", "exec", dont_inherit=True), {"__name__": "readme", **names})


def test_there_is_python_to_run() -> None:
    assert len(BLOCKS) == 2


def one_line(text: str) -> str:
    return " ".join(text.replace("\\\n", " ").split())


def test_the_commands_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made = one_line(makefile).replace("$(BIN)", ".venv/bin").replace("$(MODEL)", "models/fashion_rep")
    found = re.search(r"In plain commands:\n\n((?:    .*\n)+)", TEXT)
    assert found is not None
    commands = [line.strip() for line in found.group(1).replace("\\\n", " ").splitlines()]
    assert len(commands) == 4
    for command in map(one_line, commands[2:]):
        assert command in made
    assert '-e ".[dev]"' in commands[1]
    assert '-e ".[dev]"' in made
