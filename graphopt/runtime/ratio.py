"""How many times slower one model is than another, with a confidence interval.

The two are timed in turns (``graphopt.runtime.timing``), and each pair gives one ratio. The median of the ratios has an interval
that assumes nothing of their distribution: with n of them in order, the k-th from either end bound the median with a confidence of
1 - 2 P(Binomial(n, 1/2) < k) (David and Nagaraja, Order Statistics, 3rd edition, section 7.1).

Where a session's weights happen to lie in memory can make it a few percent faster or slower for all of its life, and no number of
pairs within one session shows that. So the sessions are made anew ``BLOCKS`` times; the ratio of a block is the median of its
pairs, and what is told is the wider of the two intervals, that of the pairs and that of the blocks (their extremes).

With one thread, time is the processor time of that thread: onnxruntime then works in the caller's, and what other processes take
of the machine, which can be ten times as much as the model, does not count. With more threads it is the time on the clock.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass

from graphopt.runtime.session import Feed, Runnable, Session
from graphopt.runtime.timing import paired_times

BLOCKS = 5
PAIRS = 24
"""Pairs of one block."""

CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the first model over that of the second: the median, and the bounds of its interval."""

    median: float
    low: float
    high: float
    pairs: int


def time_ratio(a: Runnable, b: Runnable, feed: Feed, *, seconds: float, threads: int = 1) -> Ratio:
    """Time ``a`` against ``b`` on one input, for about ``seconds`` at most (three pairs a block are measured in any case).

    Raises:
        ModelError: GO030, one of them does not load or run.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    deadline = time.perf_counter() + seconds
    blocks: list[list[float]] = []
    for block in range(BLOCKS):
        share = max(deadline - time.perf_counter(), 0.0) / (BLOCKS - block)
        # Which of the two is made first may decide what memory it gets.
        if block % 2 == 0:
            first, second = Session(a, threads=threads), Session(b, threads=threads)
        else:
            second, first = Session(b, threads=threads), Session(a, threads=threads)
        times_a, times_b = paired_times(first, second, feed, repeats=PAIRS, seconds=share, clock=clock)
        blocks.append([x / y for x, y in zip(times_a, times_b, strict=True)])
    pairs = sorted(ratio for block in blocks for ratio in block)
    middles = [statistics.median(block) for block in blocks]
    low, high = median_interval(pairs, CONFIDENCE)
    return Ratio(statistics.median(pairs), min(low, *middles), max(high, *middles), len(pairs))


def median_interval(ordered: list[float], confidence: float) -> tuple[float, float]:
    """Bounds of the median of a sample in ascending order; its extremes where there are too few values for the confidence."""
    n = len(ordered)
    tail, k = 0.0, 0
    while k < n // 2:
        tail += math.comb(n, k) * 0.5**n
        if 2 * tail > 1 - confidence:
            break
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]
