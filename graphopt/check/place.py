"""Where a model is, as configuration files and baselines name it."""

from __future__ import annotations

import os
from pathlib import Path


def seen_from(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with ``/``, so that a checkout anywhere gives the same text.

    A link is named by where it stands: stores of large files link every model to a file that is named by its content. Only where
    the name leads out of the folder are the folders followed to what they are, as one of the two may have been reached by a link.
    """
    named = _relative(Path(os.path.abspath(path)), Path(os.path.abspath(folder)))  # noqa: PTH100 - resolve() follows links
    if not named.startswith("../"):
        return named
    return _relative(path.parent.resolve() / path.name, folder.resolve())


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
