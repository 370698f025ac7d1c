"""How much to take from which group.

Groups shrink in steps that keep widths on a multiple; a rung of a group's ladder is a number of units that may go. What a
removal costs is an error at the model's output, measured for each group alone at a few widths and interpolated between; what it
saves is counted exactly (``costs``), and depends on what else goes. So this is a knapsack with a rung to choose for every group,
whose savings are products of the choices:

1. *greedy*: always the removal with the least added error for what it saves, until the budget is met, then steps given back and
   exchanged as long as that lowers the error within the budget;
2. *exact, linearised*: with the savings as they are around the last choice, c(x) + sum over g of c(x, g -> r) - c(x), an integer
   program (HiGHS) finds the best rungs; around these it is linearised anew, with the budget tightened by what the last choice
   exceeded it by;
3. *fix-up*: what is left of the budget, counted exactly, is given back: the result is not smaller than it may be.

Of all choices that keep the budget the one that comes within ``NEAR`` of it, if there is one, at the least error wins.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from graphopt.analysis.channels import Group
from graphopt.passes.prune.costs import Cost

Floats = NDArray[np.float64]
Ladders = Sequence[Sequence[int]]
Errors = Sequence[Callable[[int], float]]

NEAR = 0.99
"""A budget counts as met closely when the result has at least this share of it."""

_TIERS = (NEAR, 0.95, 0.9, 0.8)
"""Where no choice comes that near, a nearer one goes before one of less error, by these shares: a budget is what may be kept."""

_ROUNDS = 8
_NODES = 2000
"""Of the search tree: a bound that does not depend on the machine, as a time would."""

_SINGLES = 64
"""Rungs that are given back or exchanged, at most."""

_FEW = 5000
"""Choices that are all looked at."""

_PAIRS = 50_000
"""Exchanges of two groups that are looked at to come near a budget."""


@dataclass(slots=True)
class Curve:
    """Error at the output against the number of removed units, from a few measured points.

    Between points, and before the first, error is a power of the number removed; past the last the last power goes on.
    """

    points: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])

    def __call__(self, units: int) -> float:
        if units <= 0 or not self.points:
            return 0.0
        known = [(n, max(e, 1e-12)) for n, e in self.points]
        if len(known) == 1:
            n, e = known[0]
            return float(e * (units / n) ** 1.5)
        at = next((k for k in range(1, len(known) - 1) if units <= known[k][0]), len(known) - 1)
        (n1, e1), (n2, e2) = known[at - 1], known[at]
        power = float(np.log(max(e2 / e1, 1.0)) / np.log(n2 / n1))
        return float(e1 * (units / n1) ** max(power, 1.0))


def steps(group: Group, multiple: int, floor: float = 0.125) -> list[int]:
    """How many units of a group may be removed: none, or what leaves a multiple, at least one step and a share ``floor``."""
    step = group.step(multiple)
    least = max(step, -(-int(np.ceil(floor * group.size)) // step) * step)
    widths = range(least, group.size, step)
    return [0, *sorted(group.size - w for w in widths)]


def allocate(cost: Cost, ladders: Ladders, errors: Errors, target: float) -> list[int]:
    """How many units to remove from each group so that the model costs at most ``target``.

    Where nothing does, the removal of the last rungs. Groups whose removal saves nothing keep their first rung.
    """
    best = _greedy(cost, ladders, errors, target)
    if cost.count(best) > target:
        return best
    found = [best]
    at, room = best, target
    for _ in range(_ROUNDS):
        made = _program(cost, ladders, errors, at, room, target)
        if made is None or made == at:
            break
        at, excess = made, cost.count(made) - target
        if excess > 0:
            room -= excess
        else:
            found.append(_settled(cost, ladders, errors, made, target))
    chosen = min(found, key=lambda x: _rank(cost, errors, x, target))
    if cost.count(chosen) < NEAR * target:
        chosen = min(chosen, _nearer(cost, ladders, errors, chosen, target), key=lambda x: _rank(cost, errors, x, target))
    return chosen


def total(errors: Errors, removed: Sequence[int]) -> float:
    """The predicted error of a choice."""
    return sum(e(n) for e, n in zip(errors, removed, strict=True))


def _rank(cost: Cost, errors: Errors, removed: list[int], target: float) -> tuple[int, float, float]:
    count = cost.count(removed)
    if count > target:
        return len(_TIERS) + 1, count, 0.0
    tier = next((i for i, share in enumerate(_TIERS) if count >= share * target), len(_TIERS))
    return tier, total(errors, removed), -count


# -- greedy ------------------------------------------------------------------------------------------------------------------


def _greedy(cost: Cost, ladders: Ladders, errors: Errors, target: float) -> list[int]:
    """Each step looks at all rungs of all groups; what they save is counted anew where it depends on the last step."""
    place = [0] * len(ladders)
    removed = [ladder[0] for ladder in ladders]
    priced = [np.asarray([e(n) for n in ladder]) for e, ladder in zip(errors, ladders, strict=True)]
    saved: dict[int, Floats] = {}
    current = cost.count(removed)
    while current > target:
        for group in (g for g in range(len(ladders)) if g not in saved):
            saved[group] = cost.changes(removed, group, [n - removed[group] for n in ladders[group]])
        best = _cheapest(priced, saved, place, current - target)
        if best is None:
            return removed
        group, at = best
        current -= float(saved[group][at])
        place[group], removed[group] = at, ladders[group][at]
        for near in cost.near(group):
            saved.pop(near, None)
    return _settled(cost, ladders, errors, removed, target)


def _cheapest(priced: Sequence[Floats], saved: Mapping[int, Floats], place: Sequence[int], needed: float) -> tuple[int, int] | None:
    """The group and the rung whose removal adds the least error for what is saved of what is needed."""
    best: tuple[float, int, int] | None = None
    for group, (errors, at) in enumerate(zip(priced, place, strict=True)):
        more = saved[group][at + 1 :]
        useful = np.flatnonzero(more > 0)
        if not useful.size:
            continue
        prices = (errors[at + 1 :][useful] - errors[at]) / np.minimum(more[useful], needed)
        cheapest = int(np.argmin(prices))
        if best is None or prices[cheapest] < best[0]:
            best = (float(prices[cheapest]), group, at + 1 + int(useful[cheapest]))
    return None if best is None else best[1:]


# -- exact -------------------------------------------------------------------------------------------------------------------


def _program(cost: Cost, ladders: Ladders, errors: Errors, at: list[int], room: float, target: float) -> list[int] | None:
    """The best rungs with savings as they are around ``at``; None if none keep ``room``."""
    base = cost.count(at)
    groups = [(g, n) for g, ladder in enumerate(ladders) for n in ladder]
    error = np.asarray([errors[g](n) for g, n in groups])
    spent = np.asarray([-cost.change(at, g, n - at[g]) for g, n in groups])
    rows = csr_array((np.ones(len(groups)), (np.asarray([g for g, _ in groups]), np.arange(len(groups)))))
    scale = max(target, 1.0)
    budget = LinearConstraint((spent / scale)[None], -np.inf, (room - base) / scale)
    with _unprinted():
        # Costs of the objective that differ by less than rounding would leave the choice to chance.
        result = milp(
            error / max(float(error.max(initial=0.0)), 1e-30),
            integrality=np.ones(len(groups), np.int64),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(rows, 1, 1), budget],
            options={"node_limit": _NODES, "mip_rel_gap": 1e-4},
        )
    if result.x is None:
        return None
    made = list(at)
    for (g, n), taken in zip(groups, result.x, strict=True):
        if taken > 0.5:
            made[g] = n
    return made


@contextmanager
def _unprinted() -> Generator[None]:
    """What native code prints goes nowhere: HiGHS says some things whatever its options are, into what may be a report."""
    try:
        sys.stdout.flush()
        _flush_native()
        kept = os.dup(1)
    except (OSError, ValueError, AttributeError):  # there is no standard output
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        yield
    finally:
        _flush_native()
        os.dup2(kept, 1)
        os.close(kept)


def _flush_native() -> None:
    """Write out what the C library has buffered."""
    with suppress(OSError, TypeError, AttributeError):  # not where it cannot be asked
        ctypes.CDLL(None).fflush(None)


# -- fix-up ------------------------------------------------------------------------------------------------------------------


def _settled(cost: Cost, ladders: Ladders, errors: Errors, choice: Sequence[int], target: float) -> list[int]:
    """Give back and exchange single rungs while that lowers the error and keeps the budget."""
    removed = list(choice)
    place = [list(ladder).index(n) for ladder, n in zip(ladders, removed, strict=True)]
    count = len(ladders)
    up, down = (np.zeros(count, np.int64) for _ in range(2))
    gain, loss, price, saved = (np.zeros(count) for _ in range(4))
    stale = set(range(count))
    for _ in range(_SINGLES):
        slack = target - cost.count(removed)
        if slack < 0:
            break
        for g in stale:
            ladder, at = ladders[g], place[g]
            up[g] = ladder[max(0, at - 1)] - removed[g]
            down[g] = ladder[min(len(ladder) - 1, at + 1)] - removed[g]
            gain[g] = errors[g](removed[g]) - errors[g](removed[g] + int(up[g]))
            loss[g] = errors[g](removed[g] + int(down[g])) - errors[g](removed[g])
            back, more = cost.changes(removed, g, [int(up[g]), int(down[g])])
            price[g], saved[g] = -back, more
        best = _exchange(cost, removed, (up, down), (gain, loss), (price, saved), slack)
        if best is None:
            break
        stale = set[int]()
        for g, step in best:
            place[g] += step
            removed[g] = ladders[g][place[g]]
            stale |= cost.near(g)
    return removed


def _exchange(
    cost: Cost,
    removed: list[int],
    units: tuple[NDArray[np.int64], NDArray[np.int64]],
    error: tuple[Floats, Floats],
    counted: tuple[Floats, Floats],
    slack: float,
) -> list[tuple[int, int]] | None:
    """The rung to give back, or to exchange for another group's, that lowers the error most: (group, step) each."""
    (up, down), (gain, loss), (price, saved) = units, error, counted
    best, most = None, 1e-15
    for g in np.flatnonzero((up < 0) & (gain > 0)).tolist():
        if price[g] <= slack and gain[g] > most:
            best, most = [(g, -1)], float(gain[g])
        net = gain[g] - loss
        # What the other group saves is another thing where the two meet.
        near = np.zeros(net.size, bool)
        near[list(cost.near(g))] = True
        fits = (down > 0) & (net > most) & (near | (price[g] - saved <= slack))
        fits[g] = False
        for h in sorted(np.flatnonzero(fits).tolist(), key=lambda h: -net[h]):
            if near[h]:
                then = list(removed)
                then[g] += int(up[g])
                if price[g] - cost.change(then, h, int(down[h])) > slack:
                    continue
            best, most = [(g, -1), (h, 1)], float(net[h])
            break
    return best


def _nearer(cost: Cost, ladders: Ladders, errors: Errors, choice: list[int], target: float) -> list[int]:
    """Of all choices, where they are few, the best that comes within ``NEAR`` of the budget, or else the best by ``_rank``; of
    many the best of those that come within ``NEAR`` and differ from ``choice`` in two groups at most; ``choice`` if none does.
    """
    if math.prod(len(ladder) for ladder in ladders) <= _FEW:
        return min((list(x) for x in itertools.product(*ladders)), key=lambda x: _rank(cost, errors, x, target))
    base = cost.count(choice)
    best, least = choice, np.inf
    moves = [(g, n, -cost.change(choice, g, n - choice[g])) for g, ladder in enumerate(ladders) for n in ladder if n != choice[g]]
    moves.sort(key=lambda m: m[2])
    prices = np.asarray([price for _, _, price in moves])
    window = (NEAR * target - base, target - base)
    for g, n, price in moves:
        made = [*choice[:g], n, *choice[g + 1 :]]
        if window[0] <= price <= window[1] and total(errors, made) < least:
            best, least = made, total(errors, made)
    # Two moves: near enough, as if they did not meet in one operator; then counted as it is. Those of little error first.
    wide = (2 * window[0] - window[1], 2 * window[1] - window[0])
    added = [errors[g](n) - errors[g](choice[g]) for g, n, _ in moves]
    room = _PAIRS
    for first in sorted(range(len(moves)), key=lambda k: (added[k], k)):
        g, n, price = moves[first]
        low, high = np.searchsorted(prices, (wide[0] - price, wide[1] - price))
        for second in range(int(low), int(high)):
            h, m, _ = moves[second]
            room -= 1
            if room < 0:
                return best
            if h == g or (added[second], second) < (added[first], first):
                continue
            both = list(choice)
            both[g], both[h] = n, m
            if NEAR * target <= cost.count(both) <= target and total(errors, both) < least:
                best, least = both, total(errors, both)
    return best
