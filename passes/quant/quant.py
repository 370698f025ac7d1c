"""The pass: from a float model to one that the target runs in integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.analysis import Analyses, Shapes, ShapeTable
from graphopt.errors import UsageError
from graphopt.model import Model, node_label
from graphopt.passes.quant.affine import Params, params
from graphopt.passes.quant.fidelity import Judge
from graphopt.passes.quant.insert import Inserter
from graphopt.passes.quant.opset import raise_opset
from graphopt.passes.quant.placement import Placement, Placer, Policy
from graphopt.passes.quant.proof import Proof, prove
from graphopt.passes.quant.ranges import RULES, Histogram, Rule, observe
from graphopt.passes.quant.rewrite import rewrite
from graphopt.passes.quant.units import Bounds, Reason, Unit, UnitBuilder
from graphopt.passes.quant.weights import Weight, quantize_weight
from graphopt.pipeline import Context, Kind, Outcome, Pass, Refusal, Rewrite, option
from graphopt.target import Int8Scheme

QUANTIZERS = frozenset(
    ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")
)

JUDGED = 16
"""On how many inputs range rules are compared."""


@dataclass(frozen=True, kw_only=True)
class Quant(Pass):
    """Run in 8-bit integers what the target runs faster so: ranges from the data, weights per channel, fusion proved."""

    name: ClassVar[str] = "quant"
    kind: ClassVar[Kind] = Kind.LOSSY

    ranges: Literal["auto", "minmax", "percentile", "mse"] = option(
        "auto", "activation ranges: minmax, percentile, mse, or auto: the one whose outputs come closest on the data"
    )
    weights: Literal["per-channel", "per-tensor"] = option("per-channel", "one scale for each output channel, or one for all")
    placement: Policy = option(
        "auto", "what runs in integers: auto, kernels (every Conv, Gemm, MatMul) or cost (the estimate's best)"
    )
    outputs: Literal["float", "int8"] = option(
        "float", "float: what leaves the graph is computed in float where that costs nothing; int8: in integers"
    )
    keep: str = option("", "nodes to keep in float, by name or by first output, separated by +")

    def run(self, model: Model, ctx: Context) -> Outcome:
        scheme = ctx.target.int8
        if scheme is None:
            why = f"target {ctx.target.name} states no integer kernels"
            return Outcome(refusals=[Refusal(model.label, "no-int8-scheme", why)])
        if is_quantized(model.graph):
            why = "it has quantizers already; they are left as they are"
            return Outcome(refusals=[Refusal(model.label, "already-quantized", why)])
        return _Run(self, model, ctx, scheme).outcome()


def is_quantized(graph: gs.Graph) -> bool:
    """Whether there is any quantizer or integer kernel, of ONNX or of onnxruntime."""
    return any(n.op in QUANTIZERS or n.op.startswith("QLinear") or n.op == "QGemm" for n in graph.nodes)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done to a model that has been prepared."""

    units: Sequence[Unit]
    placement: Placement
    tensors: Sequence[gs.Tensor]
    """Activations that are quantized."""
    roots: Mapping[str, str]
    """Tensor -> the tensor whose parameters it takes (itself, but for operators that keep the scale)."""


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
        self.out = Outcome()

    def outcome(self) -> Outcome:
        """Plan on a copy; only if something is to be done touch the model."""
        self.check_kept()
        draft = self.model.copy()
        reason = self.prepare(draft)
        if reason is not None:
            return self.refused(reason.code, reason.why)
        plan, seen = self.observed(draft)
        if not plan.placement.int8:
            self.explain(plan.units)
            return self.refused("nothing-to-gain", "no operator would run faster in integers by the target's costs")
        self.out.rewrites.clear()
        self.prepare(self.model)
        self.apply(self.plan(self.model), seen)
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
        """Opset and rewrites."""
        why = raise_opset(model, self.scheme.min_opset)
        if why is not None:
            return Reason("opset", f"it cannot be raised to opset {self.scheme.min_opset}: {why}")
        self.out.rewrites.extend(rewrite(model, self.facts(model), self.scheme))
        return None

    def facts(self, model: Model) -> ShapeTable:
        return Analyses(model).get(Shapes(inputs=self.ctx.input_shapes()))

    def plan(self, model: Model) -> _Plan:
        facts = self.facts(model)
        float_head = self.options.outputs == "float"
        units = UnitBuilder(model, facts, self.scheme, self.is_kept, float_head=float_head).build()
        for unit in units:
            if unit.reason is None and any(t.name in self.boundless for t in [*unit.data, *unit.outputs]):
                unit.reason = Reason("not-finite", "what it reads or computes is NaN or infinite on the data")
        placer = Placer(model, units, facts, self.ctx.target, float_head=float_head)
        placement = placer.place(self.options.placement)
        tensors = [e.tensor for e in placer.edges if e.tensor.name in placement.quantized]
        return _Plan(units, placement, tensors, roots(units, placement, tensors))

    def observed(self, model: Model) -> tuple[_Plan, dict[str, Histogram]]:
        """A plan for ``model``, and what was seen of its activations; none of them is NaN or infinite anywhere."""
        seen: dict[str, Histogram] = {}
        while True:
            plan = self.plan(model)
            wanted = sorted(set(plan.roots.values()))
            seen.update(observe(model, [t for t in wanted if t not in seen], self.ctx, counted=self.counted))
            boundless = {t for t, root in plan.roots.items() if seen[root].extremes.nonfinite}
            if not boundless:
                return plan, {name: seen[name] for name in wanted}
            self.boundless |= boundless
            self.out.notes.append(f"NaN or infinite on the data, so left in float: {_listed(sorted(boundless))}")

    @property
    def counted(self) -> bool:
        """Whether more than extremes is asked of the ranges."""
        return self.choice or self.options.ranges not in ("auto", "minmax")

    @property
    def choice(self) -> bool:
        """Whether the data decides between the rules."""
        return self.options.ranges == "auto" and self.ctx.calibrated

    def is_kept(self, node: gs.Node) -> bool:
        return node.name in self.kept or any(t.name in self.kept for t in node.outputs)

    # -- doing -------------------------------------------------------------------------------------------------------------------

    def apply(self, plan: _Plan, seen: Mapping[str, Histogram]) -> None:
        self.warn_flat(seen)
        rule = self.options.ranges
        chosen: Rule = self.best_rule(seen) if self.choice else "minmax" if rule == "auto" else rule
        self.write(self.model, plan, seen, chosen)
        self.report(plan, prove(self.model, plan.units, plan.placement))
        self.out.facts["ranges"] = chosen
        self.out.changed = True

    def best_rule(self, seen: Mapping[str, Histogram]) -> Rule:
        """The rule with the least error of the outputs on some of the data; the first of equals."""
        judge = Judge(self.model, self.ctx.feeds.take(JUDGED))
        errors: dict[Rule, float] = {}
        with self.ctx.progress("choose ranges", len(RULES)) as bar:
            for rule in RULES:
                trial = self.model.copy()
                self.write(trial, self.plan(trial), seen, rule)
                errors[rule] = judge.error(trial)
                bar.advance()
        self.out.facts["output_error"] = {rule: float(f"{error:.3g}") for rule, error in errors.items()}
        return min(RULES, key=errors.__getitem__)

    def write(self, model: Model, plan: _Plan, seen: Mapping[str, Histogram], rule: Rule) -> None:
        """Put the plan into ``model``, with ranges by ``rule``."""
        of = self.parameters(plan, seen, rule)
        Inserter(model, plan.units, plan.placement, self.scheme).insert(plan.tensors, of, self.weights(plan, of))
        model.sweep()

    def parameters(self, plan: _Plan, seen: Mapping[str, Histogram], rule: Rule) -> dict[str, Params]:
        """Scale and zero point of every quantized activation."""
        bounds = {t.name: u.bounds for u in plan.units if u.key in plan.placement.int8 for t in u.outputs}
        made = {
            name: params(*histogram.range(rule), self.scheme.activation, bounds.get(name, Bounds()))
            for name, histogram in seen.items()
        }
        return {tensor.name: made[plan.roots[tensor.name]] for tensor in plan.tensors}

    def warn_flat(self, seen: Mapping[str, Histogram]) -> None:
        """Name the tensors whose data says nothing."""
        flat = [name for name, histogram in seen.items() if histogram.extremes.range == (0.0, 0.0)]
        if flat:
            self.out.notes.append(f"zero on all data, so its range is a guess: {_listed(flat)}")

    def weights(self, plan: _Plan, of: Mapping[str, Params]) -> dict[str, Weight]:
        """The quantized weights of all integer kernels, by unit."""
        per_channel = self.scheme.per_channel and self.options.weights == "per-channel"
        q_max = 63 if self.scheme.reduce_range else 127
        made: dict[str, Weight] = {}
        for unit in plan.units:
            if unit.key in plan.placement.int8 and unit.kernel and unit.weight is not None and unit.axis is not None:
                s_x = np.float32(of[unit.data[0].name].scale)
                made[unit.key] = quantize_weight(unit.weight, unit.axis, s_x, unit.bias, q_max=q_max, per_channel=per_channel)
        return made

    # -- telling -----------------------------------------------------------------------------------------------------------------

    def report(self, plan: _Plan, proof: Proof) -> None:
        placement = plan.placement
        for unit in plan.units:
            if unit.kernel and unit.key in placement.int8:
                self.out.rewrites.append(Rewrite(unit.label, "in int8"))
        self.explain(plan.units, placement)
        for line in proof.unplanned:
            self.out.notes.append(f"planned in int8, but {line}")
            self.out.refusals.append(Refusal(line, "not-fused", "the runtime did not make an integer kernel of it"))
        if not self.ctx.calibrated:
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
        )

    def explain(self, units: Sequence[Unit], placement: Placement | None = None) -> None:
        """A refusal for every kernel that stays in float."""
        for unit in units:
            if unit.head.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
                continue
            if unit.reason is not None:
                self.out.refusals.append(Refusal(node_label(unit.head), unit.reason.code, unit.reason.why))
            elif placement is not None and unit.key not in placement.int8:
                self.out.refusals.append(Refusal(unit.label, "slower-in-int8", "by the target's costs float is faster here"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{n}'" for n in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def roots(units: Sequence[Unit], placement: Placement, tensors: Sequence[gs.Tensor]) -> dict[str, str]:
    """Tensor -> the tensor that its scale comes from: through operators that only move values, back to where it was computed."""
    source = {t.name: u.data[0].name for u in units if u.same_scale and u.key in placement.int8 for t in u.outputs}
    found: dict[str, str] = {}
    for tensor in tensors:
        name = tensor.name
        while name in source:
            name = source[name]
        found[tensor.name] = name
    return found
