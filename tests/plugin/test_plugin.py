"""A pass of another distribution, built and installed by pip into a folder of its own, and run from the command
line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.nets import Net

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed plugin."""
    source = tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(HERE / "package", source)  # the build leaves folders beside the source
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def cli(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "graphopt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=120)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    net = Net()
    onnx.save(net.model(net.conv(net.input(1, 3, 8, 8), 4, pad=1)), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def kernel(path: Path) -> np.ndarray:
    arrays = (onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer)
    return next(array for array in arrays if array.ndim == 4)


def test_it_runs_like_a_built_in_pass(site: Path, model: Path) -> None:
    out = model.with_name("out.onnx")
    done = cli(site, "run", model, "-p", "fold,halve:by=4", "-o", out, "--no-timing", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["pipeline"] == "fold,halve:by=4.0"
    assert report["passes"][1]["verification"]["status"] == "held"
    before, after = (kernel(path) for path in (model, out))
    assert (before / 4 == after).all()


def test_it_is_listed(site: Path) -> None:
    done = cli(site, "passes", "--format", "json")
    assert done.returncode == 0, done.stderr
    named = {one["name"]: one for one in json.loads(done.stdout)["passes"]}
    assert named["halve"]["summary"] == "Scale every convolution's weights down."
    assert named["halve"]["options"] == [
        {"name": "by", "type": "a number", "default": "2.0", "doc": "what the weights are divided by"}
    ]


def test_a_broken_one_breaks_only_itself(site: Path) -> None:
    named = {one["name"]: one for one in json.loads(cli(site, "passes", "--format", "json").stdout)["passes"]}
    assert "nosuch" in named["halve-broken"]["broken"]
    assert "not a subclass" in named["halve-nopass"]["broken"]
    assert "broken" not in named["fold"]


@pytest.mark.parametrize("name", ["halve-broken", "halve-nopass"])
def test_a_broken_one_is_told_by_its_distribution(site: Path, model: Path, name: str) -> None:
    done = cli(site, "run", model, "-p", name)
    assert done.returncode == 2
    assert done.stderr.startswith("error[GO915]")
    assert "graphopt-halve" in done.stderr


def test_the_near_names_include_it(site: Path, model: Path) -> None:
    done = cli(site, "run", model, "-p", "halv")
    assert done.returncode == 2
    assert "`halve`" in done.stderr
