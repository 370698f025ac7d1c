"""Run the real command in a process of its own: with a deadline, a memory limit, and an account of what it wrote."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent.parent
HALT = 6 << 30
"""Bytes at which a run is stopped: enough to tell that it is far too many, few enough for the machine to survive it."""

_TICK = 0.01


@dataclass(frozen=True)
class Run:
    """What a command did.

    Attributes:
        code: the exit code; negative for a signal.
        peak: bytes of memory at most, of all its processes together.
        stopped: "", "timeout" or "memory": why the oracle had to stop it.
    """

    code: int
    out: str
    err: str
    peak: int
    seconds: float
    stopped: str = ""


def run(arguments: Sequence[str], folder: Path, seconds: float) -> Run:
    """Run ``graphopt`` with ``arguments``; what it prints goes into files beside ``folder``."""
    out, err = folder.with_suffix(".out"), folder.with_suffix(".err")
    begin, peak, stopped = time.monotonic(), 0, ""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = _start(arguments, stdout, stderr)
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        peak = max(peak, _memory(child))
        if not stopped and (peak > HALT or time.monotonic() - begin > seconds):
            stopped = "memory" if peak > HALT else "timeout"
            os.killpg(child, signal.SIGKILL)
        time.sleep(_TICK)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what it may have left behind
    # At the moment of its start a process counts as large as the one that started it.
    peak = max(peak, usage.ru_maxrss << 10) if usage.ru_maxrss > own else peak
    texts = [path.read_bytes().decode(errors="replace") for path in (out, err)]
    return Run(os.waitstatus_to_exitcode(status), *texts, peak, time.monotonic() - begin, stopped)


def _start(arguments: Sequence[str], stdout: IO[bytes], stderr: IO[bytes]) -> int:
    """The command as a user gives it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "graphopt", *arguments],
        stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True, env=_environment(),
    )  # fmt: skip
    child.returncode = 0  # it is waited for by hand, for its account of the memory
    return child.pid


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}


def _memory(pid: int) -> int:
    """Bytes of a process and of those that it started, together now, or the most that one of them ever had."""
    now, most, todo = 0, 0, [pid]
    while todo:
        one = todo.pop()
        try:
            status = Path(f"/proc/{one}/status").read_text()
            for thread in Path(f"/proc/{one}/task").iterdir():
                todo.extend(int(child) for child in (thread / "children").read_text().split())
        except OSError:
            continue
        sizes = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Vm"))
        now += _kib(sizes.get("VmRSS", ""))
        most = max(most, _kib(sizes.get("VmHWM", "")))
    return max(now, most)


def _kib(text: str) -> int:
    return int(text.split()[0]) << 10 if text else 0


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder, by name, with what it holds."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
