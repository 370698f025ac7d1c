"""A check of many models side by side: each part is a whole ``graphopt check`` of some of them, in a process of its own.

A part is supervised as any run is, so what a model does to it is told in the usual form; the first part that ends in an error
(exit code 2 or 3) ends the whole, as it would if there were one part only. Results come as the JSON report, and are put back into
the order of the models.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import graphopt
from graphopt.check import Checked
from graphopt.report.checks.json import parse

FEWEST = 3
"""Models that a part is worth: it takes a second to start."""

OWN = frozenset({"models", "form", "output", "also", "fix", "write_baseline", "jobs"})
"""Parameters that are the whole's and no part's."""

_PART = """
import sys
from graphopt.guard.supervisor import end_with
end_with(int(sys.argv.pop(1)))
from graphopt.cli import main
main()
"""
"""``python -m graphopt`` that ends with the process that started it, however that ends: nobody would read what it finds."""


class PartFailed(Exception):
    """A part ended with an error: its exit code, and what it told of it."""

    def __init__(self, code: int, told: str) -> None:
        super().__init__(code, told)
        self.code = code
        self.told = told


def divided(paths: Sequence[Path], jobs: int) -> list[list[Path]]:
    """The models in at most ``jobs`` parts of about equal size in bytes; one part where more are not worth it."""

    def size(path: Path) -> int:
        return path.stat().st_size if path.is_file() else 0

    count = max(min(jobs, len(paths) // FEWEST), 1)
    parts: list[list[Path]] = [[] for _ in range(count)]
    taken = [0] * count
    for path in sorted(paths, key=lambda path: -size(path)):
        least = taken.index(min(taken))
        parts[least].append(path)
        taken[least] += size(path) + 1
    return parts


def check_parts(parts: Sequence[Sequence[Path]], paths: Sequence[Path], ctx: click.Context) -> list[Checked]:
    """Check every part in a process; results in the order of ``paths``. Raises PartFailed."""
    arguments = options(ctx)
    root = str(Path(graphopt.__file__).resolve().parent.parent)
    search = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    processes = [
        subprocess.Popen(  # noqa: S603 - ourselves
            [
                sys.executable,
                "-P",
                "-c",
                _PART,
                str(os.getpid()),
                "check",
                *arguments,
                "--jobs",
                "1",
                "--format",
                "json",
                "--",
                *map(str, part),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=env,
        )
        for part in parts
    ]
    try:
        told = _all(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    found: dict[str, Checked] = {}
    for process, (out, err) in zip(processes, told, strict=True):
        if process.returncode not in (0, 1):
            ended = f"error: a part of the check ended by signal {-process.returncode}; `--jobs 1` tells at which model"
            raise PartFailed(process.returncode if process.returncode > 0 else 2, err.strip() or ended)
        found.update({checked.model: checked for checked in parse(out)})
    return [found[str(path)] for path in paths]


def _all(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    """What each process says, all read at once: one that is not read would stop when its pipe is full."""
    told: list[tuple[str, str]] = [("", "")] * len(processes)

    def read(index: int) -> None:
        told[index] = processes[index].communicate()

    threads = [threading.Thread(target=read, args=(index,), daemon=True) for index in range(len(processes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def options(ctx: click.Context) -> list[str]:
    """The options of this call as arguments for another one, without those of ``OWN``."""
    words: list[str] = []
    for parameter in ctx.command.params:
        if isinstance(parameter, click.Option) and parameter.name not in OWN:
            words += _words(parameter, ctx.params)
    return words


def _words(option: click.Option, given: Mapping[str, Any]) -> list[str]:
    value = given.get(option.name or "")
    if value is None or value is False or value == ():
        return []
    name = option.opts[-1]
    if option.is_flag:
        return [name]
    values: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)  # pyright: ignore[reportUnknownVariableType]
    return [word for one in values for word in (name, str(one))]
