"""Every way to fail is one message and an exit code, through real processes; nothing is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.signals import heed_interrupts
from tests.nets import Net


def cli(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "graphopt", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and everything that is wrong with files."""
    folder = tmp_path_factory.mktemp("files")
    net = Net()
    x = net.input("N", 3, 8, 8)
    proto = net.model(net.op("Relu", net.bn(net.conv(x, 4, pad=1))))
    onnx.save(proto, folder / "model.onnx")
    raw = proto.SerializeToString()
    (folder / "truncated.onnx").write_bytes(raw[: len(raw) // 2])
    (folder / "text.onnx").write_text("this is no model\n")
    (folder / "empty.onnx").touch()
    (folder / "exists.onnx").write_text("already here\n")
    (folder / "a.folder").mkdir()
    good = np.zeros((2, 3, 8, 8), np.float32)
    np.save(folder / "good.npy", good)
    np.save(folder / "shape.npy", good[:, :2])
    np.save(folder / "dtype.npy", good.astype(complex))
    nan = good.copy()
    nan[1, 2, 3, 4] = np.nan
    np.save(folder / "nan.npy", nan)
    np.savez(folder / "name.npz", y=good)
    np.savez(folder / "labels.npz", x=good, labels=np.zeros(3, int))
    np.save(folder / "pickle.npy", np.array([{}], object), allow_pickle=True)
    (folder / "text.npy").write_text("no array\n")
    return folder


WRONG = [
    # arguments after `run`; code; words that the message or its remedy must have
    (["nosuch.onnx"], "GO001", "nosuch.onnx"),
    (["a.folder"], "GO0", "a.folder"),
    (["text.onnx"], "GO002", "not an ONNX model"),
    (["empty.onnx"], "GO0", "empty.onnx"),
    (["truncated.onnx"], "GO0", "truncated.onnx"),
    (["model.onnx", "--passes", "flod"], "GO911", "`fold`"),
    (["model.onnx", "--passes", "fold:nosuch=1"], "GO912", "nosuch"),
    (["model.onnx", "--passes", "fold,,"], "GO910", "pass name"),
    (["model.onnx", "--passes", "quant:weights=often"], "GO913", "per-channel"),
    (["model.onnx", "--target", "ort-x86-vni"], "GO905", "ort-x86-vnni"),
    (["model.onnx", "--data", "nosuch.npz"], "GO8", "nosuch.npz"),
    (["model.onnx", "--data", "shape.npy"], "GO805", "[N, 3, 8, 8]"),
    (["model.onnx", "--data", "dtype.npy"], "GO806", "complex128"),
    (["model.onnx", "--data", "nan.npy"], "GO807", "NaN in sample 1"),
    (["model.onnx", "--data", "name.npz"], "GO80", "'x'"),
    (["model.onnx", "--data", "pickle.npy"], "GO8", "pickle.npy"),
    (["model.onnx", "--data", "text.npy"], "GO8", "text.npy"),
    (["model.onnx", "--data", "nosuch_module:data"], "GO8", "nosuch_module"),
    (["model.onnx", "--labels", "nosuch.npz"], "GO820", "nosuch.npz"),
    (["model.onnx", "--labels", "labels.npz"], "GO822", "3"),
    (["model.onnx", "-o", "exists.onnx"], "GO907", "--force"),
    (["model.onnx", "-o", "model.onnx"], "GO907", "input"),
    (["model.onnx", "-o", "model.onnx", "--force"], "GO907", "input"),
    (["model.onnx", "-o", "nosuch/out.onnx"], "GO908", "nosuch"),
    (["model.onnx", "-o", "a.folder"], "GO908", "folder"),
    (["model.onnx", "-o", "new", "--report", "new"], "GO908", "two files"),
    (["model.onnx", "--report", "exists.onnx"], "GO907", "--force"),
    (["model.onnx", "--seed", "many"], "GO920", "--seed"),
    (["model.onnx", "--frce"], "GO920", "--force"),
    (["model.onnx", "--format", "xml"], "GO920", "json"),
    ([], "GO920", "MODEL"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG, ids=[" ".join(a) or "nothing" for a, _, _ in WRONG])
def test_bad_input_is_one_message(folder: Path, arguments: list[str], code: str, words: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    output = [] if "-o" in arguments or not arguments else ["-o", "out.onnx"]
    done = cli("run", *arguments, *output, cwd=folder)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"error[{code}")
    assert words in done.stderr
    assert lines[1].startswith("  help: ")
    assert len(lines) == 2
    assert done.stdout == ""
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


OTHERS = [
    (["rnu"], "GO920", "`run`"),
    (["inspect", "nosuch.onnx"], "GO001", "nosuch.onnx"),
    (["inspect", "model.onnx", "--shape", "x=ax3"], "GO922", "1x3x224x224"),
    (["inspect", "model.onnx", "--shape", "y=1x3x8x8"], "GO922", "x"),
    (["groups", "text.onnx"], "GO002", "text.onnx"),
    (["passes", "flod"], "GO911", "`fold`"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), OTHERS, ids=[" ".join(a) for a, _, _ in OTHERS])
def test_so_it_is_with_the_other_commands(folder: Path, arguments: list[str], code: str, words: str) -> None:
    done = cli(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error[{code}")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_adds_the_traceback(folder: Path) -> None:
    done = cli("run", "nosuch.onnx", "--debug", cwd=folder)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "error[GO001]" in done.stderr


def test_a_bug_is_exit_code_3_and_says_how_to_report_it(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(
        "import graphopt.model, sys\n"
        "def load(source, **options): raise KeyError('oops')\n"
        "graphopt.model.Model.load = load\n"
        "from graphopt.cli.main import run\n"
        "sys.exit(run(['run', 'model.onnx']))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=folder, env=env)
    assert done.returncode == 3
    assert "internal error: KeyError: 'oops'" in done.stderr
    assert "report" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_arguments_the_help_is_shown() -> None:
    done = cli()
    assert done.returncode == 2
    assert "Commands:" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupt(folder: Path, tmp_path: Path) -> None:
    # Data that never ends: the run is surely still going on.
    (tmp_path / "endless.py").write_text(
        "import time, numpy as np\ndef data():\n    while True:\n        open('started', 'w').close()\n"
        "        time.sleep(0.05)\n        yield np.zeros((1, 3, 8, 8), np.float32)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])}
    command = [sys.executable, "-m", "graphopt", "run", str(folder / "model.onnx"), "--data", "endless:data", "-o", "o.onnx"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=env, preexec_fn=heed_interrupts
    )
    for _ in range(600):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip() == "interrupted; nothing was written"
    assert out == ""
    assert not (tmp_path / "o.onnx").exists()


def test_a_reader_that_goes_away_is_no_failure(folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = f"{sys.executable} -m graphopt passes | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=folder, env=env)
    assert done.stderr == ""
    assert done.returncode == 0


def test_closed_streams_are_no_failure(folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = f"{sys.executable} -m graphopt inspect model.onnx <&- >&- 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, cwd=folder, env=env)
    assert done.returncode == 0


def test_an_input_that_no_machine_holds_is_told(tmp_path: Path) -> None:
    net = Net()
    onnx.save(net.model(net.op("Relu", net.input(2**62, 2**62))), tmp_path / "huge.onnx")
    done = cli("run", "huge.onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error[GO042]: huge.onnx: input 'x'")
