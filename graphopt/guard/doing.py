"""What a process is about to do, written where another one can read it after it has died.

    with doing("onnxruntime", "loading the input model"):
        session = InferenceSession(...)

The page is shared memory. It holds the innermost ``doing`` and the moment until which the first contact with a model may last; the
process that watches reads it when this one died, and ends this one when the moment has passed. A process that nobody watches has
no page, and all of this does nothing.

Time is processor time, where the system tells it of another process (Linux): a hang burns it, and a busy machine must not turn a
large model into one. What burns none, waiting for what never comes, is overdue after twice the time on the clock.

Only one thread of a watched process writes. A reader may see half of a text that is just being written: it is decoded leniently.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

SIZE = 4096
_TIMES = struct.Struct("<dddq")
_CLOCK_FACTOR = 2.0
_IDLE = 0.01
"""Share of one processor; whoever works gets more of it, on any machine that is of use."""
_TEXT = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process was doing: ``who``'s code (a library; "" for graphopt's own), ``what``, and with which model (``where``)."""

    who: str = ""
    what: str = ""
    where: str = ""


class Page:
    """The shared page.

    It holds when the first contact began (by ``time.monotonic``, which all processes of a machine share, and in processor time of
    this one), how many seconds it may take (0: any), and the limit of memory that the process has set itself (0: none).
    """

    def __init__(self, memory: mmap.mmap | None = None) -> None:
        self._memory = mmap.mmap(-1, SIZE) if memory is None else memory

    def write(self, activity: Activity) -> None:
        """Tell what is being done."""
        raw = "\0".join((activity.who, activity.where, activity.what)).encode("utf-8", "replace")[: SIZE - _TIMES.size - _TEXT.size]
        self._memory[_TIMES.size : _TIMES.size + _TEXT.size + len(raw)] = _TEXT.pack(len(raw)) + raw

    def read(self) -> Activity:
        """What was being done last."""
        length = min(_TEXT.unpack_from(self._memory, _TIMES.size)[0], SIZE - _TIMES.size - _TEXT.size)
        start = _TIMES.size + _TEXT.size
        who, _, rest = self._memory[start : start + length].decode("utf-8", "replace").partition("\0")
        where, _, what = rest.partition("\0")
        return Activity(who, what, where)

    def _times(self) -> tuple[float, float, float, int]:
        started, processor, allowed, memory = _TIMES.unpack_from(self._memory)
        return float(started), float(processor), float(allowed), int(memory)

    @property
    def allowed(self) -> float:
        """Seconds that the first contact may take; 0 for any."""
        return self._times()[2]

    @property
    def memory(self) -> int:
        """The limit of memory."""
        return self._times()[3]

    def overdue(self, process: int, slept: float = 0.0) -> bool:
        """Whether ``process``, which writes on this page, has taken too long; ``slept``: seconds in which it could do nothing."""
        started, processor, allowed, _ = self._times()
        if not allowed:
            return False
        used = processor_time(process)
        clock = time.monotonic() - started - slept
        if used is None:
            return clock > allowed
        idle = used - processor < _IDLE * clock
        return used - processor > allowed or (idle and clock > _CLOCK_FACTOR * allowed)

    def set_deadline(self, seconds: float | None) -> None:
        """From now, so many seconds; None: any number."""
        _TIMES.pack_into(self._memory, 0, time.monotonic(), time.process_time(), seconds or 0.0, self.memory)

    def expect_start(self, seconds: float) -> None:
        """The same for a process that does not run yet."""
        _TIMES.pack_into(self._memory, 0, time.monotonic(), 0.0, seconds, 0)

    def extend(self, seconds: float) -> None:
        """Later by so much, if there is a deadline."""
        started, processor, allowed, memory = self._times()
        if allowed:
            _TIMES.pack_into(self._memory, 0, started, processor, allowed + seconds, memory)

    def set_memory(self, limit: int) -> None:
        """Tell the limit of memory."""
        _TIMES.pack_into(self._memory, 0, *self._times()[:3], limit)


def processor_time(process: int) -> float | None:
    """Seconds of processor time that a process has taken, all threads; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~process << 3) | 2)  # what clock_getcpuclockid(3) makes of a process
    except OSError:
        return None


class _Watched:
    """The page of this process, and the activities that are under way."""

    page: Page | None = None
    now: Activity = Activity()


def watched() -> Page | None:
    """The page of this process; None if nobody watches it."""
    return _Watched.page


def watch(page: Page | None) -> None:
    """From now on this process writes on ``page``."""
    _Watched.page = page
    _tell(Activity())


def about(where: str) -> None:
    """From now on what is done is done with the model of this name."""
    _tell(replace(_Watched.now, where=where))


@contextmanager
def doing(who: str, what: str) -> Generator[None]:
    """Tell whoever watches what the code in the block does: ``who`` is the library, ``what`` a participle with its object."""
    if _Watched.page is None:
        yield
        return
    before = _Watched.now
    _tell(Activity(who, what, before.where))
    try:
        yield
    finally:
        _tell(replace(before, where=_Watched.now.where))


def _tell(activity: Activity) -> None:
    _Watched.now = activity
    if _Watched.page is not None:
        _Watched.page.write(activity)
