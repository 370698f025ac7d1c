"""Train the networks of this folder again, from nothing but the package registries: the commands of ``manifest.toml``.

The committed files are overwritten. Each command runs in a process of its own with one thread, ``--jobs`` of them side by
side; one that starts from another's file (``after`` in the manifest) waits for it. The longest chain of commands begins
first, by the ``minutes`` of the manifest. What a command prints goes to ``build/retrain/NAME.log``, its last line now and
then to the terminal. If one fails, those that wait for it are not begun, the others still end; the exit code is 1.

Another processor or another version of torch gives other weights, hence other digests; ``python -m models.evaluate NAME``
says how good they are.

    python -m models.retrain [--jobs N] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOGS = Path("build/retrain")
"""Below the working directory."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
POLL_SECONDS = 0.5
PROGRESS_SECONDS = 60.0


@dataclass(frozen=True)
class Job:
    """One command, the networks that it trains, and the jobs that must have ended before."""

    names: tuple[str, ...]
    command: str
    minutes: float = 0.0
    after: frozenset[str] = frozenset()
    """Names of networks; only those that are trained as well."""


def planned(manifest: Mapping[str, Any], names: Sequence[str]) -> list[Job]:
    """A job for each different command of the named networks, the beginning of the longest chain first.

    Raises:
        ValueError: networks wait for one another in a circle.
    """
    chosen = {name: manifest[name] for name in manifest if name in names}
    jobs = []
    for command in dict.fromkeys(str(table["command"]) for table in chosen.values()):
        mine = tuple(name for name, table in chosen.items() if table["command"] == command)
        after = frozenset(str(chosen[name]["after"]) for name in mine if chosen[name].get("after") in chosen) - set(mine)
        jobs.append(Job(mine, command, sum(float(chosen[name].get("minutes", 0)) for name in mine), after))

    def chain(job: Job, seen: tuple[Job, ...] = ()) -> float:
        """Minutes from the beginning of this job to the end of all that wait for it."""
        if job in seen:
            raise ValueError(f"{', '.join(job.names)}: waits for itself")
        later = [other for other in jobs if other.after & set(job.names)]
        return job.minutes + max((chain(other, (*seen, job)) for other in later), default=0.0)

    return sorted(jobs, key=chain, reverse=True)


@dataclass
class Run:
    """A job that was begun."""

    job: Job
    log: Path
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        self.shown = time.monotonic()
        print(f"[{(self.shown - self.started) / 60:5.1f} min] {', '.join(self.job.names)}: {text}", flush=True)

    def last_line(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "..."


def begin(job: Job, logs: Path) -> Run:
    """Start a job's command."""
    log = logs / f"{job.names[0]}.log"
    words = [sys.executable if word == "python" else word for word in shlex.split(job.command)]
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **ONE_THREAD})  # noqa: S603
    run = Run(job, log, process)
    run.say(f"{job.command} > {log}")
    return run


def retrain(jobs: Sequence[Job], count: int, logs: Path = LOGS) -> list[Run]:
    """Run the jobs, ``count`` at a time. The runs that failed; what waits for a failed one is not begun."""
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running, failed = list(jobs), list[Run](), list[Run]()
    done: set[str] = set()
    trained = {name for job in jobs for name in job.names}
    try:
        while waiting or running:
            ready = [job for job in waiting if job.after & trained <= done]
            for job in ready[: count - len(running)]:
                waiting.remove(job)
                running.append(begin(job, logs))
            if not running:
                break  # what still waits, waits for one that failed
            time.sleep(POLL_SECONDS)
            for run in list(running):
                code = run.process.poll()
                if code is None:
                    if time.monotonic() - run.shown >= PROGRESS_SECONDS:
                        run.say(run.last_line())
                    continue
                running.remove(run)
                if code == 0:
                    done.update(run.job.names)
                    run.say(f"done; {run.last_line()}")
                else:
                    failed.append(run)
                    run.say(f"failed with exit code {code}; {run.last_line()}")
    finally:
        for run in running:  # only after an interrupt
            run.process.terminate()
    for job in waiting:
        print(f"not begun: {', '.join(job.names)}", flush=True)
    return failed


def main() -> int:
    """Train the named networks; 1 if one failed."""
    manifest = tomllib.loads((HERE / "manifest.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Train the networks of this folder again. It takes an hour or two.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(manifest)}")
    parser.add_argument("--jobs", type=int, default=1, help="commands side by side, a thread each (default: %(default)s)")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in manifest]:
        parser.error(f"not in manifest.toml: {', '.join(unknown)}")
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    failed = retrain(planned(manifest, options.names or [*manifest]), options.jobs)
    for run in failed:
        print(f"error: {', '.join(run.job.names)} failed; its output is in {run.log}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
