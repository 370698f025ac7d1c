"""What to remove: by masks, by a uniform ratio, by what is dead, or by a budget.

A ``Planner`` holds what all of these share for one model: the groups that can be pruned, the statistics, the order of each
group's channels, the compensated weights for any removal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, Group
from graphopt.ops.channels import Labels, Mixer
from graphopt.passes.prune.allocate import Curve, Macs, allocate, steps
from graphopt.passes.prune.compensate import compensated
from graphopt.passes.prune.dead import Dead, absorbed
from graphopt.passes.prune.importance import by_activations, by_norm, mixers_of
from graphopt.passes.prune.reference import Weights
from graphopt.passes.prune.reorder import Moves
from graphopt.passes.prune.sensitivity import curves
from graphopt.passes.prune.statistics import Statistics, gather
from graphopt.pipeline import Context
from graphopt.runtime import Feeds

Removed = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that planning needs, settled."""

    multiple: int
    activations: bool
    compensate: bool
    ridge: float


@dataclass(slots=True)
class Planner:
    """Plans for one model; ``groups`` are those that may be pruned."""

    graph: ChannelGraph
    ctx: Context
    settings: Settings
    groups: list[Group]
    moves: Moves = field(default_factory=Moves)
    """Where channels of blocks that shrink alike were moved in ``graph``, against the model as it was."""
    dead: Dead | None = None
    """What is dead, if only that is to go."""
    fit: Feeds | None = None
    held: Feeds | None = None
    statistics: Statistics = field(default_factory=Statistics)
    orders: dict[str, Labels] = field(default_factory=dict[str, Labels])
    curves: dict[str, Curve] = field(default_factory=dict[str, Curve])

    def readers(self, groups: Sequence[Group]) -> list[Mixer]:
        """The mixers that read any of ``groups``."""
        wanted = {m.node for g in groups for m in mixers_of(self.graph, g)[1]}
        return [m for m in self.graph.flow.mixers if m.node in wanted]

    def measure(self, groups: Sequence[Group], feeds: Feeds) -> Statistics:
        """Statistics of what reads ``groups``, if the settings ask for them."""
        if not (self.settings.activations or self.settings.compensate) or not groups:
            return Statistics()
        with self.ctx.progress("statistics", len(feeds)) as bar:
            return gather(self.graph, self.readers(groups), feeds, self.ctx.seed, self.ctx.threads, bar.advance)

    def measure_all(self, groups: Sequence[Group]) -> None:
        """Statistics over all data."""
        self.statistics = self.measure(groups, self.ctx.feeds)

    def feeds(self) -> tuple[Feeds, Feeds]:
        """Data to fit on, and to judge by."""
        if self.fit is None or self.held is None:
            self.fit, self.held = self.ctx.feeds.split(self.ctx.seed)
        return self.fit, self.held

    def order(self, group: Group) -> Labels:
        """The units of a group, least important first."""
        if group.id not in self.orders:
            found = None
            if self.settings.activations:
                found = by_activations(self.graph, group, self.statistics, self.settings.ridge)
            self.orders[group.id] = by_norm(self.graph, group) if found is None else found
        return self.orders[group.id]

    def update(self, removed: Removed) -> Mapping[str, Weights]:
        """New weights for a removal: compensated ones if there are statistics, those that take over what is dead."""
        if self.dead is not None:
            return absorbed(self.graph, self.dead, removed)
        if not self.settings.compensate:
            return {}
        return compensated(self.graph, self.graph.flow.mixers, removed, self.statistics, self.settings.ridge)

    def by_ratio(self, ratio: float) -> Labels:
        """Of each group the share ``ratio``, less what widths on a multiple forbid."""
        if not self.statistics.moments:
            self.measure_all(self.groups)
        chosen: list[Labels] = []
        for group in self.groups:
            count = max(n for n in steps(group, self.settings.multiple, 0.0) if n <= ratio * group.size + 1e-9)
            chosen.append(self.order(group)[:count])
        return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)

    def by_macs(self, target: float) -> Labels:
        """What brings the model to ``target`` multiply-accumulates at the least error of its output."""
        ladders = {g.id: steps(g, self.settings.multiple) for g in self.groups}
        groups = [g for g in self.groups if len(ladders[g.id]) > 1]
        if not groups:
            return np.zeros(0, np.int64)
        if not self.curves:
            self._measure_curves(groups, [ladders[g.id] for g in groups])
        macs = Macs(self.graph, groups)
        rungs = [ladders[g.id] for g in groups]
        counts = allocate(macs, rungs, [self.curves[g.id] for g in groups], target)
        return np.concatenate([self.order(g)[:n] for g, n in zip(groups, counts, strict=True)])

    def _measure_curves(self, groups: Sequence[Group], ladders: Sequence[Sequence[int]]) -> None:
        fit, held = self.feeds()
        self.statistics = self.measure(groups, fit)
        with self.ctx.progress("sensitivity", len(groups)) as bar:
            orders = [self.order(g) for g in groups]
            made = curves(self.graph, groups, orders, ladders, held, self.update, self.ctx.threads, bar.advance)
        self.curves = {g.id: c for g, c in zip(groups, made, strict=True)}
        # What is held out is needed to judge; from here on nothing is judged, so all data may help.
        if len(fit) < len(self.ctx.feeds):
            self.statistics = self.statistics.joined(self.measure(groups, held))
            self.orders.clear()
