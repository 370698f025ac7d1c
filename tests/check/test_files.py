"""What a check writes: nothing over what is there to be read, nothing in the place of a device, and whatever a file is called."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import onnx
import pytest
from onnx import helper

from graphopt.cli.main import run
from tests.check.test_config import with_batch_norm

ONLY = ["--no-config", "--select", "GO101"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.onnx", "b.onnx", "other/a.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        onnx.save(with_batch_norm(), tmp_path / name)
    (tmp_path / "data.npz").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("kept")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REFUSED = [
    (["b.onnx", "--write-baseline", "a.onnx"], "GO907"),  # `--write-baseline *.onnx`, as a shell expands it
    (["a.onnx", "-o", "a.onnx"], "GO907"),
    (["a.onnx", "-o", "b.onnx"], "GO907"),
    (["a.onnx", "--against", "other/a.onnx", "--also", "json=other/a.onnx"], "GO907"),
    (["a.onnx", "--data", "data.npz", "-o", "data.npz"], "GO907"),
    (["a.onnx", "--write-baseline", "notes.txt"], "GO953"),
    (["a.onnx", "-o", "other"], "GO908"),
    (["a.onnx", "-o", "one", "--also", "json=./one"], "GO955"),
    (["a.onnx", "--write-baseline", "base.json", "--fix", "fixed"], "GO955"),
    (["a.onnx", "--write-baseline", "base.json", "-o", "report"], "GO955"),
    (["a.onnx", "--config", "graphopt.toml"], "GO955"),
]


@pytest.mark.parametrize(("arguments", "code"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_what_is_there_to_be_read_is_kept(
    folder: Path, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder)
    assert run(["check", *arguments, *ONLY]) == 2
    assert f"error[{code}]" in capsys.readouterr().err
    assert content(folder) == before


def test_a_baseline_is_written_over_a_baseline(folder: Path) -> None:
    for _ in range(2):
        assert run(["check", "a.onnx", *ONLY, "--write-baseline", "base.json"]) == 0


def test_a_report_takes_the_place_of_no_device(folder: Path) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert run(["check", "a.onnx", *ONLY, "-o", "pipe"]) == 1  # no device of the machine's: a fault here would take its place
    assert b"GO101" in os.read(reader, 1 << 16)
    os.close(reader)
    assert Path("pipe").is_fifo()


def test_a_report_is_written_to_where_a_link_points(folder: Path) -> None:
    Path("linked.json").symlink_to("real.json")
    run(["check", "a.onnx", *ONLY, "--also", "json=linked.json"])
    assert Path("linked.json").is_symlink()
    assert json.loads(Path("real.json").read_text())["failed"] is True


def test_reports_of_a_file_whose_name_is_no_text(folder: Path) -> None:
    name = os.fsdecode(b"lat\xfcn % &<.onnx")
    Path("a.onnx").rename(name)
    also = [word for form in ("json", "sarif", "junit", "markdown", "github") for word in ("--also", f"{form}={form}")]
    assert run(["check", name, *ONLY, *also]) == 1
    sarif = Path("sarif").read_text(encoding="utf-8")
    location = json.loads(sarif)["runs"][0]["results"][0]["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "lat%FCn%20%25%20%26%3C.onnx"
    assert not any(f"\\ud{digit}" in sarif.lower().replace("\\\\", "") for digit in "89abcdef")  # readers refuse lone surrogates
    assert ET.fromstring(Path("junit").read_bytes())[0].get("failures") == "1"
    assert Path("markdown").read_text(encoding="utf-8").count("GO101") == 1


# -- mending -----------------------------------------------------------------------------------------------------------------------


def test_the_report_comes_before_the_mending(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("fixed").mkdir()
    Path("fixed/b.onnx").write_text("kept")
    assert run(["check", "a.onnx", "b.onnx", *ONLY, "--fix", "fixed"]) == 2
    told = capsys.readouterr()
    assert told.out.count("error GO101") == 2
    assert "error[GO907]: fixed/b.onnx" in told.err
    assert "--force" not in told.err
    assert content(folder / "fixed") == {"b.onnx": b"kept"}  # and nothing else was begun


def test_two_models_of_one_name_are_not_mended_into_one_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "a.onnx", "other/a.onnx", *ONLY, "--fix", "fixed"]) == 2
    told = capsys.readouterr()
    assert told.out.count("error GO101") == 2
    assert "error[GO955]" in told.err
    assert not Path("fixed").exists()


def test_a_model_that_cannot_be_mended_keeps_no_other_from_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = with_batch_norm()
    proto.graph.node.append(helper.make_node("MyOp", [proto.graph.output[0].name], ["z"], domain="org.example"))
    proto.graph.output[0].name = "z"
    proto.opset_import.append(helper.make_opsetid("org.example", 1))
    onnx.save(proto, "0.onnx")
    assert run(["check", "0.onnx", "a.onnx", *ONLY, "--fix", "fixed"]) == 1
    assert "0.onnx: not mended: onnxruntime cannot load it" in capsys.readouterr().err
    assert list(content(folder / "fixed")) == ["a.onnx"]


def test_nothing_to_mend_makes_no_folder(folder: Path) -> None:
    assert run(["check", "a.onnx", "--no-config", "--select", "GO113", "--fix", "fixed"]) == 0
    assert not Path("fixed").exists()
