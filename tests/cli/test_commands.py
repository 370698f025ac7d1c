"""The commands, called in this process: what they print and what they write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.cli.main import run
from tests.nets import Net


@pytest.fixture
def model(tmp_path: Path) -> Path:
    net = Net()
    x = net.input("N", 3, 8, 8)
    y = net.op("Relu", net.bn(net.conv(x, 8, pad=1)))
    onnx.save(net.model(net.op("Flatten", net.op("GlobalAveragePool", net.conv(y, 4, 1)))), tmp_path / "model.onnx")
    np.savez(tmp_path / "test.npz", x=np.ones((4, 3, 8, 8), np.float32), labels=np.zeros(4, int))
    return tmp_path / "model.onnx"


def test_run_writes_a_model_and_a_report(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = model.with_name("out.onnx"), model.with_name("report.json")
    arguments = ["run", model, "-p", "fold", "-o", out, "--report", report, "--labels", model.with_name("test.npz")]
    assert run([str(a) for a in arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"written: {out}" in printed.out.replace("\n", "")
    assert [node.op_type for node in onnx.load(out).graph.node].count("BatchNormalization") == 0
    data = json.loads(report.read_text())
    assert data["schema"] == 1
    assert data["passes"][0]["verification"]["status"] == "held"
    assert data["passes"][0]["latency"]["ratio"] > 0
    assert data["accuracy"]["count"] == 4


def test_run_prints_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", str(model), "-p", "fold", "--format", "json", "--no-timing"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["pipeline"] == "fold"
    assert data["passes"][0]["latency"] is None
    assert data["data"]["calibrated"] is False


def test_run_without_passes_writes_the_same_model(model: Path) -> None:
    out = model.with_name("out.onnx")
    assert run(["run", str(model), "-p", "", "-o", str(out)]) == 0
    assert onnx.load(out) == onnx.load(model)


def test_made_up_data_is_said_loudly(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", str(model), "-p", "fold,quant:placement=kernels", "--no-timing"]) == 0
    assert "NOT CALIBRATED" in capsys.readouterr().out
    assert run(["run", str(model), "-p", "fold,quant:placement=kernels", "--no-timing", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert any("NOT CALIBRATED" in note for note in data["passes"][1]["notes"])


def test_force_overwrites(model: Path) -> None:
    out = model.with_name("out.onnx")
    out.write_text("old")
    assert run(["run", str(model), "-p", "fold", "-o", str(out), "--no-timing"]) == 2
    assert out.read_text() == "old"
    assert run(["run", str(model), "-p", "fold", "-o", str(out), "--no-timing", "--force"]) == 0
    onnx.checker.check_model(onnx.load(out))


def test_the_same_input_gives_the_same_bytes(model: Path) -> None:
    outs = [model.with_name(name) for name in ("a.onnx", "b.onnx")]
    for out in outs:
        assert run(["run", str(model), "-p", "fold,quant:placement=kernels", "-o", str(out), "--no-timing"]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_inspect(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(model)]) == 0
    text = capsys.readouterr().out
    assert "1x8x8x8" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert run(["inspect", str(model), "--format", "json", "--shape", "x=2x3x8x8"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["inputs"] == {"x": [2, 3, 8, 8]}
    assert data["total"]["macs"] == sum(layer["macs"] for layer in data["layers"])
    assert data["layers"][0]["macs"] == 2 * 8 * 8 * 8 * 3 * 9
    assert sum(layer["share"] for layer in data["layers"]) == pytest.approx(1)


def test_groups(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["groups", str(model)]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "graph output" in text
    assert run(["groups", str(model), "--format", "json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [group["units"] for group in groups if group["frozen"] is None] == [8]
    assert run(["groups", str(model), "--format", "dot"]) == 0
    dot = capsys.readouterr().out
    assert dot.startswith('digraph "model.onnx" {')
    assert dot.rstrip().endswith("}")


def test_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["passes"]) == 0
    text = capsys.readouterr().out
    assert "BROKEN" not in text
    assert run(["passes", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    named = {one["name"]: one for one in data["passes"]}
    assert {"simplify", "fold", "prune", "quant"} <= set(named)
    assert named["fold"]["kind"] == "exact"
    for one in named.values():
        assert one["summary"], one["name"]
        for option in one["options"]:
            assert option["doc"], (one["name"], option["name"])
            assert option["type"]


def test_one_pass_is_shown_with_its_whole_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["passes", "quant"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("quant (lossy)")
    assert "weights=per-channel" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("graphopt ")
    assert "onnxruntime" in text


@pytest.mark.parametrize("command", [[], ["run"], ["inspect"], ["groups"], ["passes"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == 0
    assert "Usage: graphopt" in capsys.readouterr().out


EVIL = "\x1b[31mevil\x1b]0;title\x07\r\nerror[GO001]: forged"


@pytest.mark.parametrize("command", ["run", "inspect", "groups"])
def test_names_from_a_file_cannot_speak_to_the_terminal(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Net()
    y = net.op("Add", net.conv(net.input(1, 3, 8, 8, name=f"x{EVIL}"), 4), net.const(net.random(4, 6, 6)), out=f"y{EVIL}")
    for node in net.nodes:
        node.name += EVIL
    path = tmp_path / "bad\x1b[2Jname.onnx"
    onnx.save(net.model(y), path)
    assert run([command, str(path), *(["--no-timing"] if command == "run" else [])]) == 0
    assert run([command, f"{path}{EVIL}"]) == 2
    printed = capsys.readouterr()
    lines = printed.out.split("\n") + printed.err.split("\n")
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("error[GO001]: forged") for line in lines)


def test_inspect_runs_nothing_where_all_sizes_are_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few bytes of model can ask for any amount of memory once it is run, or of input data."""

    def ran(*_: object) -> None:
        raise AssertionError("inputs were generated")

    monkeypatch.setattr("graphopt.cli.shapes.generated", ran)
    net = Net()
    path = tmp_path / "huge.onnx"
    onnx.save(net.model(net.op("Relu", net.input(2**31, 2**31))), path)
    assert run(["inspect", str(path)]) == 2
    assert "--memory-limit" in capsys.readouterr().err
    assert run(["inspect", str(path), "--memory-limit", "0"]) == 0
    assert "2147483648x2147483648" in capsys.readouterr().out
