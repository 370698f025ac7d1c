"""Is the integer model really faster, on the machine that this runs on?

Only targets whose runtime is at hand can be asked. The two models run in turns; a model counts as slower when the whole interval of
the ratio says so, and when it loses more than ``FLOOR_MS``, below which a run is mostly what is around the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.model import Model
from graphopt.runtime import Feed, compare_time
from graphopt.runtime.ratio import time_ratio
from graphopt.runtime.session import LARGE
from graphopt.target import Target

MEASURABLE = ("ort-x86-vnni", "ort-x86-avx2")
"""Targets that are this machine's onnxruntime."""

FLOOR_MS = 0.05
GLANCE_SECONDS = 1.0
SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Time of the integer model over that of the float one, and whether it is slower beyond doubt."""

    ratio: float
    slower: bool


def compare(integer: Model, exact: Model, feed: Feed, target: Target, threads: int) -> Verdict | None:
    """None where it cannot be told: another device, or a model too large to hold twice."""
    if target.name not in MEASURABLE or exact.weight_bytes() > LARGE:
        return None
    glance = compare_time(integer, exact, feed, repeats=200, seconds=GLANCE_SECONDS, threads=threads)
    if glance.high < 1.0 or glance.a_ms - glance.b_ms < FLOOR_MS:
        return Verdict(glance.ratio, slower=False)
    ratio = time_ratio(integer, exact, feed, seconds=SECONDS, threads=threads)
    return Verdict(ratio.median, slower=ratio.low > 1.0)
