"""What a model costs as a function of how many units of each group are removed: multiply-accumulates, parameters, bytes, time.

All but time are sums of products. The multiply-accumulates of an operator are proportional to its rows times its columns, the
elements of a constant to what is left along each of its axes; each side of a product is linear in the numbers removed. So savings
depend on what else goes, and are counted exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, Group
from graphopt.ops.channels.layout import product

Floats = NDArray[np.float64]


class Cost(Protocol):
    """A cost by numbers of removed units, in the order of the groups that it was made for."""

    @property
    def total(self) -> float:
        """With nothing removed."""
        ...

    def count(self, removed: Sequence[int]) -> float:
        """In all."""
        ...

    def change(self, removed: Sequence[int], group: int, units: int) -> float:
        """What removing another ``units`` of a group saves."""
        ...

    def changes(self, removed: Sequence[int], group: int, units: Sequence[int]) -> Floats:
        """The same of several numbers of units, each alone."""
        ...

    def near(self, group: int) -> frozenset[int]:
        """The groups, itself too, whose savings depend on how much of this one goes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A product: ``amount`` times the kept shares of each side, a side being (group, share of one of its units)."""

    amount: float
    sides: tuple[tuple[tuple[int, float], ...], ...]

    def count(self, removed: Sequence[int]) -> float:
        """What is left."""
        left = self.amount
        for side in self.sides:
            left *= 1.0 - sum(share * removed[g] for g, share in side)
        return left

    def counts(self, removed: Sequence[int], group: int, more: Floats) -> Floats:
        """What is left where more of one group goes, for several numbers."""
        left = np.full(more.size, self.amount)
        for side in self.sides:
            kept = 1.0 - sum(share * removed[g] for g, share in side)
            left *= kept - sum(share for g, share in side if g == group) * more
        return left


class Products:
    """A cost that is a sum of products."""

    def __init__(self, total: float, terms: Sequence[Term], groups: int) -> None:
        self._total = total
        self._terms = [t for t in terms if t.amount and any(t.sides)]
        self._of: list[list[int]] = [[] for _ in range(groups)]
        for place, term in enumerate(self._terms):
            for index in {g for side in term.sides for g, _ in side}:
                self._of[index].append(place)
        together = [frozenset(g for side in t.sides for g, _ in side) for t in self._terms]
        self._near = [frozenset({g}.union(*(together[k] for k in places))) for g, places in enumerate(self._of)]

    @property
    def total(self) -> float:
        return self._total

    def count(self, removed: Sequence[int]) -> float:
        return self._total - sum(t.amount - t.count(removed) for t in self._terms)

    def change(self, removed: Sequence[int], group: int, units: int) -> float:
        return float(self.changes(removed, group, [units])[0])

    def changes(self, removed: Sequence[int], group: int, units: Sequence[int]) -> Floats:
        more = np.asarray(units, np.float64)
        found = np.zeros(more.size)
        for place in self._of[group]:
            term = self._terms[place]
            found += term.count(removed) - term.counts(removed, group, more)
        return found

    def near(self, group: int) -> frozenset[int]:
        return self._near[group]


def macs_of(graph: ChannelGraph, groups: Sequence[Group]) -> Products:
    """Multiply-accumulates."""
    owner = owners(groups)
    terms = [Term(macs, tuple(shares(c.tolist(), owner) for c in classes)) for macs, classes in graph.factors()]
    return Products(float(graph.cost.macs), terms, len(groups))


def params_of(graph: ChannelGraph, groups: Sequence[Group]) -> Products:
    """Elements of the constants, as the ``Cost`` analysis counts them."""
    return Products(float(graph.cost.params), _elements(graph, groups, bytes_each=False), len(groups))


def bytes_of(graph: ChannelGraph, groups: Sequence[Group]) -> Products:
    """Bytes of the file."""
    return Products(float(graph.model.size()), _elements(graph, groups, bytes_each=True), len(groups))


def _elements(graph: ChannelGraph, groups: Sequence[Group], *, bytes_each: bool) -> list[Term]:
    """A term for each constant, once however many read it."""
    owner, constants = owners(groups), graph.model.constants()
    terms: dict[str, Term] = {}
    for name, layout, constant in graph.flow.layouts():
        found = constants.get(name)
        if not constant or name in terms or found is None:
            continue
        dtype = np.dtype(found._values.dtype)
        counted = dtype.kind == "f" or (dtype.kind in "iu" and dtype.itemsize < 8)
        amount = (product(layout.factors) or 0) * (dtype.itemsize if bytes_each else int(counted))
        sides = tuple(shares(graph.flow.table.find(f.labels.reshape(-1)).tolist(), owner) for f in layout.fields)
        terms[name] = Term(float(amount), sides)
    return list(terms.values())


def owners(groups: Sequence[Group]) -> dict[int, int]:
    """The place of the group of each unit."""
    return {int(u): k for k, g in enumerate(groups) for u in g.units}


def shares(classes: list[int], owner: Mapping[int, int]) -> tuple[tuple[int, float], ...]:
    """By group: the share of one unit in an axis whose elements have these classes."""
    counts: dict[int, int] = {}
    units: dict[int, set[int]] = {}
    for c in classes:
        if c in owner:
            counts[owner[c]] = counts.get(owner[c], 0) + 1
            units.setdefault(owner[c], set()).add(c)
    return tuple((g, n / len(units[g]) / len(classes)) for g, n in counts.items())
