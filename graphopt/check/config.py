"""What to check: ``[tool.graphopt.check]`` of ``pyproject.toml``, or ``[check]`` of ``graphopt.toml``.

    [check]
    models = ["models/**/*.onnx"]       # where no model is named on the command line
    target = "ort-x86-vnni"
    ignore = ["GO302"]
    error = ["GO200"]
    baseline = "graphopt-baseline.json"

    [check.limits]
    max-bytes = 4e6

    [check.model."models/detector/*.onnx"]  # what is other for some of them; the last section that matches wins, key by key
    against = "release/detector.onnx"
    data = "calib/detector.npz"
    limits = { max-macs = 5e8, min-sqnr-db = 30 }

Paths are seen from the file's folder. The file is ``--config``, else the first ``graphopt.toml`` or ``pyproject.toml`` with such a
table in the current folder or above it. A pattern that matches no file is an error: a check that silently checks nothing is worse
than none.
"""

from __future__ import annotations

import glob
import os
import posixpath
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from graphopt.check.place import seen_from
from graphopt.errors import UsageError
from graphopt.spec import near

LIMITS = {
    "max-params": "GO410", "max-macs": "GO411", "max-bytes": "GO412", "max-activation": "GO413", "max-nodes": "GO414",
    "max-latency-ratio": "GO415", "min-sqnr-db": "GO510", "min-psnr-db": "GO511", "min-top1": "GO512", "min-cosine": "GO513",
}  # fmt: skip
"""Limit -> the rule that holds a model against it."""

SHARES = ("min-top1", "min-cosine")
"""Limits that nothing above 1 can hold."""

LISTS = ("select", "ignore", "error", "warning")
TEXTS = ("target", "against", "data", "preprocess")
PATHS = ("against", "baseline")
FILES = ("graphopt.toml", "pyproject.toml")


def _no_limits() -> dict[str, float]:
    return {}


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for one model. None: nothing was said."""

    target: str | None = None
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    error: tuple[str, ...] | None = None
    warning: tuple[str, ...] | None = None
    against: str | None = None
    data: str | None = None
    preprocess: str | None = None
    limits: Mapping[str, float] = field(default_factory=_no_limits)

    def over(self, base: Options) -> Options:
        """These options, and those of ``base`` where nothing was said; limits one by one."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "limits" and getattr(self, f.name) is not None}
        return replace(base, **said, limits={**base.limits, **self.limits})


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file, or nothing."""

    folder: Path = field(default_factory=Path)
    models: tuple[str, ...] = ()
    baseline: Path | None = None
    options: Options = field(default_factory=Options)
    sections: tuple[tuple[str, Options], ...] = ()

    def options_for(self, model: Path) -> Options:
        """The options of one model: those for all, then those of each section whose pattern it matches."""
        found = self.options
        place, whole = seen_from(model, self.folder), Path(os.path.abspath(model)).as_posix()  # noqa: PTH100 - links have names
        for pattern, options in self.sections:
            wanted = posixpath.normpath(pattern)
            name = whole if wanted.startswith("/") else place
            if name == wanted or _matches(name, wanted):  # a name may hold what means something in a pattern
                found = options.over(found)
        return found

    def check_patterns(self) -> None:
        """Raises UsageError GO950 for a section that is about no file."""
        for pattern, _ in self.sections:
            expand(pattern, self.folder)


def expand(pattern: str, folder: Path) -> list[Path]:
    """The files that a path or pattern (``*``, ``?``, ``[]``, ``**``) means, sorted. Raises UsageError GO950 if there are none."""
    path = folder / pattern
    if path.exists() or path.is_symlink():
        return [path]
    # The folder's own name is no pattern. A link that leads nowhere is a model that cannot be read, and told as one.
    found = sorted(glob.glob(pattern, root_dir=folder, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207
    files = [folder / one for one in found if not (folder / one).is_dir()]
    if not files:
        why = "matches no model" if glob.has_magic(pattern) else "there is no such model"
        raise UsageError("GO950", pattern, why, "a check of nothing is an error: mend the path or the pattern")
    return files


def _matches(path: str, pattern: str) -> bool:
    """Whether a path matches a pattern, with ``**`` for any number of folders."""
    parts, wanted = path.split("/"), pattern.split("/")

    def match(i: int, j: int) -> bool:
        if j == len(wanted):
            return i == len(parts)
        if wanted[j] == "**":
            return any(match(k, j + 1) for k in range(i, len(parts) + 1))
        return i < len(parts) and fnmatchcase(parts[i], wanted[j]) and match(i + 1, j + 1)

    return match(0, 0)


def find(start: Path) -> Path | None:
    """The configuration file that holds for a folder."""
    for folder in (start, *start.parents):
        for name in FILES:
            path = folder / name
            if path.is_file() and _table(path) is not None:
                return path
    return None


def read(path: Path) -> Config:
    """Read a configuration file. Raises UsageError GO951, with the key that is wrong."""
    table = _table(path)
    if table is None:
        name = "tool.graphopt.check" if path.name == "pyproject.toml" else "check"
        raise UsageError("GO951", str(path), f"has no table [{name}]", "see docs/checks.md for the form")
    reader = _Reader(str(path), path.resolve().parent)
    return reader.config(table)


def _table(path: Path) -> dict[str, Any] | None:
    try:
        data: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("GO951", str(path), f"cannot be read: {error}", "give a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError("GO951", str(path), f"is not TOML: {error}", "see docs/checks.md for the form") from None
    ours = path.name == "graphopt.toml"
    for key in ("tool", "graphopt") if path.name == "pyproject.toml" else ():
        ours, data = key == "graphopt", cast("dict[str, Any]", data).get(key) if isinstance(data, dict) else None
    if not isinstance(data, dict):
        return None
    tables = cast("dict[str, Any]", data)
    for key in tables if ours else ():
        if key != "check":  # what stands beside the table would else say nothing, in silence
            place = "tool.graphopt.check" if path.name == "pyproject.toml" else "check"
            raise UsageError("GO951", f"{path}: {key}", "there is no such table or key", f"what to check stands in [{place}]")
    table = tables.get("check")
    return cast("dict[str, Any]", table) if isinstance(table, dict) else None


class _Reader:
    """Reads a table, and names what is wrong with it."""

    def __init__(self, where: str, folder: Path) -> None:
        self.where = where
        self.folder = folder

    def fail(self, key: str, why: str, hint: str = "see docs/checks.md for the form") -> UsageError:
        return UsageError("GO951", f"{self.where}: {key}", why, hint)

    def config(self, table: dict[str, Any]) -> Config:
        own = {"models", "baseline", "model"}
        options = self.options({k: v for k, v in table.items() if k not in own}, "", own)
        baseline = self.text(table, "baseline", "")
        sections = table.get("model", {})
        if not isinstance(sections, dict):
            raise self.fail("model", 'must be tables: [check.model."pattern"]')
        return Config(
            self.folder,
            self.texts(table, "models", "") or (),
            None if baseline is None else self.folder / baseline,
            options,
            tuple((pattern, self.section(pattern, value)) for pattern, value in cast("dict[str, Any]", sections).items()),
        )

    def section(self, pattern: str, value: Any) -> Options:
        if not isinstance(value, dict):
            raise self.fail(f"model.{pattern}", "must be a table")
        return self.options(cast("dict[str, Any]", value), f"model.{pattern}.", set())

    def options(self, table: dict[str, Any], where: str, others: set[str]) -> Options:
        known = [*LISTS, *TEXTS, "limits"]
        for key in table:
            if key not in known:
                raise self.fail(where + key, "there is no such key", near(key, [*known, *others]))
        texts: dict[str, Any] = {name: self.text(table, name, where) for name in TEXTS}
        if texts["against"] is not None:
            texts["against"] = str(self.folder / texts["against"])
        if texts["data"] is not None and (self.folder / texts["data"]).exists():
            texts["data"] = str(self.folder / texts["data"])  # else module:callable
        if texts["target"] is not None and (self.folder / texts["target"]).is_file():
            texts["target"] = str(self.folder / texts["target"])
        lists: dict[str, Any] = {name: self.texts(table, name, where) for name in LISTS}
        return Options(**texts, **lists, limits=self.limits(table.get("limits", {}), where))

    def limits(self, value: Any, where: str) -> dict[str, float]:
        if not isinstance(value, dict):
            raise self.fail(f"{where}limits", "must be a table of limit = number")
        table = cast("dict[str, Any]", value)
        for key, number in table.items():
            if key not in LIMITS:
                raise self.fail(f"{where}limits.{key}", "there is no such limit", near(key, LIMITS))
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not number >= 0:
                raise self.fail(f"{where}limits.{key}", "must be a number, 0 or more")
            if key in SHARES and number > 1:
                raise self.fail(f"{where}limits.{key}", "is a share, 1 at most")
        return {key: float(min(number, sys.float_info.max)) for key, number in table.items()}

    def text(self, table: dict[str, Any], key: str, where: str) -> str | None:
        value = table.get(key)
        if value is not None and not (isinstance(value, str) and value):
            raise self.fail(where + key, "must be a text")
        return value

    def texts(self, table: dict[str, Any], key: str, where: str) -> tuple[str, ...] | None:
        value = table.get(key)
        if value is None:
            return None
        entries = cast("Sequence[object]", value) if isinstance(value, list) else None
        if entries is None or not all(isinstance(v, str) and v for v in entries):
            raise self.fail(where + key, "must be a list of texts")
        return tuple(cast("Sequence[str]", entries))


def parse_limit(text: str) -> tuple[str, float]:
    """``max-macs=5e8``: name and number. Raises UsageError GO951."""
    name, equals, number = text.partition("=")
    try:
        value = float(number) if equals else -1.0
    except ValueError:
        value = -1.0
    if name not in LIMITS:
        raise UsageError("GO951", "--limit", f"there is no limit {name!r}", near(name, LIMITS))
    if not value >= 0:
        raise UsageError("GO951", "--limit", f"{text!r} is not NAME=NUMBER", "write max-macs=5e8")
    if name in SHARES and value > 1:
        raise UsageError("GO951", "--limit", f"{text!r}: it is a share, 1 at most", f"write {name}=0.99")
    return name, value
