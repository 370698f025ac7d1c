"""How much memory and time a model may take before it is known to be harmless.

**Memory.** Private writable memory (RLIMIT_DATA): weights that are mapped from a file do not count. What the process has when the
limit is set is free; beyond it a model may take ``MEMORY``, ``PER_BYTE`` for each byte that its files hold (the runtime's copy,
and one on the way to it), and ``PER_INPUT_BYTE`` for each byte of its inputs (activations: a network of 3 input channels has
layers of 64, and batch and resolution scale both). A file of 200 bytes that asks for 8 GiB gets an error, and a model of 500 MB
loads.

What a file *claims* to hold does not count, only what it holds.

**Time.** ``SECONDS`` until the model was checked, loaded and run once, and more for what can be seen to take longer: for bytes to
read, for nodes to look at, and for multiply-accumulates, as slow as any machine does them. The latter are a claim too, so a file of
a few kilobytes gets at most ``MOST_FOR_MACS`` for them, and more only as it grows.

Where the system has no such limits (RLIMIT_DATA works on Linux) there are none, and what the shapes tell is all that is refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from graphopt.guard.doing import watched

MIB = 2**20
MEMORY = 768 * MIB
PER_BYTE = 2
PER_INPUT_BYTE = 64

SECONDS = 8.0
BYTES_PER_SECOND = 1e8
NODES_PER_SECOND = 500
MACS_PER_SECOND = 1e9
MOST_FOR_MACS = 15.0
SMALL_BYTES_PER_SECOND = 1e4


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user allows: bytes and seconds; None lets the model's size decide, 0 is no limit."""

    memory: int | None = None
    seconds: float | None = None

    def memory_for(self, stored: int, inputs: int = 0) -> int:
        """Bytes for a model whose files hold ``stored`` bytes, on inputs of ``inputs`` bytes; 0 is no limit."""
        if self.memory is not None:
            return self.memory
        # Inputs are a claim as well: what they may bring is bounded by what it takes to have them at all.
        return MEMORY + PER_BYTE * stored + PER_INPUT_BYTE * inputs

    def base(self) -> float | None:
        """Seconds for any model; None is no limit."""
        return SECONDS if self.seconds is None else (self.seconds or None)

    def for_bytes(self, stored: int) -> float:
        """Seconds on top, for a model of ``stored`` bytes."""
        return stored / BYTES_PER_SECOND if self.seconds is None else 0.0

    def for_nodes(self, nodes: int) -> float:
        """Seconds on top, for so many nodes."""
        return nodes / NODES_PER_SECOND if self.seconds is None else 0.0

    def for_macs(self, stored: int, macs: int) -> float:
        """Seconds on top, for so many multiply-accumulates of a model of ``stored`` bytes."""
        most = MOST_FOR_MACS + stored / SMALL_BYTES_PER_SECOND
        return min(macs / MACS_PER_SECOND, most) if self.seconds is None else 0.0


class _Confinement:
    """Bytes that this process may take beyond those it had, and those; 0 is no limit."""

    limit = 0
    baseline: int | None = None


def confined() -> int:
    """The limit that is set in this process, in bytes beyond what it had before; 0 if there is none."""
    return _Confinement.limit


def confine(limit: int, *, anew: bool = False) -> None:
    """Let this process take ``limit`` bytes beyond what it takes now (or took at the first call, unless ``anew``); 0 lifts the
    limit.

    Does nothing in a process that nobody watches: it belongs to the caller.
    """
    page = watched()
    taken = _data_bytes() if _Confinement.baseline is None or anew else _Confinement.baseline
    if page is None or taken is None:
        return
    import resource

    _Confinement.baseline = taken
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = taken + limit if limit else hard
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard) if limit else hard
    with suppress(OSError, ValueError, OverflowError):
        resource.setrlimit(resource.RLIMIT_DATA, (min(soft, sys.maxsize) if limit else hard, hard))
        _Confinement.limit = limit
        page.set_memory(limit)


@contextmanager
def at_most(extra: int) -> Generator[None]:
    """Let this process take ``extra`` bytes beyond what it takes now, and no more, while the block runs; native code then throws.

    Does nothing in a process that nobody watches.
    """
    taken = _data_bytes() if watched() is not None else None
    if taken is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = min([taken + extra, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)])
    with suppress(OSError, ValueError, OverflowError):
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
    try:
        yield
    finally:
        with suppress(OSError, ValueError, OverflowError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    """Private writable memory of this process; None where the system does not tell (and would not limit it)."""
    if sys.platform != "linux":
        return None
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def parse_size(text: str) -> int:
    """``8GiB``, ``500MB``, ``0``, ``1.5g``: bytes. Raises ValueError for anything else."""
    units = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    body = text.strip().lower()
    number = body.rstrip("bikmgt")
    unit = body[len(number) :].strip()
    factor = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}.get(unit) or units.get(unit.removesuffix("ib") or "b")
    value = float(number)
    if factor is None or not 0 <= value * factor < sys.maxsize:
        raise ValueError(text)
    return int(value * factor)


def stored_bytes(path: str | os.PathLike[str]) -> int:
    """Size of a file; 0 if there is none."""
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return 0
