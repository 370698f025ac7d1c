"""The trained networks of the repository: findings before the passes, none after them."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphopt
from graphopt.check import Checked, Level, registry
from graphopt.check.runner import Settings, check_file
from graphopt.check.subject import Asked
from graphopt.target import Target

MODELS = Path(__file__).parents[2] / "models"
EACH = sorted(MODELS.glob("*/*.onnx"))
QUICK = [path for path in EACH if path.stem in ("fashion_rep", "sr_x3.dynamo")]


def checked(path: Path, *words: str) -> Checked:
    return check_file(path, Settings(Asked(Target.load("ort-x86-vnni")), registry.chosen(words, [])))


def codes(found: Checked) -> set[str]:
    return {f.code for f in found.findings if f.level is not Level.NOTE}


def hold(path: Path, tmp_path: Path) -> None:
    before = codes(checked(path, "GO1", "GO2"))
    assert before & {"GO101", "GO102", "GO103", "GO104"}
    assert before & {"GO200", "GO201"}
    quantized = "GO201" in before  # by its training, in parts; quant leaves such a model as it is
    calibration = path.parent / "calib.npz"
    result = graphopt.run(
        path, "fold" if quantized else "fold,quant", data=str(calibration) if calibration.exists() else None, timing=False
    )
    result.save(tmp_path / "after.onnx")
    assert not codes(checked(tmp_path / "after.onnx", *(["GO1"] if quantized else ["GO1", "GO2"])))


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_before_and_after(path: Path, tmp_path: Path) -> None:
    hold(path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in EACH if path not in QUICK], ids=lambda path: path.stem)
def test_before_and_after_the_others(path: Path, tmp_path: Path) -> None:
    hold(path, tmp_path)
