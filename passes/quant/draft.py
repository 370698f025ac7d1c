"""A float model that is ready to be quantized, with what is to be done to it; it can be written as often as one likes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.model import Model
from graphopt.passes.quant.affine import Params, params
from graphopt.passes.quant.given import NONE_GIVEN, Given
from graphopt.passes.quant.insert import Inserter
from graphopt.passes.quant.placement import Placement
from graphopt.passes.quant.ranges import Histogram, Rule
from graphopt.passes.quant.refit import Fitted, Job, Place
from graphopt.passes.quant.rounding import data_free
from graphopt.passes.quant.unify import unify
from graphopt.passes.quant.units import Bounds, Unit, captured
from graphopt.passes.quant.weights import Weight, quantize_weight
from graphopt.target import Int8Scheme

NOTHING: Mapping[str, Fitted] = {}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a model that has been prepared."""

    units: Sequence[Unit]
    placement: Placement
    tensors: Sequence[gs.Tensor]
    """Activations that are quantized."""
    roots: Mapping[str, str]
    """Tensor -> the tensor whose parameters it takes (itself, but for operators that keep the scale)."""

    @property
    def integer(self) -> list[Unit]:
        """What computes in integers."""
        return [u for u in self.units if u.key in self.placement.int8]

    @property
    def kernels(self) -> list[Unit]:
        """The integer kernels with constant weights."""
        return [u for u in self.integer if u.kernel]


@dataclass(frozen=True, slots=True)
class Draft:
    """A prepared model and its plan.

    Attributes:
        model: in float.
        plan: for ``model``.
        seen: what was seen of its activations.
        scheme: how the target wants it.
        per_channel: whether weights have a scale a channel.
        rounded: whether weights are rounded with their sums in mind (``rounding.data_free``) instead of to the nearest.
        replan: makes a plan for a copy of ``model``.
        given: what the quantizers said that the model came with.
    """

    model: Model
    plan: Plan
    seen: Mapping[str, Histogram]
    scheme: Int8Scheme
    per_channel: bool
    rounded: bool
    replan: Callable[[Model], Plan]
    given: Given = NONE_GIVEN

    @property
    def q_max(self) -> int:
        """The greatest integer of a weight."""
        return 63 if self.scheme.reduce_range else 127

    def trial(self, rule: Rule, fitted: Mapping[str, Fitted] = NOTHING) -> Model:
        """The quantized model; the draft stays as it is."""
        copy = self.model.copy()
        self.write(copy, self.replan(copy), rule, fitted)
        return copy

    def write(self, model: Model, plan: Plan, rule: Rule, fitted: Mapping[str, Fitted] = NOTHING) -> None:
        """Quantize ``model``, which is the draft's or a copy of it, with ``plan`` made for it."""
        of = self.parameters(rule, plan)
        weights = self.weights(of, plan) | {key: one.weight for key, one in fitted.items()}
        biases = {key: one.bias for key, one in fitted.items() if one.bias is not None}
        Inserter(model, plan.units, plan.placement, self.scheme, self.given.whole).insert(plan.tensors, of, weights, biases)
        model.sweep()

    def parameters(self, rule: Rule, plan: Plan | None = None) -> dict[str, Params]:
        """Scale and zero point of every quantized activation."""
        plan = plan or self.plan
        bounds = {t.name: u.bounds for u in plan.integer for t in u.outputs}
        ranges = unify(
            plan.integer,
            {name: histogram.range(rule) for name, histogram in self.seen.items()},
            lambda tensor: plan.roots.get(tensor.name, tensor.name),
            bounds,
            *self.reading(plan),
        )
        made = {
            name: params(low, high, self.scheme.activation, bounds.get(name, Bounds()), symmetric=self.scheme.symmetric)
            for name, (low, high) in ranges.items()
        }
        for name in sorted(self.given.activations.keys() & plan.roots.keys(), key=lambda n: plan.roots[n] == n):
            made[plan.roots[name]] = self.given.activations[name]
        return {tensor.name: made[plan.roots[tensor.name]] for tensor in plan.tensors}

    def reading(self, plan: Plan) -> tuple[Counter[str], set[str]]:
        """How many units read the integers of a root, or floats made of them; and the roots whose scale must stay: given ones, and
        those whose values leave the graph.
        """
        made = {t.name for u in plan.integer for t in u.outputs}
        readers: Counter[str] = Counter()
        for unit in plan.units:
            read = {t.name for n in unit.nodes for t in n.inputs if t.name in plan.roots}
            if unit.key not in plan.placement.int8:
                read &= made  # of what is computed in float, others read the original
            readers.update({plan.roots[name] for name in read})
        inner = captured(self.model.graph)
        leaving = {t.name for t in self.model.graph.outputs} | {
            t.name for n in self.model.graph.nodes for t in n.outputs if id(t) in inner
        }
        kept = self.given.activations.keys() | (leaving & made)
        return readers, {plan.roots[name] for name in kept & plan.roots.keys()}

    def weights(self, of: Mapping[str, Params], plan: Plan | None = None) -> dict[str, Weight]:
        """The quantized weights of all integer kernels, by unit."""
        made: dict[str, Weight] = {}
        for unit in (plan or self.plan).kernels:
            if unit.weight is None or unit.axis is None:
                continue
            s_x = np.float32(of[unit.data[0].name].scale)
            given = self.given.weight(unit.head.inputs[1].name, unit.axis, s_x, unit.bias)
            if given is not None:
                made[unit.key] = given
                continue
            weight = quantize_weight(
                unit.weight, unit.axis, s_x, unit.bias, q_max=self.q_max, per_channel=self.scheme.per_channel and self.per_channel
            )
            made[unit.key] = data_free(unit, weight, self.q_max) if self.rounded else weight
        return made

    def jobs(self, rule: Rule) -> list[Job]:
        """The kernels whose weights may be rounded one by one; a weight that several of them share may not."""
        of = self.parameters(rule)
        weights = self.weights(of)
        readers: dict[int, int] = {}
        for unit in self.plan.kernels:
            readers[id(unit.head.inputs[1])] = readers.get(id(unit.head.inputs[1]), 0) + 1
        return [
            Job(u, weights[u.key], u.data[0].name, np.float32(of[u.data[0].name].scale))
            for u in self.plan.kernels
            if u.key in weights and readers[id(u.head.inputs[1])] == 1 and u.head.inputs[1].name not in self.given.weights
        ]

    def network(self, rule: Rule, jobs: Sequence[Job]) -> tuple[Model, dict[str, Place]]:
        """The quantized model with every job's kernel as it starts, and where each is."""
        copy = self.model.copy()
        plan = self.replan(copy)
        self.write(copy, plan, rule, {job.unit.key: job.start() for job in jobs})
        wanted = {job.unit.key for job in jobs}
        return copy, {u.key: _place(copy, u) for u in plan.kernels if u.key in wanted}


def _place(model: Model, unit: Unit) -> Place:
    node, index = unit.bias_node or (unit.head, 2)
    bias = node.inputs[index] if len(node.inputs) > index else None
    return Place(
        unit.head.inputs[0].name,
        unit.head.outputs[0].name,
        _stored(model, unit.head.inputs[1]),
        "" if bias is None or not bias.name else _stored(model, bias),
    )


def _stored(model: Model, tensor: gs.Tensor) -> str:
    """The integers behind a DequantizeLinear, or the constant itself."""
    maker = model.producer(tensor)
    return tensor.name if maker is None else maker.inputs[0].name


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
