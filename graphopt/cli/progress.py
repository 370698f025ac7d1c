"""Progress on stderr: bars and log lines on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from graphopt.cli.common import on_terminal
from graphopt.errors import printable
from graphopt.pipeline import Monitor
from graphopt.pipeline import Progress as Bar
from graphopt.pipeline.context import Silent


class _Task:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, n: int = 1) -> None:
        self._progress.advance(self._task, n)


class Bars:
    """A bar for every step that is going on; a step that is done takes its bar away."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def progress(self, label: str, total: int | None) -> AbstractContextManager[Bar]:
        """Open a bar."""
        return self._bar(label, total)

    @contextmanager
    def _bar(self, label: str, total: int | None) -> Generator[Bar, None, None]:
        task = self._progress.add_task(printable(label), total=total)
        try:
            yield _Task(self._progress, task)
        finally:
            self._progress.remove_task(task)

    def log(self, message: str) -> None:
        """A line above the bars."""
        self._progress.console.print(printable(message), style="dim", highlight=False, markup=False)


@contextmanager
def watching() -> Generator[Monitor, None, None]:
    """Bars on stderr while the body runs, if that is a terminal."""
    if not on_terminal(sys.stderr):
        yield Silent()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bars(progress)
