"""The commands through real processes: exit codes, streams, formats, mending, comparing, and what is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.cli.main import run
from tests.check.cases import crashing
from tests.check.number_cases import float_net
from tests.check.test_config import with_batch_norm
from tests.check.test_limits import unknown_operator
from tests.cli.test_failures import cli
from tests.nets import feed_for, ops_of, outputs_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx.save(float_net(True), folder / "sound.onnx")
    onnx.save(with_batch_norm(), folder / "faulty.onnx")
    (folder / "text.onnx").write_text("no model\n")
    if sys.platform == "linux":
        (folder / "crash.onnx").write_bytes(crashing(True).SerializeToString())
    return folder


EXITS = [
    # arguments after `check`, exit code, words of stdout, words of stderr
    (["sound.onnx"], 0, "1 model: 1 warning", ""),  # a float model, of which int8 would be worth something
    (["faulty.onnx"], 1, "error GO101", ""),
    (["faulty.onnx", "--warning", "GO101"], 0, "warning GO101", ""),
    (["sound.onnx", "--error", "GO200"], 1, "error GO200", ""),
    (["faulty.onnx", "--ignore", "GO1,GO2,dynamic-shape"], 0, "nothing found", ""),
    (["text.onnx"], 1, "error GO002", ""),  # a finding: the other models are still looked at
    (["text.onnx", "faulty.onnx"], 1, "error GO101", ""),
    (["sound.onnx", "--limit", "max-macs=1000"], 1, "error GO411", ""),
    (["sound.onnx", "--against", "sound.onnx", "--limit", "min-sqnr-db=100"], 0, "1 model", ""),
    (["nothing*.onnx"], 2, "", "error[GO950]"),
    (["nothing.onnx"], 2, "", "error[GO950]"),
    ([], 2, "", "error[GO950]"),
    (["sound.onnx", "--select", "GO777"], 2, "", "error[GO952]"),
    (["sound.onnx", "--baseline", "nothing.json"], 2, "", "error[GO953]"),
    (["sound.onnx", "--target", "nothing"], 2, "", "error[GO905]"),
    (["sound.onnx", "--limit", "max-mcas=1"], 2, "", "error[GO951]"),
    (["sound.onnx", "--config", "nothing.toml"], 2, "", "error[GO951]"),
    (["sound.onnx", "--against", "nothing.onnx"], 2, "", "error[GO950]"),
    (["sound.onnx", "--data", "nothing.npz", "--against", "sound.onnx", "--limit", "min-top1=1"], 2, "", "nothing.npz"),
    (["sound.onnx", "--format", "xml"], 2, "", "error[GO920]"),
]


@pytest.mark.parametrize(("arguments", "code", "out", "err"), EXITS, ids=[" ".join(a) or "nothing" for a, *_ in EXITS])
def test_exit_codes(
    folder: Path,
    arguments: list[str],
    code: int,
    out: str,
    err: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert run(["check", *arguments]) == code
    done = capsys.readouterr()
    assert out in done.out
    assert err in done.err
    assert bool(done.err) == (code == 2)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["sound.onnx"], 0, "warning GO200"), (["faulty.onnx"], 1, "error GO101"), (["nothing*.onnx"], 2, "error[GO950]")],
)
def test_so_it_is_in_a_process_of_its_own(folder: Path, arguments: list[str], code: int, words: str) -> None:
    done = cli("check", *arguments, cwd=folder)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert bool(done.stderr) == (code == 2)
    assert "Traceback" not in done.stderr


def test_a_bug_is_exit_code_3(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(
        "import sys\nfrom graphopt.check.rules import dead_node\nfrom graphopt.check.rule import Rule\n"
        "from graphopt.check import Level\ndef check(subject): raise KeyError('oops')\n"
        "dead_node.RULE = Rule('GO106', 'dead-node', Level.ERROR, check)\n"
        "from graphopt.cli.main import run\nsys.exit(run(['check', 'sound.onnx']))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=folder, env=env, timeout=120)
    assert done.returncode == 3
    assert "internal error: KeyError: 'oops'" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a crash that is known there")
def test_a_model_that_crashes_a_library_is_a_finding_and_the_next_one_is_checked(folder: Path) -> None:
    done = cli("check", "crash.onnx", "faulty.onnx", cwd=folder)
    assert done.returncode == 1
    assert "error GO040" in done.stdout
    assert "error GO101" in done.stdout


def test_a_baseline_is_written_and_holds(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "base.json"
    assert cli("check", "faulty.onnx", "--write-baseline", file, cwd=folder).returncode == 0
    done = cli("check", "faulty.onnx", "--baseline", file, cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "in the baseline" in done.stdout


def test_one_run_gives_many_reports(folder: Path, tmp_path: Path) -> None:
    files = {form: tmp_path / form for form in ("json", "sarif", "junit", "markdown")}
    also = [word for form, file in files.items() for word in ("--also", f"{form}={file}")]
    done = cli("check", "faulty.onnx", "--format", "github", *also, cwd=folder)
    assert done.returncode == 1
    assert "::error file=faulty.onnx,title=GO101 unfolded-batch-norm::" in done.stdout
    assert json.loads(files["json"].read_text())["failed"] is True
    assert json.loads(files["sarif"].read_text())["version"] == "2.1.0"
    assert files["junit"].read_text().startswith("<?xml")
    assert "GO101" in files["markdown"].read_text()


def test_the_configuration_of_the_folder_holds(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    onnx.save(with_batch_norm(), tmp_path / "sub" / "m.onnx")
    (tmp_path / "pyproject.toml").write_text('[tool.graphopt.check]\nmodels = ["sub/*.onnx"]\nignore = ["GO101", "GO2"]\n')
    assert cli("check", cwd=tmp_path).returncode == 0
    assert cli("check", "--no-config", "sub/m.onnx", cwd=tmp_path).returncode == 1


def test_fix_writes_a_mended_model_and_leaves_the_other(folder: Path, tmp_path: Path) -> None:
    before = (folder / "faulty.onnx").read_bytes()
    done = cli("check", "faulty.onnx", "sound.onnx", "--fix", tmp_path / "out", cwd=folder)
    assert done.returncode == 1  # of the models as they are
    assert (folder / "faulty.onnx").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["faulty.onnx"]
    mended = onnx.load(tmp_path / "out" / "faulty.onnx")
    assert ops_of(mended) == ["Conv", "Relu"]
    feed = feed_for(mended)
    np.testing.assert_allclose(outputs_of(mended, feed)[0], outputs_of(onnx.load(folder / "faulty.onnx"), feed)[0], atol=1e-4)
    assert cli("check", tmp_path / "out" / "faulty.onnx", "--ignore", "GO2", cwd=folder).returncode == 0


def test_explain_lists_and_explains(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str, code: int = 0) -> str:
        assert run(["explain", *arguments]) == code
        done = capsys.readouterr()
        return done.out + done.err

    assert "GO301  error    width-off-step" in told()
    assert "Remedy:" in told("GO301")
    assert told("width-off-step") == told("GO301")
    assert "GO952" in told("GO3", code=2)
    assert "no rule has the code GO950" in told("GO950", code=2)
    assert "did you mean" in told("widht-off-step", code=2)


def test_diff_tells_what_changed(folder: Path, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed"
    assert cli("check", "faulty.onnx", "--fix", fixed, cwd=folder).returncode == 1
    done = cli("diff", "faulty.onnx", fixed / "faulty.onnx", "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["structure"]["ops"] == {"BatchNormalization": [1, 0]}
    assert not found["interface"]
    assert found["cost"]["first"]["nodes"] - found["cost"]["second"]["nodes"] == 1
    assert found["drift"]["outputs"][0]["rel"] < 1e-5
    assert not found["equal"]


def test_diff_of_a_model_with_itself(folder: Path) -> None:
    done = cli("diff", "faulty.onnx", "faulty.onnx", "--exit-code", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "structure: the same, up to names" in done.stdout
    assert cli("diff", "faulty.onnx", "sound.onnx", "--exit-code", cwd=folder).returncode == 1
    assert cli("diff", "faulty.onnx", "text.onnx", cwd=folder).returncode == 2


def test_diff_tells_of_another_opset(folder: Path, tmp_path: Path) -> None:
    proto = onnx.load(folder / "sound.onnx")
    proto.opset_import[0].version += 1
    onnx.save(proto, tmp_path / "newer.onnx")
    done = cli("diff", "sound.onnx", tmp_path / "newer.onnx", "--exit-code", cwd=folder)
    assert done.returncode == 1, done.stdout
    assert f"opset of ONNX: {proto.opset_import[0].version - 1} -> {proto.opset_import[0].version}" in done.stdout


def test_diff_of_models_that_do_not_run_here(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "custom.onnx").write_bytes(unknown_operator())
    done = cli("diff", tmp_path / "custom.onnx", "faulty.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "drift: not measured: the reference: onnxruntime cannot load it" in done.stdout
    done = cli("diff", "faulty.onnx", tmp_path / "custom.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "drift: not measured: onnxruntime does not run the model" in done.stdout


def test_many_models_side_by_side_give_what_one_after_the_other_does(folder: Path, tmp_path: Path) -> None:
    for index in range(6):
        onnx.save(with_batch_norm(1 + index % 2), tmp_path / f"m{index}.onnx")
    (tmp_path / "m5.onnx").write_text("no model\n")
    (tmp_path / "m4.onnx").unlink()
    (tmp_path / "m4.onnx").symlink_to("nowhere")
    options = ["--ignore", "GO2,GO058", "--limit", "max-nodes=5", "--warning", "GO414", "--format", "json"]
    one, two = (cli("check", "m*.onnx", *options, "--jobs", jobs, cwd=tmp_path) for jobs in ("1", "2"))
    assert (one.returncode, two.returncode) == (1, 1), two.stderr
    timeless = [[{**model, "seconds": 0} for model in json.loads(done.stdout)["models"]] for done in (one, two)]
    assert timeless[0] == timeless[1]
    assert [Path(model["model"]).name for model in timeless[0]] == [f"m{index}.onnx" for index in range(6)]


def test_an_error_of_a_part_is_that_of_the_whole(tmp_path: Path) -> None:
    proto = with_batch_norm()
    onnx.helper.set_model_props(proto, {"graphopt.ignore": "GO777"})
    for index in range(6):
        onnx.save(proto, tmp_path / f"m{index}.onnx")
    done = cli("check", "m*.onnx", "--jobs", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error[GO952]")
    assert done.stdout == ""
