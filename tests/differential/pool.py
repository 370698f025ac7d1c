"""Run a function over many items in worker processes, and survive whatever the native code does.

A worker that dies (a crash of the runtime) or that takes too long is named by the item it was working on, and replaced; the other
items go on. ``concurrent.futures`` cannot do this: one dead worker breaks its whole pool and does not say on what.

Workers are spawned, not forked: native thread pools do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Why an item has no result: ``kind`` is "crash", "timeout" or "error" (an exception), ``why`` the details."""

    kind: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}"


def run(
    work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int = 2, seconds: float = 120.0
) -> Iterator[tuple[Item, Result | Failure]]:
    """Yield each item with its result, as they finish. ``seconds`` bounds one item."""
    todo = list(reversed(items))
    workers: list[_Worker[Item, Result]] = []
    try:
        while todo or any(w.busy for w in workers):
            while todo and len(workers) < jobs:
                workers.append(_Worker(work))
            for worker in workers:
                if todo and not worker.busy:
                    worker.give(todo.pop())
            wait([w.pipe for w in workers if w.busy], timeout=1.0)
            for worker in [w for w in workers if w.busy]:
                result = worker.take(seconds)
                if result is None:
                    continue
                yield worker.finished(), result
                if isinstance(result, Failure) and result.kind != "error":
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.stop()


@dataclass
class _Worker(Generic[Item, Result]):
    work: Callable[[Item], Result]
    pipe: Connection = field(init=False)
    items: list[Item] = field(default_factory=list)
    since: float = 0.0

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.work), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()  # ready: from here on the time is the item's

    @property
    def busy(self) -> bool:
        return bool(self.items)

    def give(self, item: Item) -> None:
        self.items.append(item)
        self.since = time.monotonic()
        self.pipe.send(item)

    def finished(self) -> Item:
        return self.items.pop()

    def take(self, seconds: float) -> Result | Failure | None:
        """The result if there is one; None while the worker is still at it."""
        try:
            if self.pipe.poll():
                result: Result | Failure = self.pipe.recv()
                return result
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            return Failure("crash", f"the worker died with exit code {self.process.exitcode}")
        if time.monotonic() - self.since > seconds:
            self.stop()
            return Failure("timeout", f"no result in {seconds:.0f} s")
        return None

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    pipe.send("ready")
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            result = work(item)
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to this item
            last = traceback.extract_tb(error.__traceback__)[-1]
            result = Failure("error", f"{type(error).__name__} at {last.name}:{last.lineno}: {str(error)[:300]}")
        pipe.send(result)
