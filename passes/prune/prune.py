"""The pass: plan, mask, realise, certify; leave alone and name what fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis import Analyses, Cost
from graphopt.analysis.channels import ChannelGraph, Channels, Group, Problem
from graphopt.errors import BudgetError, UsageError
from graphopt.model import Model
from graphopt.ops.channels import Labels
from graphopt.ops.kernels import KERNELS
from graphopt.passes.prune.allocate import NEAR
from graphopt.passes.prune.budget import CLOCK, METRICS, Budget, counted, parsed, speed, timed
from graphopt.passes.prune.costs import macs_of
from graphopt.passes.prune.dead import dead_units
from graphopt.passes.prune.degenerate import Findings, examined, not_finite
from graphopt.passes.prune.emit import written
from graphopt.passes.prune.expected import expected, told
from graphopt.passes.prune.importance import channel_norms
from graphopt.passes.prune.masks import from_masks, read_masks
from graphopt.passes.prune.plan import Planner, Settings
from graphopt.passes.prune.realise import realise
from graphopt.passes.prune.reference import masked, reference, without_channels
from graphopt.passes.prune.reorder import Moves, aligned, channels_of, reordered
from graphopt.passes.prune.spaces import translated
from graphopt.passes.simplify import Simplify
from graphopt.pipeline import Context, Kind, Outcome, Pass, Refusal, Rewrite, option

RIDGE_LIMITS = (1e-9, 1e3)
"""Regularisations that leave equations which can be solved, and weights that are finite."""

DEFAULT_MACS = 0.75
"""The budget when nothing is asked for."""

_TIGHTER = 4
"""How often a budget is tightened that the finished model exceeds."""


@dataclass(frozen=True, kw_only=True)
class Prune(Pass):
    """Remove channels: those that the output misses least, exactly, with what remains making up for them."""

    name: ClassVar[str] = "prune"
    kind: ClassVar[Kind] = Kind.LOSSY

    macs: float | None = option(
        None, "share of the multiply-accumulates to keep, at most (0.75 if there is data and no other goal)"
    )
    params: float | None = option(None, "share of the parameters to keep, at most")
    size: float | None = option(None, "share of the file's bytes to keep, at most")
    latency: str | None = option(
        None, "share of the time to keep, at most, as 0.7, or milliseconds, as 5ms; by the target's table, or measured here"
    )
    ratio: float | None = option(None, "share of each group's channels to remove; 0 removes only channels that are dead")
    masks: Path | None = option(None, "npz archive: tensor name -> boolean or number per channel; False and 0 are removed")
    conflicts: Literal["refuse", "intersect"] = option(
        "refuse", "where masks of one group differ: leave the group alone, or remove what any of them removes"
    )
    space: Literal["model", "original"] = option(
        "model", "what masks speak of: the graph as it is by now (names that it lost are looked up), or the file's, before any pass"
    )
    multiple: int | None = option(None, "widths are multiples of this; the target's channel step if not given")
    importance: Literal["auto", "activations", "norm"] = option(
        "auto", "what orders channels: loss on the data after compensation, or weight norms; auto: by whether there is data"
    )
    heads: bool = option(False, "of attention remove whole heads, not dimensions of every head")
    lossy_norm: bool = option(
        False, "remove also channels that a normalisation averages over (the widths of transformers); what is left is not exact"
    )
    compensate: bool = option(
        True, "let the channels that stay make up for the removed ones; without data only constants do, by batch normalisations"
    )
    refit: bool = option(True, "fit what reads pruned channels anew, operator by operator, where held-out samples say it helps")
    ridge: float = option(1e-3, "regularisation of the compensation, relative to the mean energy of a channel")

    def run(self, model: Model, ctx: Context) -> Outcome:
        """Prune in place. Raises UsageError GO940 for a wrong option, BudgetError GO401 if ``macs`` cannot be met."""
        self._validate()
        return self._settled(ctx)._prune(model, ctx, Outcome())

    def _prune(self, model: Model, ctx: Context, outcome: Outcome) -> Outcome:
        outcome.changed = ready(model, ctx)
        before = model.copy()
        graph = Analyses(model.copy()).get(Channels(ctx.input_shapes(), self.heads, self.lossy_norm))
        outcome.refusals = [
            Refusal(f"'{g.tensor}'", "frozen-channels", f"{g.size} channels cannot go: {g.frozen}")
            for g in graph.groups
            if g.frozen
        ]
        broken = not_finite(graph)
        if broken:
            if self.ratio is None and self.masks is None:
                raise BudgetError("GO401", str(self), f"{broken[0].where}: {broken[0].why}", "mend the weights, or train again")
            outcome.refusals += broken
            outcome.notes += [f"{r.where}: {r.why}" for r in broken]
            return outcome
        usable = certifiable(graph, outcome)
        data = examined(ctx.feeds) if ctx.calibrated and self.ratio != 0 else Findings()
        outcome.refusals += data.refusals
        outcome.notes += [f"{r.where} {r.why}" for r in data.refusals]
        settings = self._settings(ctx, data)
        chosen, moves = self._arranged(graph, usable, ctx, outcome)
        moved = reordered(graph, moves) if moves else graph
        if moved is None:
            moved, moves, chosen = graph, {}, self._unmoved(chosen, graph, moves, outcome)
        planner = Planner(moved, ctx, settings, usable, moves, budget=self._budget(moved, ctx))
        if self.compensate and not settings.compensate and self.masks is None and self.ratio != 0:
            planner.constants = expected(graph, self._batch_normalised(ctx), moves)
        removed = self._remove(planner, chosen, outcome)
        if removed is not None:
            self._apply(model, graph, planner, removed, outcome)
        self._report(model, planner, removed, outcome)
        if planner.budget is not None and removed is not None:
            _time(before, model, ctx, outcome)
        if removed is not None:
            outcome.facts["masks"] = written(ctx.original, graph, planner, removed, outcome)
        return outcome

    def _validate(self) -> None:
        goals = [name for name in (*METRICS, "ratio", "masks") if getattr(self, name, None) is not None]
        if len(goals) > 1:
            raise UsageError("GO940", str(self), f"{' and '.join(goals)} cannot be asked for together", "give one of them")
        for name in ("macs", "params", "size"):
            value: float | None = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UsageError("GO940", str(self), f"{name}={value} is not a share between 0 and 1")
        if self.latency is not None:
            parsed(self.latency)
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise UsageError("GO940", str(self), f"ratio={self.ratio} is not a share from 0 to less than 1")
        if self.multiple is not None and self.multiple < 1:
            raise UsageError("GO940", str(self), f"multiple={self.multiple} is not a positive number")
        if not RIDGE_LIMITS[0] <= self.ridge <= RIDGE_LIMITS[1]:
            raise UsageError("GO940", str(self), f"ridge={self.ridge:g} is not from {RIDGE_LIMITS[0]:g} to {RIDGE_LIMITS[1]:g}")

    def _settled(self, ctx: Context) -> Prune:
        """With a goal: with neither a goal nor data only what is dead may go."""
        asked = any(getattr(self, name, None) is not None for name in (*METRICS, "ratio", "masks"))
        if asked or ctx.calibrated:
            return self
        return replace(self, ratio=0.0)

    def _settings(self, ctx: Context, data: Findings) -> Settings:
        exact = self.ratio == 0 or data.useless
        activations = not data.useless and (self.importance == "activations" or (self.importance == "auto" and ctx.calibrated))
        multiple = self.multiple or max(1, ctx.target.channel_step("float32"))
        compensate = self.compensate and (ctx.calibrated or self.importance == "activations") and not exact
        return Settings(multiple, activations, compensate, self.ridge, self.refit)

    def _batch_normalised(self, ctx: Context) -> ChannelGraph | None:
        """The file's graph, if it has batch normalisations, which say what channels are on average."""
        if not any(n.op == "BatchNormalization" for n in ctx.original.graph.nodes):
            return None
        return Analyses(ctx.original.copy()).get(Channels(ctx.input_shapes(), self.heads, self.lossy_norm))

    # -- deciding and checking -------------------------------------------------------------------------------------------

    def _arranged(self, graph: ChannelGraph, usable: list[Group], ctx: Context, outcome: Outcome) -> tuple[Labels, Moves]:
        """What masks ask for; and how channels of blocks that shrink alike are put together."""
        if self.masks is not None:
            masks, every = read_masks(self.masks), self.space == "original"
            pairs = list(masks.items())
            if every or not masks.keys() <= {name for name, _, _ in graph.flow.layouts()}:
                before = Analyses(ctx.original.copy()).get(Channels(ctx.input_shapes(), self.heads, self.lossy_norm))
                pairs = translated(masks, graph, before, every=every)
            choice = from_masks(graph, pairs, str(self.masks), intersect=self.conflicts == "intersect")
            outcome.refusals += choice.refusals
            return np.asarray(choice.units, np.int64), choice.moves
        return np.zeros(0, np.int64), {} if self.ratio == 0 else aligned(graph, usable, channel_norms(graph))

    @staticmethod
    def _unmoved(chosen: Labels, graph: ChannelGraph, moves: Moves, outcome: Outcome) -> Labels:
        """``chosen`` without the units of channels that cannot be moved."""
        units = graph.flow.table.find(np.asarray(sorted(moves), np.int64))
        for group in graph.groups:
            if np.isin(group.units, chosen).any() and np.isin(group.units, units).any():
                why = "its mask removes other channels of one block than of another, and a constant cannot be put in another order"
                outcome.refusals.append(Refusal(f"'{group.tensor}'", "uneven-mask", why))
                chosen = chosen[~np.isin(chosen, group.units)]
        return chosen

    def _remove(self, planner: Planner, chosen: Labels, outcome: Outcome) -> NDArray[np.bool_] | None:
        """The labels to remove, certified; groups that fail are left out and the rest is planned anew."""
        graph = planner.graph
        target = None if planner.budget is None else planner.budget.target
        best, nearest = None, -1.0
        for _ in range(len(planner.groups) + _TIGHTER):
            units = self._units(planner, chosen, target)
            if not units.size:
                return best
            removed = graph.flow.table.marked(units)
            result = realise(masked(graph, removed, {}), graph, removed)
            failed = _blamed(graph, result.problems, removed)
            if failed:
                _give_up(planner.groups, failed, outcome)
                continue
            if planner.budget is None or target is None:
                return removed
            after = planner.budget.measured(self._recovered_size(planner, removed, result.model))
            if nearest < after <= planner.budget.target or best is None:
                best, nearest = removed, after if after <= planner.budget.target else -1.0
            target = planner.again(target, after)
            if target is None:
                return best
        return best

    @staticmethod
    def _recovered_size(planner: Planner, removed: NDArray[np.bool_], model: Model) -> Model:
        """``model``, or where parameters or bytes are counted, one as large as recovery may make it."""
        counts = planner.budget is not None and planner.budget.metric in ("params", "size")
        if not counts or not (updates := planner.stand_ins(removed)):
            return model
        return realise(masked(planner.graph, removed, updates), planner.graph, removed).model

    def _budget(self, graph: ChannelGraph, ctx: Context) -> Budget | None:
        """What was asked for; None if that is no budget."""
        if self.ratio is not None or self.masks is not None:
            return None
        metric = next((m for m in METRICS if getattr(self, m, None) is not None), "macs")
        share = getattr(self, metric)
        if metric == "latency":
            return timed(str(share), graph, ctx)
        return counted(metric, DEFAULT_MACS if share is None else share, graph, ctx)

    def _units(self, planner: Planner, chosen: Labels, target: float | None) -> Labels:
        graph = planner.graph
        allowed = np.asarray(sorted(int(u) for g in planner.groups for u in g.units), np.int64)
        if self.masks is not None:
            return chosen[np.isin(chosen, allowed)]
        if self.ratio == 0:
            planner.dead = planner.dead or dead_units(graph)
            return _never_empty(planner.groups, planner.dead.units[np.isin(planner.dead.units, allowed)])
        if self.ratio is not None:
            return planner.by_ratio(self.ratio)
        return planner.by_budget(target or 0.0)

    def _apply(self, model: Model, original: ChannelGraph, planner: Planner, removed: NDArray[np.bool_], outcome: Outcome) -> None:
        graph, moves = planner.graph, planner.moves
        updates = planner.recovered(removed)
        if planner.constants.moments and updates:
            outcome.notes.append(told(graph, updates, given=planner.ctx.calibrated))
        outcome.facts["constants"] = len(updates) if planner.constants.moments else 0
        if self.ratio == 0:
            outcome.reference = graph.model
        elif moves and not updates:
            units = np.concatenate([g.units[removed[g.units]] for g in graph.groups])
            outcome.reference = without_channels(original, channels_of(original, units, moves))
        else:
            outcome.reference = reference(graph, masked(graph, removed, updates), removed)
        if moves:
            reordered(original, moves, into=model)
        realise(masked(graph, removed, updates, into=model), graph, removed, in_place=True)
        outcome.changed = True

    # -- telling ---------------------------------------------------------------------------------------------------------

    def _report(self, model: Model, planner: Planner, removed: NDArray[np.bool_] | None, outcome: Outcome) -> None:
        graph, ctx = planner.graph, planner.ctx
        before = graph.cost.macs
        outcome.refusals += [*_held(planner), *planner.idle]
        after = Analyses(model).get(Cost(ctx.input_shapes())).macs if outcome.changed else before
        outcome.rewrites += _rewrites(graph, removed)
        if planner.budget is not None:
            self._judge(planner.budget, planner.budget.measured(model), outcome, planner, removed)
            if planner.budget.metric == "macs" and graph.cost.unknown:
                outcome.notes.append(
                    f"the multiply-accumulates of {len(graph.cost.unknown)} operators are not known and not counted"
                )
        if self.masks is not None and removed is None:
            outcome.notes.append(f"nothing was removed: {self.masks} has no channel that can go")
        averages = _shortened(graph, removed)
        if averages:
            outcome.notes.append(
                f"not exact (lossy-norm): {averages} normalisations average over fewer channels; the result was held against"
                " the original in which they do so too"
            )
        if not ctx.calibrated and removed is not None and (planner.settings.activations or planner.budget is not None):
            outcome.notes.append("channels were chosen without data: generated inputs say little about what the network needs")
        if not ctx.calibrated and self.ratio == 0 and removed is None:
            outcome.notes.append("no channel is dead, and without data (or a goal: macs, ratio, masks) no other is removed")
        if self.ratio and removed is None:
            outcome.notes.append(
                f"nothing was removed: no group is wide enough to lose {self.ratio:.1%} in multiples of {planner.settings.multiple}"
            )
        for tensor in planner.statistics.unusable:
            outcome.notes.append(
                f"'{tensor}' has values that are not finite: its channels were chosen by weight norms, uncompensated"
            )
        outcome.facts.update(
            macs_before=before,
            macs_after=after,
            prunable_share_of_macs=graph.prunable_share_of_macs,
            multiple=planner.settings.multiple,
            importance="activations" if planner.settings.activations else "norm",
            compensated=planner.settings.compensate,
            lossy_norms=averages,
            refitted={} if planner.refit is None else dict(planner.refit.kept),
            held_out_errors=[] if planner.refit is None else list(planner.refit.errors),
            groups=[
                {
                    "id": g.id,
                    "tensor": g.tensor,
                    "channels": g.size,
                    "removed": 0 if removed is None else int(np.count_nonzero(removed[g.units])),
                    "errors": [[n, e] for n, e in planner.curves[g.id].points] if g.id in planner.curves else [],
                }
                for g in graph.groups
            ],
        )

    def _judge(self, budget: Budget, after: float, outcome: Outcome, planner: Planner, removed: NDArray[np.bool_] | None) -> None:
        total = max(budget.total, 1e-12)
        outcome.facts["budget"] = {"metric": budget.metric, "target": budget.target, "reached": after, "before": budget.total}
        if after <= budget.target:
            if after < (CLOCK if budget.clocked else NEAR) * budget.target:
                shares = f"{after / total:.1%} of the {budget.words} are left where {budget.target / total:.1%} were allowed"
                widths = f"widths in multiples of {planner.settings.multiple}"
                outcome.notes.append(f"{shares}: no choice of {widths} that was found is nearer")
            return
        if budget.clocked and after <= budget.target / CLOCK:
            outcome.notes.append(f"{after / total:.1%} of the latency are left, within the clock's tolerance of what was allowed")
            return
        asked = getattr(self, budget.metric) is not None
        reached = after / total
        idle = ", do not pay on the target" if planner.idle else ""
        least = f"at their least for widths in multiples of {planner.settings.multiple}"
        why = (
            f"at most {1 - reached:.1%} of the {budget.words} can go: the rest belongs to channels that are frozen{idle} or {least}"
        )
        if not asked:
            outcome.notes.append(why)
            return
        if removed is None:  # what a clock says of an unchanged model is noise
            reached = 1.0
            stay = "those that could do not pay on the target" if planner.idle else "all are frozen, or in groups of one step"
            why = f"no channel can go: {stay}"
        finer = planner.finer()
        ways = [] if reached >= 0.995 else [f"ask for {budget.metric}={reached + 0.005:.2f} or more"]
        ways += [] if finer is None else [f"take multiple={finer}, with which it can be met"]
        hint = ", or ".join(ways) or "`graphopt groups` says what keeps the channels"
        raise BudgetError("GO401", str(self), why, hint)


def _time(before: Model, after: Model, ctx: Context, outcome: Outcome) -> None:
    """Say how much faster the model became, loudly where it did not."""
    found = speed(before, after, ctx)
    if found is None:
        return
    outcome.facts["speed"] = {"ratio": found.ratio, "low": found.low, "high": found.high, "by": found.source}
    outcome.facts["not_faster"] = found.slower
    if found.slower:
        outcome.notes.append(f"NOT FASTER: the pruned model runs at {found.ratio:.2f} times the speed it had ({found.source})")


def ready(model: Model, ctx: Context) -> bool:
    """Sort the model, and simplify it where that tells more of its channels; whether that changed anything.

    Exporters leave weights behind casts and identities, and compute sizes from shapes that are known. What no output needs would
    keep channels that it reads.
    """
    changed = Simplify().run(model, ctx).changed if _computed_weights(model) else False
    swept = model.sweep() > 0
    model.sort()
    return changed or swept


def _computed_weights(model: Model) -> bool:
    """Whether a weight is computed from constants, or a size by Shape."""
    for node in model.graph.nodes:
        if node.op == "Shape":
            return True
        if node.op in KERNELS and len(node.inputs) > 1 and any(_is_computed(model, t) for t in node.inputs[:3]):
            return True
    return False


def _is_computed(model: Model, tensor: gs.Tensor) -> bool:
    stack, found = [tensor], False
    for _ in range(64):
        if not stack:
            return found
        one = stack.pop()
        if not one.name or model.value(one) is not None:
            continue
        producer = model.producer(one)
        if producer is None:
            return False
        found = True
        stack.extend(producer.inputs)
    return False


def certifiable(graph: ChannelGraph, outcome: Outcome) -> list[Group]:
    """The groups that survive the certificate when half of each goes."""
    groups = list(graph.prunable)
    while any(g.size > 1 for g in groups):
        removed = graph.flow.table.marked(np.concatenate([g.units[: g.size // 2] for g in groups]))
        failed = _blamed(graph, realise(masked(graph, removed, {}), graph, removed).problems, removed)
        if not failed:
            break
        _give_up(groups, failed, outcome)
    return [g for g in groups if g.size > 1]


def _blamed(graph: ChannelGraph, problems: tuple[Problem, ...], removed: NDArray[np.bool_]) -> dict[str, str]:
    """The groups that problems are about, each with the first reason: those that lose channels, or else all that do."""
    owner = {int(u): g.id for g in graph.groups for u in g.units}
    losing = {g.id for g in graph.groups if removed[g.units].any()}
    found: dict[str, str] = {}
    for problem in problems:
        touched = {owner.get(int(c)) for c in np.unique(graph.flow.table.find(problem.labels))}
        guilty = sorted(g for g in touched if g in losing) or sorted(losing)
        for group in guilty:
            found.setdefault(group, problem.why)
    return found


def _give_up(groups: list[Group], failed: dict[str, str], outcome: Outcome) -> None:
    for group in [g for g in groups if g.id in failed]:
        groups.remove(group)
        why = f"its {group.size} channels stay: removing some would not be exact ({failed[group.id]})"
        outcome.refusals.append(Refusal(f"'{group.tensor}'", "not-certified", why))


def _held(planner: Planner) -> list[Refusal]:
    """Channels that are one number everywhere and stay, by group."""
    found: list[Refusal] = []
    held = planner.dead.held if planner.dead is not None else {}
    gone = set(planner.dead.units.tolist()) if planner.dead is not None else set[int]()
    for group in planner.groups:
        reasons = [held[u] for u in group.units.tolist() if u in held and u not in gone]
        if reasons:
            found.append(
                Refusal(f"'{group.tensor}'", "constant-channel", f"{len(reasons)} channels are constant, but {reasons[0]}")
            )
    return found


def _shortened(graph: ChannelGraph, removed: NDArray[np.bool_] | None) -> int:
    """How many operators average over fewer channels than before."""
    if removed is None:
        return 0
    return sum(any(removed[labels].any() for _, labels in a.axes) for a in graph.flow.averages)


def _never_empty(groups: list[Group], units: Labels) -> Labels:
    """``units`` without one of each group that would lose all."""
    spared = [int(g.units[0]) for g in groups if np.isin(g.units, units).all()]
    return units[~np.isin(units, spared)]


def _rewrites(graph: ChannelGraph, removed: NDArray[np.bool_] | None) -> list[Rewrite]:
    if removed is None:
        return []
    groups = [g for g in graph.prunable if removed[g.units].any()]
    macs, counts = macs_of(graph, groups), [0] * len(groups)
    made: list[Rewrite] = []
    for index, group in enumerate(groups):
        gone = int(np.count_nonzero(removed[group.units]))
        saved = macs.change(counts, index, gone)
        counts[index] = gone
        made.append(Rewrite(f"'{group.tensor}'", f"{group.size} -> {group.size - gone} channels", round(saved)))
    return made
