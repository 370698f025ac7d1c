"""What a process is about to do, written where another one can read it after it has died.

    with doing("onnxruntime", "loading the input model"):
        session = InferenceSession(...)

The page is shared memory. It holds the innermost ``doing`` and the moment until which the first contact with a model may last; the
process that watches reads it when this one died, and ends this one when the moment has passed. A process that nobody watches has
no page, and all of this does nothing.

Only one thread of a watched process writes. A reader may see half of a text that is just being written: it is decoded leniently.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

SIZE = 4096
_TIMES = struct.Struct("<ddq")
_TEXT = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process was doing: ``who``'s code (a library; "" for graphopt's own), ``what``, and with which model (``where``)."""

    who: str = ""
    what: str = ""
    where: str = ""


class Page:
    """The shared page.

    Moments are those of ``time.monotonic``, which all processes of a machine share; a deadline of 0 is none. ``memory`` is the
    limit that the process has set itself, in bytes; 0 is none.
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

    @property
    def started(self) -> float:
        """When the first contact began."""
        return float(_TIMES.unpack_from(self._memory)[0])

    @property
    def deadline(self) -> float:
        """When it must be over; 0 for no such moment."""
        return float(_TIMES.unpack_from(self._memory)[1])

    @property
    def memory(self) -> int:
        """The limit of memory."""
        return int(_TIMES.unpack_from(self._memory)[2])

    def set_deadline(self, seconds: float | None) -> None:
        """From now, so many seconds; None: no deadline."""
        now = time.monotonic()
        _TIMES.pack_into(self._memory, 0, now, 0.0 if seconds is None else now + seconds, self.memory)

    def extend(self, seconds: float) -> None:
        """Later by so much, if there is a deadline."""
        if self.deadline:
            _TIMES.pack_into(self._memory, 0, self.started, self.deadline + seconds, self.memory)

    def set_memory(self, limit: int) -> None:
        """Tell the limit of memory."""
        _TIMES.pack_into(self._memory, 0, self.started, self.deadline, limit)


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
