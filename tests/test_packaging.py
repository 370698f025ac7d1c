"""What pyproject.toml lists by hand agrees with what lies on the disk and in the code."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import graphopt
from graphopt.pipeline import registry

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages_on_disk() -> set[str]:
    found = set()
    for top, name in ((ROOT / "graphopt", "graphopt"), (ROOT / "passes", "graphopt.passes")):
        for path in top.rglob("__init__.py"):
            inner = path.parent.relative_to(top).parts
            if name == "graphopt.passes" or inner[:1] != ("passes",):
                found.add(".".join([name, *inner]))
    return found


def test_every_package_is_listed(project: dict) -> None:
    assert set(project["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_the_list_is_sorted(project: dict) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert listed == sorted(listed)


def test_data_files_are_packaged(project: dict) -> None:
    listed = project["tool"]["setuptools"]["package-data"]
    wanted = {}
    for package in packages_on_disk():
        folder = Path(str(ROOT / package.replace(".", "/")))
        for path in folder.iterdir():
            if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi"):
                wanted.setdefault(package, []).append(path)
    for package, paths in wanted.items():
        covered = {match for pattern in listed.get(package, []) for match in paths[0].parent.glob(pattern)}
        assert set(paths) <= covered, package


def test_entry_points_agree_with_the_table(project: dict) -> None:
    assert project["project"]["entry-points"][registry.GROUP] == dict(registry.BUILTIN)


def test_installed_entry_points_agree_with_the_table() -> None:
    for name, entries in registry.entries().items():
        if name in registry.BUILTIN:
            assert [entry.target for entry in entries] == [registry.BUILTIN[name]]


@pytest.mark.parametrize("name", registry.BUILTIN)
def test_built_in_passes_are_found_under_their_names(name: str) -> None:
    assert registry.find(name).name == name


def test_the_link_is_relative() -> None:
    link = ROOT / "graphopt" / "passes"
    assert link.is_symlink()
    assert link.readlink() == Path("../passes")


def test_passes_is_imported_under_one_name_only() -> None:
    source = (ROOT / "passes" / "__init__.py").read_text(encoding="utf-8")
    with pytest.raises(ImportError, match=r"graphopt\.passes"):
        exec(compile(source, "passes/__init__.py", "exec"), {"__name__": "passes"})


def test_the_version_is_stated_once(project: dict) -> None:
    assert project["project"]["version"] == graphopt.__version__


def test_typed() -> None:
    assert (ROOT / "graphopt" / "py.typed").is_file()


def test_a_wheel_has_every_module_and_data_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("graphopt", "passes"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = set()
    for top, prefix in ((source / "graphopt", "graphopt"), (source / "passes", "graphopt/passes")):
        for path in top.rglob("*"):
            inner = path.relative_to(top).as_posix()
            if path.is_file() and not (prefix == "graphopt" and inner.startswith("passes/")):
                wanted.add(f"{prefix}/{inner}")
    assert packed == wanted
