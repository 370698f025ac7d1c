"""One process works, another one waits: what becomes of the first is told by the second, in one line.

``supervise`` forks, so it must be called while the process is small and has one thread: before numpy, onnx or onnxruntime are
imported. Both share the terminal. The parent

- passes on SIGINT, SIGTERM and SIGHUP (Ctrl-C on a terminal reaches both by itself; the child heeds the first and no other);
- ends a child that is past its deadline, or that ignores an interruption;
- returns the child's exit code, or the diagnostic of its death.

The child dies with its parent, however that ends.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

from graphopt.errors import Diagnostic
from graphopt.guard.death import died, overdue
from graphopt.guard.doing import Page, watch

PATIENCE = 5.0
"""Seconds that a child has to end after it was interrupted: native code does not notice."""

_TICK = 0.25
_ASLEEP = 5.0
"""A wait that took so much longer than asked for: the processes were stopped (Ctrl-Z), or the machine slept."""

_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP")


def can_supervise() -> bool:
    """Whether this process can be forked safely: the system can, and nothing has started threads yet."""
    heavy = ("numpy", "onnx", "onnxruntime")
    return hasattr(os, "fork") and threading.active_count() == 1 and not any(name in sys.modules for name in heavy)


def supervise() -> int | Diagnostic | None:
    """Fork. The child gets None and goes on; the parent waits, and gets the child's exit code (below zero for a signal that
    somebody sent) or how it died.
    """
    _fill_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    page = Page()
    ended, holds = os.pipe()  # the child holds the one end until it ends
    alive, held = os.pipe()  # and the parent the other one
    parent = os.getpid()
    waiting = _Waiting(page)
    waiting.listen()
    child = os.fork()
    if child == 0:
        waiting.forget()
        os.close(ended)
        os.close(held)
        _end_with(parent, alive)
        leave_no_core()
        _heed_one_interrupt()
        watch(page)
        return None
    os.close(holds)
    os.close(alive)
    try:
        return waiting.wait(child, ended)
    finally:
        waiting.forget()
        os.close(ended)
        os.close(held)


@dataclass
class _Waiting:
    """The parent."""

    page: Page
    child: int = 0
    passed_on: int = 0
    interrupted: float = 0.0
    signals: list[int] = field(default_factory=list[int])
    before: dict[int, object] = field(default_factory=dict[int, object])

    def listen(self) -> None:
        """Take signals from now on."""
        for name in _PASSED_ON:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self.before[number] = signal.signal(number, self._note)

    def forget(self) -> None:
        """Leave signals to whom they went before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self.before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signals.append(number)
        self._pass_on()

    def _pass_on(self) -> None:
        if not self.child:
            return
        while self.signals:
            number = self.signals.pop()
            self.passed_on = self.passed_on or number
            self.interrupted = self.interrupted or time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(self.child, number)

    def wait(self, child: int, ended: int) -> int | Diagnostic:
        """Until the child has ended."""
        self.child = child
        self._pass_on()
        late: float | None = None
        slept = 0.0
        while True:
            before = time.monotonic()
            readable, _, _ = select.select([ended], [], [], _TICK)
            now = time.monotonic()
            slept += now - before if now - before > _ASLEEP else 0.0
            pid, status = os.waitpid(child, 0 if readable else os.WNOHANG)
            if pid:
                return self._told(status, late)
            late = late or self.page.taken(child, slept)
            if late is not None or (self.interrupted and now > self.interrupted + PATIENCE):
                os.kill(child, signal.SIGKILL)

    def _told(self, status: int, late: float | None) -> int | Diagnostic:
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
        number = os.WTERMSIG(status)
        if late is not None:
            return overdue(late, self.page.read())
        if self.passed_on:
            return -self.passed_on  # also where it did not heed that, and was killed
        if number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            return -number
        return died(number, self.page.read(), self.page.memory)


def _fill_standard_streams() -> None:
    """Open what is closed of descriptors 0 to 2, or the next file or pipe would become the terminal of a native library."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _end_with(parent: int, alive: int) -> None:
    """Let this process die when ``parent`` does, which holds the other end of ``alive``."""
    if end_with(parent):
        return

    def watch_parent() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()


def end_with(parent: int) -> bool:
    """Let this process be killed when its parent ends; False if the system knows no such thing."""
    if sys.platform != "linux":
        return False
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    return True


def leave_no_core() -> None:
    """A process that may crash leaves no file behind."""
    import resource

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _heed_one_interrupt() -> None:
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
