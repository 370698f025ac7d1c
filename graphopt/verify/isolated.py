"""Trying an unknown model in a worker process, which may crash in the caller's place.

The worker (``graphopt.verify.worker``) is started when it is first needed, reused, replaced when it has died, and ends with this
process. A request is one line of JSON with the path of a model; so is the answer. A model that is not, or no longer, what its file
holds is written to a temporary folder.

What was tried once is not tried again: a model object of the same version, or a file or bytes that were seen before.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import mmap
import os
import select
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np

import graphopt
from graphopt.errors import Diagnostic, ModelError
from graphopt.guard.death import died, overdue
from graphopt.guard.doing import SIZE, Activity, Page
from graphopt.guard.limits import Limits
from graphopt.model import Model

_TICK = 0.25
_START_UP = 60.0
"""Seconds for a worker to start and answer anything at all, beside what the model may take."""

_MOST_SEEN = 4096


class _Seen:
    """What was tried and did no harm."""

    def __init__(self) -> None:
        self.versions: weakref.WeakKeyDictionary[Model, tuple[int, bool]] = weakref.WeakKeyDictionary()
        self.digests: set[str] = set()


_SEEN = _Seen()


def probe(
    model: Model, limits: Limits, *, feed: Mapping[str, Any] | None = None, seed: int = 0, threads: int = 1, run: bool = True
) -> None:
    """Check, load and run ``model`` in a worker process, unless that was done before.

    Does nothing where there are no such processes (a system without file descriptors to inherit, an interpreter without a file).

    Args:
        model: the model.
        limits: of memory and time.
        feed: what to run it on; a generated input if None, or if it cannot be handed over.
        seed: as for ``graphopt.run``.
        threads: likewise.
        run: whether to load and run it, or only to check it and infer its shapes.

    Raises:
        ModelError: GO040 it crashed, GO041 it did not end in time, GO042 it took too much memory. Whatever else is wrong with the
            model can be found in this process.
    """
    if os.name != "posix" or not sys.executable or _SEEN.versions.get(model) == (model.version, run):
        return
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        path, digest = _file_of(model, Path(folder))
        key = json.dumps([digest, run, limits.memory, limits.seconds, _signature(feed)])
        if key not in _SEEN.digests:
            request = {
                "model": str(path),
                "label": model.label,
                "feed": _stored(feed, Path(folder) / "feed.npz"),
                "seed": seed,
                "threads": threads,
                "run": run,
                "memory": limits.memory,
                "seconds": limits.seconds,
            }
            fault = _WORKER.ask(request)
            if fault is not None:
                raise ModelError(fault.code, fault.where, fault.why, fault.hint)
            if len(_SEEN.digests) >= _MOST_SEEN:
                _SEEN.digests.clear()
            _SEEN.digests.add(key)
    _SEEN.versions[model] = model.version, run


def _file_of(model: Model, folder: Path) -> tuple[Path, str]:
    """A file that holds the model, and what tells it from others."""
    if model.path is not None and model.version == 0:
        with suppress(OSError):
            found = model.path.stat()
            return model.path.absolute(), f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    path = model.save_for_runtime(folder)
    digest = hashlib.sha256()
    for part in sorted(folder.iterdir()):
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return path, digest.hexdigest()


def _signature(feed: Mapping[str, Any] | None) -> list[str]:
    return [] if feed is None else [f"{name} {getattr(v, 'dtype', '')} {getattr(v, 'shape', '')}" for name, v in feed.items()]


def _stored(feed: Mapping[str, Any] | None, path: Path) -> str | None:
    """The feed as a file that holds no pickles; None where it cannot be one."""
    if feed is None or not all(isinstance(v, np.ndarray) and cast(Any, v).dtype.kind in "biufc" for v in feed.values()):
        return None
    arrays = {f"input{index}": value for index, value in enumerate(feed.values())}
    np.savez(path, allow_pickle=False, names=np.array(list(feed), dtype=np.str_), **arrays)
    return str(path)


class _Worker:
    """The worker process as seen from here; one at a time, for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._page = Page()

    def ask(self, request: dict[str, Any]) -> Diagnostic | None:
        """Send a request; the fault it ended in, if it is one that this process could not have survived."""
        with self._lock:
            process = self._running()
            self._page.expect_start(_START_UP)
            self._page.write(Activity("", "starting", str(request["label"])))
            try:
                answer = self._exchange(process, json.dumps(request).encode() + b"\n")
            except BaseException:
                self._stop(kill=True)
                raise
        return None if answer is None else Diagnostic(**answer)

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes) -> dict[str, str] | None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        with suppress(BrokenPipeError):
            process.stdin.write(line)
            process.stdin.flush()
        answer = b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], _TICK)
            if ready:
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    return self._dead(process, None)
                answer += part
            elif (taken := self._page.taken(process.pid)) is not None:
                process.kill()
                return self._dead(process, taken)
        found = json.loads(answer)
        return cast("dict[str, str] | None", found)

    def _dead(self, process: subprocess.Popen[bytes], late: float | None) -> dict[str, str] | None:
        """What to say of a worker that died, and forget it."""
        code = process.wait()
        activity, limit = self._page.read(), self._page.memory
        self._stop(kill=True)
        if late is not None:
            found = overdue(late, activity)
        elif code < 0:
            found = died(-code, activity, limit)
        else:
            # It ended in good order without an answer: it could not start at all, which says nothing of the model.
            return None
        return {"code": found.code, "where": found.where, "why": found.why, "hint": found.hint}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        if self._process is not None and self._owner == os.getpid():
            self._stop(kill=True)
        with tempfile.TemporaryFile(prefix="graphopt-") as file:
            file.truncate(SIZE)
            self._page = Page(mmap.mmap(file.fileno(), SIZE))
            root = str(Path(graphopt.__file__).resolve().parent.parent)
            paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                # -P: the folder that the caller happens to be in is not a place to import from.
                [sys.executable, "-P", "-m", "graphopt.verify.worker", str(file.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[file.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        self._owner = os.getpid()
        return self._process

    def _stop(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        if kill:
            process.kill()
        with suppress(BrokenPipeError):
            if process.stdin is not None:
                process.stdin.close()  # the worker ends when nothing more can come
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def close(self) -> None:
        """End the worker."""
        self._stop(kill=False)


_WORKER = _Worker()
atexit.register(_WORKER.close)
