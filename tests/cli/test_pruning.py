"""``prune``, ``sensitivity`` and ``target`` on the command line: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest

from graphopt.cli.compiling import check_faster
from graphopt.cli.main import run
from graphopt.errors import BudgetError
from graphopt.pipeline.record import Report
from graphopt.target import Target
from tests.passes.prune.test_prune import classifier, images


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(classifier(), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", image=images(32))
    return tmp_path / "model.onnx"


def words(*arguments: object) -> list[str]:
    return [str(a) for a in arguments]


def test_prune_writes_the_model_and_the_masks(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, masks = model.with_name("out.onnx"), model.with_name("masks.npz")
    options = ("-b", "macs=0.7", "--options", "multiple=4", "-d", model.with_name("calib.npz"), "--no-timing")
    assert run(words("prune", model, *options, "-o", out, "--emit-masks", masks)) == 0
    assert "written" in capsys.readouterr().out
    first = masks.read_bytes()
    with np.load(masks) as found:
        assert found.files
        assert all(found[name].dtype == bool and not found[name].all() for name in found.files)
    again = model.with_name("again.onnx")
    assert run(words("run", model, "-p", f"fold,prune:masks={masks}", "-o", again, "--no-timing")) == 0
    shapes = [sorted(tuple(t.dims) for t in onnx.load(path).graph.initializer) for path in (out, again)]
    assert shapes[0] == shapes[1]
    assert run(words("prune", model, *options, "--emit-masks", masks)) == 2  # it exists
    assert run(words("prune", model, *options, "--emit-masks", masks, "--force")) == 0
    assert masks.read_bytes() == first


def test_sensitivity_as_table_json_and_picture(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = model.with_name("curves.svg")
    options = ("--multiple", 4, "-d", model.with_name("calib.npz"))
    assert run(words("sensitivity", model, *options, "--svg", picture)) == 0
    assert "most robust first" in capsys.readouterr().out
    assert run(words("sensitivity", model, *options, "--format", "json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["calibrated"] is True
    assert all(p["error"] >= 0 and 0 < p["removed"] < s["size"] for s in found["series"] for p in s["points"])
    lines = ET.parse(picture).getroot().findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == len(found["series"])


def test_probe_writes_a_target_that_prunes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = model.with_name("device.toml")
    assert run(words("target", "probe", model, "-o", device)) == 0
    assert f"written: {device}" in capsys.readouterr().out
    target = Target.load(device)
    assert target.latency is not None
    assert target.evidence["latency"].kind == "measured"
    assert target.int8 is not None  # the rest of the target is kept
    goal = ("-p", "fold,prune:latency=0.9:multiple=4", "-d", model.with_name("calib.npz"), "--no-timing", "--format", "json")
    assert run(words("run", model, *goal, "-t", device)) == 0
    budget = json.loads(capsys.readouterr().out)["passes"][1]["facts"]["budget"]
    assert budget["reached"] <= budget["target"]
    assert run(words("target", "probe", model, "-o", device)) == 2  # it exists


def test_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["target", "list"]) == 0
    assert "generic" in capsys.readouterr().out


def record(*, slower: bool) -> Report:
    import graphopt

    report = graphopt.run(classifier(), "prune:ratio=0.5:multiple=4:importance=norm", timing=False).report
    report.passes[0].facts["not_faster"] = slower  # type: ignore[index]
    return report


def test_what_is_not_faster_is_not_written() -> None:
    out = Path("out.onnx")
    with pytest.raises(BudgetError, match="GO402") as caught:
        check_faster(record(slower=True), (out, None), force=False)
    assert caught.value.exit_code == 1
    with pytest.raises(BudgetError, match="GO402"):
        check_faster(record(slower=True), (None, Path("masks.npz")), force=False)
    check_faster(record(slower=True), (out, None), force=True)
    check_faster(record(slower=True), (None, None), force=False)
    check_faster(record(slower=False), (out, None), force=False)
