"""What to remove: by masks, by a uniform ratio, by what is dead, or by a budget.

A ``Planner`` holds what all of these share for one model: the groups that can be pruned, the statistics, the order of each
group's channels, the compensated weights for any removal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph, Group
from graphopt.model import Model
from graphopt.ops.channels import Labels, Mixer
from graphopt.passes.prune.allocate import NEAR, Curve, allocate, steps, total
from graphopt.passes.prune.budget import Budget
from graphopt.passes.prune.compensate import Bias, Compensator
from graphopt.passes.prune.costs import Cost
from graphopt.passes.prune.dead import Dead, absorbed
from graphopt.passes.prune.importance import by_activations, by_norm, mixers_of
from graphopt.passes.prune.latency import Latency
from graphopt.passes.prune.reference import Weights, masked, reference, removed_columns, zeroed
from graphopt.passes.prune.refit import Refit, Refitter, layers_behind
from graphopt.passes.prune.reorder import Moves
from graphopt.passes.prune.sensitivity import Probe, batched, curves, first_tensor, measured_outputs, plan
from graphopt.passes.prune.statistics import Statistics, gather
from graphopt.pipeline import Context, Refusal
from graphopt.runtime import Feeds

Removed = NDArray[np.bool_]

_TRIES, _CLOSE = 5, 0.96
"""How often a time that is measured here is approached, and the share of it that is near enough."""

_PAYS = 1e-4
"""The share of a model's time that the most that a group can lose must save."""

_ROUNDS, _SPENT = 12, 2e12
"""Rounds of exchanges between groups, at most, and multiply-accumulates for them."""

_SINGLES = 3
"""Exchanges of two groups that are measured where all at once do not help."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that planning needs, settled."""

    multiple: int
    activations: bool
    compensate: bool
    ridge: float
    refit: bool = True


@dataclass(slots=True)
class Planner:
    """Plans for one model; ``groups`` are those that may be pruned."""

    graph: ChannelGraph
    ctx: Context
    settings: Settings
    groups: list[Group]
    moves: Moves = field(default_factory=Moves)
    """Where channels of blocks that shrink alike were moved in ``graph``, against the model as it was."""
    budget: Budget | None = None
    dead: Dead | None = None
    """What is dead, if only that is to go."""
    fit: Feeds | None = None
    held: Feeds | None = None
    constants: Statistics = field(default_factory=Statistics)
    """What channels are on average as far as that is known without data, where there is none."""
    compensator: Compensator | None = None
    refit: Refit | None = None
    probe: Probe | None = None
    reached: float = 0.0
    tries: int = 0
    idle: list[Refusal] = field(default_factory=list[Refusal])
    """Groups that are left alone because the device gains nothing by them."""
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
        known = self.statistics if self.settings.compensate else self.constants
        if not known.moments:
            return {}
        if self.compensator is None or self.compensator.statistics is not known:
            self.compensator = Compensator(self.graph, self.graph.flow.mixers, known, self.settings.ridge)
        return self.compensator.weights(removed)

    def stand_ins(self, removed: Removed) -> Mapping[str, Weights]:
        """Weights and biases as large as ``recovered`` may make them, for what counts bytes or parameters: a bias where none was,
        one of its own where several operators shared one, names that are new.
        """
        if self.dead is not None:
            return {}
        if not self.settings.compensate:
            return self.update(removed)
        found: dict[str, Weights] = {}
        behind = {layer.mixer.node for layer in layers_behind(self.graph, removed, {})} if self.settings.refit else set[str]()
        for index, mixer in enumerate(self.graph.flow.mixers):
            columns = removed_columns(self.graph, mixer, removed)
            value = self.graph.model.value(self.graph.nodes[mixer.node].inputs[mixer.weight])
            if value is None or not mixer.linear or not (columns.any() or mixer.node in behind):
                continue  # a recurrent layer's weights only lose what goes
            weight = zeroed(value, mixer.columns, columns) if columns.any() else value
            found[mixer.node] = Weights(weight, Bias(self.graph, mixer).like(index))
        return found

    def recovered(self, removed: Removed) -> Mapping[str, Weights]:
        """New weights for a removal that is settled: compensated, then refitted where held-out samples say that it helps."""
        if self.dead is not None or not self.settings.compensate:
            return self.update(removed)
        fit, held = self.feeds()
        groups = [g for g in self.groups if removed[g.units].any()]
        if not self.statistics.moments:
            self.statistics = self.measure(groups, fit)
        updates = dict(self.update(removed))
        if len(fit) < len(self.ctx.feeds):
            # What is held out is needed to judge; what was judged may learn from all.
            self.statistics = self.statistics.joined(self.measure(groups, held))
        whole = self.update(removed)
        if not self.settings.refit:
            return whole
        ends = measured_outputs(self.graph.model)
        samples = {k: batched(self.graph.model, f, ends, self.ctx.threads) for k, f in (("fit", fit), ("held", held))}
        count = len(layers_behind(self.graph, removed, updates))
        with self.ctx.progress("refit", count) as bar:
            refitter = Refitter(self.graph, removed, updates, whole, samples, self.ctx.seed, self.ctx.threads)
            self.refit = refitter.run(bar.advance)
        return self.refit.updates

    def by_ratio(self, ratio: float) -> Labels:
        """Of each group the share ``ratio``, less what widths on a multiple forbid."""
        if not self.statistics.moments:
            self.statistics = self.measure(self.groups, self.feeds()[0])
        chosen: list[Labels] = []
        for group in self.groups:
            count = max(n for n in steps(group, self.settings.multiple, 0.0) if n <= ratio * group.size + 1e-9)
            chosen.append(self.order(group)[:count])
        return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)

    def again(self, target: float, after: float) -> float | None:
        """What to plan for, after a plan for ``target`` came to ``after``; None if that is as good as it gets.

        What is counted is exceeded a little at most (operators whose cost the plan did not know, biases that recovery adds), and
        where that asked for too much, some is given back. A time that is measured may
        be off the table's either way, and is approached.
        """
        budget = self.budget
        if budget is None or self.reached > target:
            return None
        if not budget.clocked:
            aim = min(self.reached - (after - budget.target), budget.target)
            if after > budget.target:
                return aim
            self.tries += 1
            return None if after >= NEAR * budget.target or aim <= target or self.tries > _TRIES else aim
        self.tries += 1
        if self.tries > _TRIES or _CLOSE * budget.target <= after <= budget.target:
            return None
        return target * min(budget.target / after * (1.0 if after < budget.target else 0.985), 1.5)

    def finer(self) -> int | None:
        """The largest half, quarter, eighth ... of the step with which the budget could be met; None if there is none."""
        step = self.settings.multiple // 2
        while step and self.budget is not None:
            cost = self.budget.cost(self.graph, self.groups)
            if cost.count([steps(g, step)[-1] for g in self.groups]) <= self.budget.target:
                return step
            step //= 2
        return None

    def by_budget(self, target: float) -> Labels:
        """What brings the model to ``target`` of the budget's metric at the least error of its output."""
        ladders = {g.id: steps(g, self.settings.multiple) for g in self.groups}
        groups = self._paying([g for g in self.groups if len(ladders[g.id]) > 1], ladders)
        if not groups:
            return np.zeros(0, np.int64)
        again = bool(self.curves)
        if not again:
            self.measure_curves(groups, [ladders[g.id] for g in groups])
        if self.budget is None:
            return np.zeros(0, np.int64)
        cost, rungs = self.budget.cost(self.graph, groups), [ladders[g.id] for g in groups]
        counts = allocate(cost, rungs, [self.curves[g.id] for g in groups], target)
        if self.probe is not None and not again:
            counts = self._improved(groups, rungs, cost, counts, target)
        self.reached = cost.count(counts)
        return np.concatenate([self.order(g)[:n] for g, n in zip(groups, counts, strict=True)])

    def _paying(self, groups: list[Group], ladders: Mapping[str, Sequence[int]]) -> list[Group]:
        """The groups whose pruning saves anything of what the device pays for: time, where that is known."""
        table = self.ctx.target.latency if self.budget is None or self.budget.table is None else self.budget.table
        if table is None:
            return groups
        cost = Latency(self.graph, groups, table, self.ctx.input_shapes())
        none = [0] * len(groups)
        paying = [g for k, g in enumerate(groups) if cost.change(none, k, ladders[g.id][-1]) > _PAYS * cost.total]
        why = f"its channels stay: the device would not be faster without them ({self.ctx.target.name})"
        self.idle = [Refusal(f"'{g.tensor}'", "does-not-pay", why) for g in groups if g not in paying]
        return paying

    def measure_curves(self, groups: Sequence[Group], ladders: Sequence[Sequence[int]]) -> None:
        fit, held = self.feeds()
        self.statistics = self.measure(groups, fit)
        with self.ctx.progress("sensitivity", len(groups)) as bar:
            orders = [self.order(g) for g in groups]
            widths, samples = plan(len(groups), self.graph.cost.macs, len(held))
            self.probe = Probe(self.graph, held.take(samples), self.ctx.threads)
            made = curves(self.graph, groups, orders, ladders, self.probe, widths, self.update, bar.advance)
        self.curves = {g.id: c for g, c in zip(groups, made, strict=True)}

    def _improved(
        self, groups: Sequence[Group], ladders: Sequence[Sequence[int]], cost: Cost, counts: list[int], target: float
    ) -> list[int]:
        """``counts`` exchanged rung by rung while that lowers the error of the whole as it is measured.

        Errors of groups do not quite add up. So around a choice each group is tried with a rung more and a rung less, in the
        network in which the others have what they have; the best choice among these neighbours is measured, and taken if better.
        """
        probe = self.probe
        if probe is None or cost.count(counts) > target:
            return counts
        firsts = [first_tensor(self.graph, g) for g in groups]
        places = {n.outputs[0].name: k for k, n in enumerate(self.graph.model.graph.nodes) if n.outputs}
        turn = sorted(range(len(groups)), key=lambda g: places[firsts[g]])
        least = self._error(probe, groups, counts)
        each = max(1.0, probe.samples * float(self.graph.cost.macs) * (len(groups) + _SINGLES + 1))
        rounds = int(min(max(1.0, _SPENT / each), _ROUNDS))
        with self.ctx.progress("exchange", rounds * len(groups)) as bar:
            for _ in range(rounds):
                probe.start(self._variant(groups, counts))
                near = [_neighbours(ladder, n) for ladder, n in zip(ladders, counts, strict=True)]
                errors = [{n: least} for n in counts]
                for g in turn:
                    for n in near[g]:
                        if n != counts[g]:
                            tried = [*counts[:g], n, *counts[g + 1 :]]
                            errors[g][n] = probe.error(self._variant(groups, tried), firsts[g])
                    bar.advance()
                better = self._exchange(probe, groups, cost, near, [_ordered(e) for e in errors], counts, least, target)
                if better is None:
                    break
                counts, least = better
        return counts

    def _exchange(
        self,
        probe: Probe,
        groups: Sequence[Group],
        cost: Cost,
        near: Sequence[Sequence[int]],
        errors: Sequence[Callable[[int], float]],
        counts: list[int],
        least: float,
        target: float,
    ) -> tuple[list[int], float] | None:
        """A choice among neighbours and its error, if it is less than ``least``: all exchanges at once, or the best single ones."""
        made = allocate(cost, near, errors, target)
        singles = sorted(_exchanges(cost, near, errors, counts, target), key=lambda c: (total(errors, c), c))
        for choice in [made, *singles[:_SINGLES]]:
            if choice == counts or cost.count(choice) > target:
                continue
            error = self._error(probe, groups, choice)
            if error < least:
                return choice, error
        return None

    def _variant(self, groups: Sequence[Group], counts: Sequence[int]) -> Model:
        units = np.concatenate([self.order(g)[:n] for g, n in zip(groups, counts, strict=True)])
        removed = self.graph.flow.table.marked(units)
        return reference(self.graph, masked(self.graph, removed, self.update(removed)), removed)

    def _error(self, probe: Probe, groups: Sequence[Group], counts: Sequence[int]) -> float:
        probe.start(self.graph.model)
        return probe.error(self._variant(groups, counts))


def _exchanges(
    cost: Cost, near: Sequence[Sequence[int]], errors: Sequence[Callable[[int], float]], counts: list[int], target: float
) -> Iterator[list[int]]:
    """Choices that differ from ``counts`` in one group or two, keep the budget as nearly, and should be better."""
    base, limit = total(errors, counts), min(NEAR * target, cost.count(counts))
    options = [[n for n in ladder if n != now] for ladder, now in zip(near, counts, strict=True)]
    changes = [(g, n) for g, several in enumerate(options) for n in several]
    for k, (g, n) in enumerate(changes):
        for h, m in [(g, n), *changes[k + 1 :]]:
            made = list(counts)
            made[g], made[h] = n, m
            if (h != g or m == n) and total(errors, made) < base and limit <= cost.count(made) <= target:
                yield made


def _neighbours(ladder: Sequence[int], count: int) -> list[int]:
    at = list(ladder).index(count)
    return list(ladder[max(0, at - 1) : at + 2])


def _ordered(errors: Mapping[int, float]) -> Callable[[int], float]:
    """Errors by number removed, made not to fall where more goes."""
    rising = np.maximum.accumulate([errors[n] for n in sorted(errors)])
    known = dict(zip(sorted(errors), rising.tolist(), strict=True))
    return known.__getitem__
