"""What a process is about to do, written where another one can read it after it has died.

    with doing("onnxruntime", "loading the input model"):
        session = InferenceSession(...)

The page is shared memory. It holds the innermost ``doing`` and the moment until which the first contact with a model may last; the
process that watches reads it when this one died, and ends this one when the moment has passed. A process that nobody watches has
no page, and all of this does nothing.

Time is processor time, where the system tells it of another process (Linux): a busy machine must not turn a large model into a
hang. The time on the clock is bounded too, with room for a machine that is shared: ``CLOCK`` times as much, and ``CLOCK_LARGE``
times what a model gets for its size.

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
_TIMES = struct.Struct("<ddddq")
CLOCK = 3.0
CLOCK_LARGE = 10.0
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
    this one), how many seconds it may take of the processor and by the clock (0: any), and the limit of memory that the process has
    set itself (0: none).
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

    def _times(self) -> tuple[float, float, float, float, int]:
        began, processor, allowed, clock, memory = _TIMES.unpack_from(self._memory)
        return float(began), float(processor), float(allowed), float(clock), int(memory)

    @property
    def allowed(self) -> float:
        """Seconds that the first contact may take; 0 for any."""
        return self._times()[2]

    @property
    def memory(self) -> int:
        """The limit of memory."""
        return self._times()[4]

    def taken(self, process: int, slept: float = 0.0) -> float | None:
        """The seconds that ``process``, which writes on this page, has taken if those are too many, else None.

        ``slept``: seconds in which it could do nothing.
        """
        began, processor, allowed, clock, _ = self._times()
        if not allowed:
            return None
        passed = time.monotonic() - began - slept
        used = processor_time(process)
        return passed if passed > clock or (used is not None and used - processor > allowed) else None

    def set_deadline(self, seconds: float | None) -> None:
        """From now, so many seconds; None: any number."""
        allowed = seconds or 0.0
        _TIMES.pack_into(self._memory, 0, time.monotonic(), time.process_time(), allowed, CLOCK * allowed, self.memory)

    def expect_start(self, seconds: float) -> None:
        """The same for a process that does not run yet."""
        _TIMES.pack_into(self._memory, 0, time.monotonic(), 0.0, seconds, CLOCK * seconds, 0)

    def extend(self, seconds: float) -> None:
        """More, for what is seen to be large, if there is a limit at all."""
        began, processor, allowed, clock, memory = self._times()
        if allowed:
            _TIMES.pack_into(self._memory, 0, began, processor, allowed + seconds, clock + CLOCK_LARGE * seconds, memory)

    def set_memory(self, limit: int) -> None:
        """Tell the limit of memory."""
        _TIMES.pack_into(self._memory, 0, *self._times()[:4], limit)


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
