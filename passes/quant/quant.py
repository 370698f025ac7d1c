"""The pass: from a float model to one that the target runs in integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.analysis import Analyses, Shapes, ShapeTable
from graphopt.errors import UsageError
from graphopt.model import Model, node_label
from graphopt.ops.integers import ROWS, expand
from graphopt.ops.kernels import KERNELS
from graphopt.passes.quant.draft import Draft, Plan, roots
from graphopt.passes.quant.equalize import ChannelStats, equalize, wanted
from graphopt.passes.quant.fidelity import Judge
from graphopt.passes.quant.given import NONE_GIVEN, is_in_training, is_quantized, take
from graphopt.passes.quant.mixed import figure, keep_fewest
from graphopt.passes.quant.opset import raise_opset
from graphopt.passes.quant.placement import Placement, Placer, Policy
from graphopt.passes.quant.proof import Proof, prove
from graphopt.passes.quant.ranges import Histogram, Rule, observe
from graphopt.passes.quant.rewrite import rewrite
from graphopt.passes.quant.search import Biases, Choice, Rounding, Search, Wishes
from graphopt.passes.quant.spaces import SpaceBuilder
from graphopt.passes.quant.speed import compare
from graphopt.passes.quant.units import Reason, Unit, UnitBuilder
from graphopt.pipeline import Context, Kind, Outcome, Pass, Refusal, Rewrite, option
from graphopt.target import Int8Scheme

WIDEST_REDUCED = 64
"""The largest integer of a weight, two of whose products with 255 fit into 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Quant(Pass):
    """Run in 8-bit integers what the target runs faster so: ranges from the data, weights per channel, fusion proved."""

    name: ClassVar[str] = "quant"
    kind: ClassVar[Kind] = Kind.LOSSY

    ranges: Literal["auto", "minmax", "average", "percentile", "mse", "entropy"] = option(
        "auto", "activation ranges by this rule, or auto: of minmax, percentile and mse the one whose outputs come closest"
    )
    equalize: Literal["auto", "on", "off"] = option(
        "auto", "scale channels against one another so that one scale a tensor fits them; auto: where outputs come closer"
    )
    rounding: Rounding = option(
        "auto", "weights to the nearest, by second-order statistics of the data, or data-free; auto: by the data if that is better"
    )
    bias: Biases = option("auto", "correct: biases make up for the mean error, where outputs come closer (auto); keep: they stay")
    weights: Literal["per-channel", "per-tensor"] = option("per-channel", "one scale for each output channel, or one for all")
    placement: Policy = option(
        "auto", "what runs in integers: auto, kernels (every Conv, Gemm, MatMul) or cost (the estimate's best)"
    )
    outputs: Literal["float", "int8"] = option(
        "float", "float: what leaves the graph is computed in float where that costs nothing; int8: in integers"
    )
    keep: str = option("", "nodes to keep in float, by name or by first output, separated by +")
    drop: float | None = option(
        None,
        "keep the fewest kernels in float that hold the metric within this: percent of agreement lost, or at least this SQNR in dB",
    )
    metric: str = option("auto", "what drop counts: agreement, sqnr, auto (by the outputs' shape), or a function module%3afunction")
    allow_slower: bool = option(False, "keep a result that runs slower than float here")
    requantize: bool = option(False, "drop the quantizers that the model comes with, and make them anew")

    def run(self, model: Model, ctx: Context) -> Outcome:
        if self.metric != "auto" and self.drop is None:
            hint = "add how much of it may be lost, as `quant:drop=0.5`"
            raise UsageError("GO931", "quant:metric", f"'{self.metric}' counts nothing without quant:drop", hint)
        scheme = ctx.target.int8
        if scheme is None:
            why = f"target {ctx.target.name} states no integer kernels"
            return Outcome(refusals=[Refusal(model.label, "no-int8-scheme", why)])
        if is_quantized(model.graph) and not self.requantize and not is_in_training(model):
            why = "it has quantizers and stored integers already; they are left as they are (quant:requantize makes them anew)"
            return Outcome(refusals=[Refusal(model.label, "already-quantized", why)])
        return _Run(self, model, ctx, scheme).outcome()


class _Run:
    """One run on one model."""

    def __init__(self, options: Quant, model: Model, ctx: Context, scheme: Int8Scheme) -> None:
        self.options = options
        self.model = model
        self.ctx = ctx
        self.scheme = scheme
        self.kept = {name for name in options.keep.split("+") if name}
        self.boundless: set[str] = set()
        """Tensors that are NaN or infinite on the data: no scale could hold them."""
        self.stats: dict[str, ChannelStats] = {}
        self.given = NONE_GIVEN
        self.out = Outcome()

    def outcome(self) -> Outcome:
        """Plan on a copy; only if something is to be done touch the model."""
        self.check_kept()
        copy = self.model.copy()
        reason = self.prepare(copy)
        if reason is not None:
            return self.refused(reason.code, reason.why)
        draft = self.observed(copy)
        if not draft.plan.placement.int8:
            self.explain(draft.plan.units)
            return self.refused("nothing-to-gain", "no operator would run faster in integers by the target's costs")
        choice = self.choose(draft)
        if self.options.drop is not None:
            self.hold(choice, self.options.drop)
            if not self.plan(choice.draft.model).placement.int8:
                return self.refused("drop", "no kernel may run in integers if the metric is to hold")
        if self.slower(choice):
            return self.fall_back()
        self.out.rewrites.clear()
        self.prepare(self.model)
        if choice.reach is not None:
            self.out.rewrites.extend(Rewrite(where, what, code="equalized") for where, what in self.scale(self.model, choice.reach))
        plan = self.plan(self.model)
        choice.draft.write(self.model, plan, choice.rule, choice.fitted)
        self.report(plan, choice, prove(self.model, plan.units, plan.placement))
        self.out.changed = True
        return self.out

    def refused(self, code: str, why: str) -> Outcome:
        self.out.rewrites.clear()
        self.out.refusals.insert(0, Refusal(self.model.label, code, why))
        return self.out

    def check_kept(self) -> None:
        """Names that no node has are mistakes."""
        known = {n.name for n in self.model.graph.nodes} | {t.name for n in self.model.graph.nodes for t in n.outputs}
        unknown = sorted(self.kept - known)
        if unknown:
            raise UsageError("GO930", "quant:keep", f"no node '{unknown[0]}'", "`graphopt inspect` lists the nodes")

    # -- planning ----------------------------------------------------------------------------------------------------------------

    def prepare(self, model: Model) -> Reason | None:
        """What quantizers say that are there, then opset and rewrites."""
        if is_quantized(model.graph):
            reason = self.expanded(model)
            given = take(model) if reason is None else reason
            if isinstance(given, Reason):
                return given
            self.given = NONE_GIVEN if self.options.requantize else given
        why = raise_opset(model, self.scheme.min_opset)
        if why is not None:
            return Reason("opset", f"it cannot be raised to opset {self.scheme.min_opset}: {why}")
        self.out.rewrites.extend(rewrite(model, self.facts(model), self.ctx.target, self.given.weights))
        return None

    def expanded(self, model: Model) -> Reason | None:
        """Integer operators as float ones between quantizers, which need the opset for scales by channel."""
        if not any(n.op in ROWS for n in model.graph.nodes):
            return None
        why = raise_opset(model, self.scheme.min_opset)
        if why is not None:
            return Reason("opset", f"it cannot be raised to opset {self.scheme.min_opset}: {why}")
        why = expand(model)
        return None if why is None else Reason("integer-operators", why)

    def facts(self, model: Model) -> ShapeTable:
        return Analyses(model).get(Shapes(inputs=self.ctx.input_shapes()))

    def plan(self, model: Model) -> Plan:
        facts = self.facts(model)
        float_head = self.options.outputs == "float"
        units = UnitBuilder(model, facts, self.scheme, self.is_kept, float_head=float_head).build()
        for unit in units:
            if unit.reason is None and any(t.name in self.boundless for t in [*unit.data, *unit.outputs]):
                unit.reason = Reason("not-finite", "what it reads or computes is NaN or infinite on the data")
        self.part(units)
        placer = Placer(model, units, facts, self.ctx.target, float_head=float_head, given=self.given)
        placement = placer.place(self.options.placement)
        tensors = [e.tensor for e in placer.edges if e.tensor.name in placement.quantized]
        return Plan(units, placement, tensors, roots(units, placement, tensors))

    def part(self, units: Sequence[Unit]) -> None:
        """An operator that keeps the scale stays in float where the quantizers before and behind it, or of its siblings, differ."""
        source: dict[str, str] = {}
        agreed = dict(self.given.activations)
        for unit in units:
            if not unit.same_scale or unit.reason is not None:
                continue
            root = source.get(unit.data[0].name, unit.data[0].name)
            for tensor in unit.outputs:
                wanted_here = self.given.activations.get(tensor.name)
                if wanted_here is not None and agreed.setdefault(root, wanted_here) != wanted_here:
                    unit.reason = Reason("scale", "the quantizers that the model has around it differ")
            if unit.reason is None:
                source |= {t.name: root for t in unit.outputs}

    def observed(self, model: Model) -> Draft:
        """A plan for ``model``, and what was seen of its activations; none of them is NaN or infinite anywhere."""
        seen: dict[str, Histogram] = {}
        if self.ctx.calibrated and self.options.equalize != "off" and not self.given.activations:
            spaces = SpaceBuilder(model, self.plan(model).units, self.facts(model)).build()
            self.stats = {name: ChannelStats(axis) for name, axis in wanted(spaces).items()}
        beside: Mapping[str, ChannelStats] = self.stats
        while True:
            plan = self.plan(model)
            names = sorted(set(plan.roots.values()))
            missing = [t for t in names if t not in seen]
            seen.update(observe(model, missing, self.ctx, counted=self.counted, beside=beside))
            beside = {}
            boundless = {t for t, root in plan.roots.items() if seen[root].extremes.nonfinite}
            if not boundless:
                return self.draft(model, plan, {name: seen[name] for name in names})
            self.boundless |= boundless
            self.out.notes.append(f"NaN or infinite on the data, so left in float: {_listed(sorted(boundless))}")

    def draft(self, model: Model, plan: Plan, seen: Mapping[str, Histogram]) -> Draft:
        rounded = self.options.rounding == "data-free" or (self.options.rounding == "auto" and not self.ctx.calibrated)
        return Draft(model, plan, seen, self.scheme, self.options.weights == "per-channel", rounded, self.plan, self.given)

    @property
    def counted(self) -> bool:
        """Whether more than extremes is asked of the ranges."""
        return self.ctx.calibrated if self.options.ranges == "auto" else self.options.ranges != "minmax"

    def is_kept(self, node: gs.Node) -> bool:
        return node.name in self.kept or any(t.name in self.kept for t in node.outputs)

    # -- choosing ----------------------------------------------------------------------------------------------------------------

    def choose(self, draft: Draft) -> Choice:
        """By measurement on the user's data; without it, what needs none."""
        rule: Rule | None = None if self.options.ranges == "auto" else self.options.ranges
        if not self.ctx.calibrated:
            return Choice(draft, rule or "minmax", rounding="data-free" if draft.rounded else "nearest")
        scaled = {"auto": None, "on": True, "off": False}[self.options.equalize]
        wishes = Wishes(rule, scaled, self.options.rounding, self.options.bias)
        return Search(draft, self.stats, self.scaled_draft, self.ctx).best(wishes)

    def scaled_draft(self, reach: float) -> Draft:
        """The draft with its channels scaled, and what is seen of it then."""
        copy = self.model.copy()
        self.prepare(copy)
        self.scale(copy, reach)
        plan = self.plan(copy)
        return self.draft(copy, plan, observe(copy, sorted(set(plan.roots.values())), self.ctx, counted=self.counted))

    def scale(self, model: Model, reach: float) -> list[tuple[str, str]]:
        """Equalize in place: where, and what."""
        plan = self.plan(model)
        spaces = SpaceBuilder(model, plan.units, self.facts(model)).build()
        done = equalize(model, spaces, (t.name for t in plan.tensors), self.stats, reach)
        return [(name, f"channels scaled, predicted noise {share:.0%} of what it was") for name, share in done]

    def hold(self, choice: Choice, drop: float) -> None:
        """Keep the fewest kernels in float that hold the metric; see ``mixed``."""
        judge = Judge(choice.draft.model, self.ctx.feeds.split(self.ctx.seed)[1])
        wanted_figure = figure(judge, drop, self.options.metric)
        trials = Trials(self, choice)
        with self.ctx.progress("sensitivity", len(trials.kernels())) as bar:
            kept, reached = keep_fewest(trials, judge, wanted_figure, bar.advance)
        self.kept |= kept
        self.out.facts["kept"] = sorted(kept)
        self.out.facts["metric"] = {
            "name": wanted_figure.name,
            "reached": round(reached, 3),
            "limit": round(wanted_figure.limit, 3),
        }
        what = f"{wanted_figure.name} {reached:.4g}"
        if reached < wanted_figure.limit:
            self.out.notes.append(f"{what}, short of {wanted_figure.limit:.4g} with all kernels in float")
        else:
            self.out.notes.append(f"{what}, at least {wanted_figure.limit:.4g} wanted; kernels kept in float for it: {len(kept)}")

    def slower(self, choice: Choice) -> bool:
        """Whether the result is slower than float, where that can be measured and was not asked for."""
        if self.options.allow_slower or self.options.placement == "kernels":
            return False
        integer = choice.draft.trial(choice.rule, choice.fitted)
        verdict = compare(integer, choice.draft.model, self.ctx.feeds.first(), self.ctx.target, self.ctx.threads)
        if verdict is not None:
            self.out.facts["time_over_float"] = round(verdict.ratio, 3)
        return verdict is not None and verdict.slower

    def fall_back(self) -> Outcome:
        """Slower: by the estimate's best placement if that was not it already, else in float."""
        if self.options.placement == "auto":
            return _Run(replace(self.options, placement="cost"), self.model, self.ctx, self.scheme).outcome()
        ratio = self.out.facts.get("time_over_float")
        why = f"measured here, it takes {ratio} of float's time; quant:allow-slower keeps it"
        self.out.notes.append(f"left in float: {why}")
        self.out.facts["unmet"] = "slower-than-float"
        return self.refused("slower-than-float", why)

    def warn_flat(self, seen: Mapping[str, Histogram]) -> None:
        """Name the tensors whose data says nothing."""
        values = {name: histogram.extremes.range for name, histogram in seen.items()}
        zero = [name for name, (low, high) in values.items() if low == high == 0.0]
        flat = [name for name, (low, high) in values.items() if low == high != 0.0]
        if zero:
            self.out.notes.append(f"zero on all data, so its range is a guess: {_listed(zero)}")
        if flat:
            self.out.notes.append(f"one and the same value on all data, so its range is only that: {_listed(flat)}")

    # -- telling -----------------------------------------------------------------------------------------------------------------

    def report(self, plan: Plan, choice: Choice, proof: Proof) -> None:
        placement = plan.placement
        self.warn_flat(choice.draft.seen)
        for unit in plan.units:
            if unit.kernel and unit.key in placement.int8:
                self.out.rewrites.append(Rewrite(unit.label, "in int8"))
        self.explain(plan.units, placement)
        for line in proof.unplanned:
            self.out.notes.append(f"planned in int8, but {line}")
            self.out.refusals.append(Refusal(line, "not-fused", "the runtime did not make an integer kernel of it"))
        missing = self.tell_given(choice.draft.plan)
        if not self.ctx.calibrated and missing:
            self.out.notes.append("NOT calibrated: ranges come from generated inputs, accuracy is not to be trusted; give --data")
        if placement.cost_ns >= placement.float_ns:
            self.out.notes.append(
                f"estimated slower than float on {self.ctx.target.name}: "
                f"{placement.cost_ns / 1e6:.2f} ms against {placement.float_ns / 1e6:.2f} ms"
            )
        self.out.facts.update(
            policy=placement.policy,
            estimated_speedup=round(placement.float_ns / placement.cost_ns, 2) if placement.cost_ns else None,
            int8_units=len(placement.int8),
            quantized_tensors=len(plan.tensors),
            integer_kernels=proof.integer,
            float_kernels=proof.floats,
            borders=proof.borders,
            calibrated=self.ctx.calibrated,
            ranges=choice.rule,
            equalized=choice.reach,
            rounding=choice.rounding,
            output_error={name: float(f"{error:.3g}") for name, error in choice.errors.items()},
        )

    def tell_given(self, plan: Plan) -> int:
        """What became of the quantizers that the model came with; the number of ranges that come from elsewhere."""
        given = self.given.activations
        missing = len(set(plan.roots.values()) - {plan.roots[name] for name in given if name in plan.roots})
        if given:
            kept = {t.name for t in plan.tensors} & given.keys()
            weights = sum(u.head.inputs[1].name in self.given.weights for u in plan.kernels)
            self.out.notes.append(f"kept as given: {len(kept)} activations, {weights} weights; {missing} more quantized")
            self.out.facts["given"] = {"activations": len(kept), "weights": weights, "added": missing}
            wide = any(np.abs(w.values.astype(np.int16)).max(initial=0) > WIDEST_REDUCED for w in self.given.weights.values())
            if self.scheme.reduce_range and wide:
                self.out.notes.append(
                    f"the given weights use 8 bits, and {self.ctx.target.name} sums pairs of products in 16: they may saturate "
                    "(requantize makes weights of 7 bits)"
                )
            left = sorted(given.keys() - kept)
            if left:
                self.out.notes.append(f"quantizers that no integer kernel reads are left out: {_listed(left)}")
        return missing

    def explain(self, units: Sequence[Unit], placement: Placement | None = None) -> None:
        """A refusal for every kernel that stays in float, and for every other operator that does so next to integers."""
        for unit in units:
            if placement is not None and unit.key in placement.int8:
                continue
            around = {t.name for t in [*unit.head.inputs, *unit.outputs]}
            beside = placement is not None and not around.isdisjoint(placement.quantized)
            if unit.head.op not in KERNELS and not beside:
                continue
            if unit.reason is not None:
                self.out.refusals.append(Refusal(node_label(unit.head), unit.reason.code, unit.reason.why))
            else:
                self.out.refusals.append(Refusal(unit.label, "slower-in-int8", "by the target's costs float is faster here"))


def planned(model: Model, ctx: Context) -> list[frozenset[str]] | Refusal:
    """For ``graphopt.pipeline.placement``: by the target's costs alone, without a look at data, weights or a clock.

    There are two, the placement that a run tries first, and the one that it falls back to if that is slower.
    """
    scheme = ctx.target.int8
    if scheme is None:
        return Refusal(model.label, "no-int8-scheme", f"target {ctx.target.name} states no integer kernels")
    run = _Run(Quant(), model, ctx, scheme)
    reason = run.prepare(model)
    if reason is not None:
        return Refusal(model.label, reason.code, reason.why)
    policies: tuple[Policy, ...] = ("auto", "cost")
    found: list[frozenset[str]] = []
    for policy in policies:
        run.options = replace(run.options, placement=policy)
        found.append(frozenset(n.name for u in run.plan(model).integer for n in u.nodes))
    return found


def trials(options: Quant, model: Model, ctx: Context) -> Trials | Reason:
    """All quantizations of ``model`` that differ in what is kept in float; the reason if there is none."""
    scheme = ctx.target.int8
    if scheme is None:
        return Reason("no-int8-scheme", f"target {ctx.target.name} states no integer kernels")
    run = _Run(options, model, ctx, scheme)
    copy = model.copy()
    reason = run.prepare(copy)
    if reason is not None:
        return reason
    draft = run.observed(copy)
    if not draft.plan.kernels:
        return Reason("nothing-to-gain", "no kernel can run in integers")
    return Trials(run, run.choose(draft))


class Trials:
    """``mixed.Trials`` of one run."""

    def __init__(self, run: _Run, choice: Choice) -> None:
        self.run = run
        self.choice = choice

    def kernels(self) -> list[str]:
        """As named there."""
        return [u.head.outputs[0].name for u in self.choice.draft.plan.kernels]

    def labels(self) -> dict[str, str]:
        """Kernel -> how people call it."""
        return {u.head.outputs[0].name: u.label for u in self.choice.draft.plan.kernels}

    def made(self, kept: frozenset[str]) -> tuple[Model, float] | None:
        """As named there."""
        before = self.run.kept
        self.run.kept = before | kept
        try:
            plan = self.run.plan(self.choice.draft.model)
            if not set(plan.roots.values()) <= set(self.choice.draft.seen):
                return None
            return self.choice.draft.trial(self.choice.rule, self.choice.fitted), plan.placement.cost_ns
        finally:
            self.run.kept = before


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{n}'" for n in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
