"""How much to take from which group.

Groups shrink in steps that keep widths on a multiple. What a removal costs is an error at the model's output, measured for each
group alone at a few widths and interpolated between; what it saves is counted exactly: the multiply-accumulates of an operator
are proportional to its rows times its columns, so savings depend on what else is removed. The choice is greedy, always the
removal (of one or more steps of one group) with the least added error for each multiply-accumulate saved, until the budget is
met; then steps are given back and exchanged as long as that lowers the error within the budget. With convex error curves and
fixed savings that is the optimum but for the last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, Group

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Term:
    """The cost of one operator: ``macs`` times the kept shares of its rows, of its columns and so on."""

    macs: float
    sides: tuple[tuple[tuple[int, float], ...], ...]

    def count(self, removed: Sequence[int]) -> float:
        left = self.macs
        for side in self.sides:
            left *= 1.0 - sum(share * removed[g] for g, share in side)
        return left


class Macs:
    """Multiply-accumulates of a model as a function of how many units of each group are removed."""

    def __init__(self, graph: ChannelGraph, groups: Sequence[Group]) -> None:
        owner = {int(u): k for k, g in enumerate(groups) for u in g.units}
        self.total = float(graph.cost.macs)
        self._terms: list[_Term] = []
        self._of: list[list[int]] = [[] for _ in groups]
        for macs, classes in graph.factors():
            if not macs:
                continue
            sides = tuple(_shares(c.tolist(), owner) for c in classes)
            for index in {g for side in sides for g, _ in side}:
                self._of[index].append(len(self._terms))
            self._terms.append(_Term(macs, sides))

    def count(self, removed: Sequence[int]) -> float:
        """In all."""
        return self.total - sum(t.macs - t.count(removed) for t in self._terms)

    def change(self, removed: list[int], group: int, units: int) -> float:
        """What removing another ``units`` of a group saves."""
        terms = [self._terms[k] for k in self._of[group]]
        before = sum(t.count(removed) for t in terms)
        removed[group] += units
        after = sum(t.count(removed) for t in terms)
        removed[group] -= units
        return before - after


def _shares(classes: list[int], owner: dict[int, int]) -> tuple[tuple[int, float], ...]:
    """By group: the share of one unit in an axis whose elements have these classes."""
    counts: dict[int, int] = {}
    units: dict[int, set[int]] = {}
    for c in classes:
        if c in owner:
            counts[owner[c]] = counts.get(owner[c], 0) + 1
            units.setdefault(owner[c], set()).add(c)
    return tuple((g, n / len(units[g]) / len(classes)) for g, n in counts.items())


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


def allocate(macs: Macs, ladders: Sequence[Sequence[int]], curves: Sequence[Curve], target: float) -> list[int]:
    """How many units to remove from each group so that the model has at most ``target`` multiply-accumulates."""
    place = [0] * len(ladders)
    removed = [0] * len(ladders)
    current = macs.count(removed)
    while current > target:
        best = _cheapest(macs, ladders, curves, place, removed, current - target)
        if best is None:
            break
        group, at = best
        current -= macs.change(removed, group, ladders[group][at] - removed[group])
        place[group], removed[group] = at, ladders[group][at]
    return _settle(macs, ladders, curves, place, removed, target)


def _cheapest(
    macs: Macs,
    ladders: Sequence[Sequence[int]],
    curves: Sequence[Curve],
    place: Sequence[int],
    removed: list[int],
    needed: float,
) -> tuple[int, int] | None:
    """The group and the rung whose removal adds the least error for each multiply-accumulate that is needed."""
    best: tuple[float, int, int] | None = None
    for group, ladder in enumerate(ladders):
        for at in range(place[group] + 1, len(ladder)):
            saved = macs.change(removed, group, ladder[at] - removed[group])
            if saved <= 0:
                continue
            price = (curves[group](ladder[at]) - curves[group](removed[group])) / min(saved, needed)
            if best is None or price < best[0]:
                best = (price, group, at)
            if saved >= needed:
                break
    return None if best is None else best[1:]


def _settle(
    macs: Macs,
    ladders: Sequence[Sequence[int]],
    curves: Sequence[Curve],
    place: list[int],
    removed: list[int],
    target: float,
) -> list[int]:
    """Give back and exchange single steps while that lowers the error and keeps the budget."""
    for _ in range(64):
        slack = target - macs.count(removed)
        if slack < 0:
            break
        best: tuple[float, int, int] | None = None
        for up in (g for g in range(len(ladders)) if place[g] > 0):
            back = ladders[up][place[up] - 1]
            gain = curves[up](removed[up]) - curves[up](back)
            cost = -macs.change(removed, up, back - removed[up])
            if cost <= slack and gain > 0 and (best is None or gain > best[0]):
                best = (gain, up, -1)
            kept, removed[up] = removed[up], back
            for down in (g for g in range(len(ladders)) if g != up and place[g] + 1 < len(ladders[g])):
                more = ladders[down][place[down] + 1]
                net = gain - (curves[down](more) - curves[down](removed[down]))
                saved = macs.change(removed, down, more - removed[down])
                if net > 1e-15 and cost - saved <= slack and (best is None or net > best[0]):
                    best = (net, up, down)
            removed[up] = kept
        if best is None:
            break
        _, up, down = best
        place[up] -= 1
        removed[up] = ladders[up][place[up]]
        if down >= 0:
            place[down] += 1
            removed[down] = ladders[down][place[down]]
    return removed
