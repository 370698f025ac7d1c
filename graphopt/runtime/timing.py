"""Which of two models is faster, and by how much, on a machine that other work disturbs.

The two are timed in turns, a b then b a, so that a slow moment (a clock change, a neighbour) hits both; the figure is
the median of the ratios of such pairs, and a pair that was disturbed falls to the side of it. Very short runs are
repeated within one measurement until a measurement lasts a millisecond, which is well above the clock's and the
interpreter's noise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from graphopt.runtime.session import Feed, Runnable, Session

Clock = Callable[[], float]

_SHORTEST_S = 1e-3
_WARM_UP = 3
_MOST_INNER = 1000
_PATIENCE = 10.0
"""Seconds: a model of which three pairs take longer is not worth the third."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over ``pairs`` interleaved pairs of measurements.

    Attributes:
        a_ms, b_ms: median time of one run of each, in milliseconds.
        ratio: median of a's time over b's: 2.0 means that b is twice as fast.
        low, high: the quartiles of that ratio; a wide gap means that the machine was busy.
        pairs: how many pairs were measured.
    """

    a_ms: float
    b_ms: float
    ratio: float
    low: float
    high: float
    pairs: int


def compare_time(
    a: Runnable | Session, b: Runnable | Session, feed: Feed, *, repeats: int, seconds: float, threads: int = 1
) -> Timing:
    """Time two models on the same input.

    Args:
        a: the slower one, if the ratio is to be a speed-up.
        b: the other one.
        feed: their input.
        repeats: how many pairs to measure; at least 1.
        seconds: stop earlier, but after no less than three pairs (or ``repeats``), once this much time has passed; after one,
            once that was exceeded by ``_PATIENCE``.
        threads: threads of one operator, where a or b is not a session yet.

    Raises:
        ModelError: GO030, one of them does not load or run.
    """
    first = a if isinstance(a, Session) else Session(a, threads=threads)
    second = b if isinstance(b, Session) else Session(b, threads=threads)
    return summary(*paired_times(first, second, feed, repeats=repeats, seconds=seconds))


def paired_times(
    first: Session, second: Session, feed: Feed, *, repeats: int, seconds: float, clock: Clock = time.perf_counter
) -> tuple[list[float], list[float]]:
    """The times of each in seconds by ``clock``, pair by pair; other arguments as for ``compare_time``."""
    start = time.perf_counter()
    for _ in range(_WARM_UP):
        first.run(feed)
        second.run(feed)
        if time.perf_counter() - start > seconds / 2:
            break
    inner_a, inner_b = _inner(first, feed, clock), _inner(second, feed, clock)
    times_a: list[float] = []
    times_b: list[float] = []
    deadline = time.perf_counter() + seconds
    for index in range(max(1, repeats)):
        late = time.perf_counter() - deadline
        if late > 0 and (index >= 3 or (index >= 1 and late > _PATIENCE)):
            break
        if index % 2 == 0:
            times_a.append(_measure(first, feed, inner_a, clock))
            times_b.append(_measure(second, feed, inner_b, clock))
        else:
            times_b.append(_measure(second, feed, inner_b, clock))
            times_a.append(_measure(first, feed, inner_a, clock))
    return times_a, times_b


def measure_time(model: Runnable | Session, feed: Feed, *, repeats: int, seconds: float, threads: int = 1) -> float:
    """The median time of one run, in milliseconds; arguments as for ``compare_time``."""
    session = model if isinstance(model, Session) else Session(model, threads=threads)
    for _ in range(_WARM_UP):
        session.run(feed)
    inner = _inner(session, feed)
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < max(1, repeats) and (len(times) < 3 or time.perf_counter() < deadline):
        times.append(_measure(session, feed, inner))
    return statistics.median(times) * 1e3


def _inner(session: Session, feed: Feed, clock: Clock = time.perf_counter) -> int:
    """How many runs make one measurement."""
    one = _measure(session, feed, 1, clock)
    if one >= _SHORTEST_S:
        return 1
    one = max(min(one, _measure(session, feed, 1, clock)), 1e-7)
    return min(_MOST_INNER, max(1, round(_SHORTEST_S / one)))


def _measure(session: Session, feed: Feed, inner: int, clock: Clock = time.perf_counter) -> float:
    start = clock()
    for _ in range(inner):
        session.run(feed)
    return (clock() - start) / inner


def summary(times_a: list[float], times_b: list[float]) -> Timing:
    """The medians of pairs of times, in seconds."""
    ratios = sorted(x / y for x, y in zip(times_a, times_b, strict=True))
    low, high = (ratios[0], ratios[-1]) if len(ratios) < 4 else _quartiles(ratios)
    return Timing(
        a_ms=statistics.median(times_a) * 1e3,
        b_ms=statistics.median(times_b) * 1e3,
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        pairs=len(ratios),
    )


def _quartiles(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=4)
    return cuts[0], cuts[2]
