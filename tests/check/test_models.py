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


def hold(path: Path, tmp_path: Path, pipeline: str, *words: str) -> None:
    """Before: what is foldable and what is in float; after the passes: none of what the words mean."""
    before = codes(checked(path, "GO1", "GO2"))
    assert before & {"GO101", "GO102", "GO103", "GO104"}
    assert before & {"GO200", "GO201"}
    calibration = path.parent / "calib.npz"
    data = str(calibration) if calibration.exists() else None
    graphopt.run(path, pipeline, data=data, timing=False).save(tmp_path / "after.onnx")
    assert not codes(checked(tmp_path / "after.onnx", *words))


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_before_and_after(path: Path, tmp_path: Path) -> None:
    hold(path, tmp_path, "fold,quant", "GO1", "GO2")


OTHERS = [pytest.param(p, id=p.stem) for p in EACH if p not in QUICK]


@pytest.mark.slow
@pytest.mark.parametrize("path", OTHERS)
def test_before_and_after_the_others(path: Path, tmp_path: Path) -> None:
    hold(path, tmp_path, "fold,quant", "GO1", "GO2")


@pytest.mark.slow
def test_what_was_trained_with_quantizers_keeps_nothing_to_fold(tmp_path: Path) -> None:
    hold(MODELS / "cifar_qat" / "cifar_qat.onnx", tmp_path, "fold", "GO1")


def test_every_model_is_held() -> None:
    assert len(EACH) == len(QUICK) + len(OTHERS)
    assert {path.parent.name for path in EACH} == {path.parent.name for path in MODELS.glob("*/__init__.py")}
