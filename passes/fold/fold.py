"""The pass: plan, write, and say what was composed and what was refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis import Shapes
from graphopt.analysis.affine import Obstacle
from graphopt.errors import ModelError
from graphopt.guard.garbage import rarely
from graphopt.model import Model, node_label
from graphopt.ops.affine import AffineMap, Kernel, Refused, formula, leaves, sources
from graphopt.ops.facts import static
from graphopt.ops.kernels import KERNELS
from graphopt.passes.fold.choose import Choice, Rules, choose
from graphopt.passes.fold.emit import Values, replace, values_of
from graphopt.passes.fold.through import through_activations
from graphopt.passes.simplify import Simplify
from graphopt.pipeline import JSON, Context, Kind, Outcome, Pass, Refusal, Rewrite, option
from graphopt.runtime import Session
from graphopt.verify import compare

_ROUNDS = 16
_MEASURED = 8
"""Samples on which the error of ``border=approx`` is measured."""

_WEIGHING = frozenset({"conv", "conv_transpose", "gemm", "matmul"})
"""Labels of the leaves that hold a kernel."""


@dataclass(frozen=True, kw_only=True)
class Fold(Pass):
    """Compose convolutions, branches, skips, normalisations and scales into single operators, where that is exact and cheaper."""

    name: ClassVar[str] = "fold"
    kind: ClassVar[Kind] = Kind.EXACT

    simplify: bool = option(True, "compute constants first: exporters leave weights behind shape arithmetic, casts and identities")
    max_growth: float = option(1.0, "cost of a folded operator over that of the operators it replaces, at most")
    border: Literal["exact", "approx"] = option(
        "exact", "approx: also fold where only the border of the image comes out different; the error is measured and reported"
    )

    @rarely()
    def run(self, model: Model, ctx: Context) -> Outcome:
        """Fold region after region until nothing more is gained."""
        outcome = Outcome(changed=False)
        approximate = self.border == "approx"
        before = model.copy() if approximate else None
        if self.simplify:
            outcome = Simplify().run(model, ctx)
            outcome.facts["simplified"] = len(outcome.rewrites)
        model.sort()
        work = _Folding(model, ctx, outcome)
        rules = Rules(self.max_growth, ctx.target, approximate)
        for _ in range(_ROUNDS):
            if not work.round(rules):
                break
            outcome.changed = True
        if outcome.approximate and before is not None:
            outcome.notes.append(_border_error(before, model, ctx))
        outcome.refusals.extend(_refusals(work.obstacles))
        outcome.facts.update(work.facts())
        return outcome


class _Folding:
    """What is known across the rounds. ``origins`` traces a constant that an earlier round wrote to the model's own."""

    def __init__(self, model: Model, ctx: Context, outcome: Outcome) -> None:
        self.model = model
        self.ctx = ctx
        self.outcome = outcome
        self.obstacles: list[Obstacle] = []
        self.provenance: dict[str, list[str]] = {}
        self.kernels: dict[str, JSON] = {}
        self.origins: dict[str, list[str]] = {}

    def round(self, rules: Rules) -> int:
        """One plan, written; how many rewrites there were."""
        plan = choose(self.ctx.analyses(self.model), self.ctx.input_shapes(), rules)
        self.obstacles = list(plan.obstacles.values())
        done = self._apply(plan.choices)
        moved, refused = through_activations(self.model, self.ctx)
        self.obstacles += [Obstacle(where, why) for where, why in refused]
        self.outcome.rewrites += moved
        return done + len(moved)

    def _apply(self, choices: list[Choice]) -> int:
        """Write the chosen operators in place of the last node of each span."""
        shapes = self.ctx.analyses(self.model).get(Shapes())
        placed: dict[int, list[gs.Node]] = {}
        named: set[str] = set()
        positions = {t.name: i for i, n in enumerate(self.model.graph.nodes) for t in n.outputs if t.name}
        for choice in choices:
            span = choice.span
            last = self.model.graph.nodes[positions[span.top.name]]
            source = choice.gathered[0] if choice.gathered else span.root
            sizes = static((shapes.shape(source) or (None, None))[2:])
            kernels: dict[int, Kernel] = {}
            values = values_of(span, choice.recipe.way, shapes.dtype(span.top), sizes, kernels)
            if isinstance(values, Refused):
                self.obstacles.append(Obstacle(node_label(last), values))
                continue
            weighing = [self.model.graph.nodes[i] for i in sorted(span.nodes) if self.model.graph.nodes[i].op in KERNELS]
            name = next((n.name for n in weighing if n.name), last.name)
            name = self.model.fresh(name) if name and name in named else name
            named.add(name)
            where, what = node_label(last), _describe(self.model, choice)  # before the tensor changes hands: it names the node
            written = replace(self.model, span, choice.recipe, values, name, sizes)
            if choice.gathered:
                copy = self.model.fresh(f"{name}.concat") if name else ""
                gather = self.model.make("Concat", list(choice.gathered), [span.root], {"axis": 1}, name=copy)
                written.insert(0, gather)
            placed.setdefault(id(last), []).extend(written)
            self._record(choice, values, written, kernels)
            self.outcome.approximate |= span.map.form.approximate
            self.outcome.rewrites.append(Rewrite(where, what, max(choice.macs_before - choice.recipe.macs, 0)))
        if placed:
            self.model.splice(placed)
            self.model.sweep()
        return len(placed)

    def _record(self, choice: Choice, values: Values, written: list[gs.Node], known: dict[int, Kernel]) -> None:
        top = choice.span.top.name
        given = sources(choice.span.map)
        self.provenance[top] = list(dict.fromkeys(o for source in given for o in self.origins.get(source, [source])))
        self.origins.update((t.name, self.provenance[top]) for n in written for t in n.inputs if isinstance(t, gs.Constant))
        self.kernels[top] = {
            "formula": formula(choice.span.map),
            "operators": [n.op for n in written],
            "macs_before": choice.macs_before,
            "macs_after": choice.recipe.macs,
            "range_before": _widest(choice.span.map, known),
            "range_after": _spread(values.weight),
        }

    def facts(self) -> dict[str, JSON]:
        """``folded``: source tensors of each kernel; ``kernels``: how it was composed and what it costs. Ranges are the largest
        weight of the channel with the largest over that of the channel with the smallest: what a scale for the whole tensor loses.
        """
        present = {t.name for n in self.model.graph.nodes for t in n.outputs}
        return {
            "folded": {name: list(names) for name, names in self.provenance.items() if name in present},
            "kernels": {name: one for name, one in self.kernels.items() if name in present},
        }


def _spread(weight: NDArray[Any]) -> float:
    flat = np.asarray(weight).reshape(len(weight), -1)
    largest = np.maximum(flat.max(axis=1, initial=0.0), -flat.min(axis=1, initial=0.0)).astype(np.float64)
    used = largest[largest > 0]
    return float(used.max() / used.min()) if used.size else 1.0


def _widest(top: AffineMap, known: dict[int, Kernel]) -> float:
    """The widest range among the kernels that a map is composed of; ``known`` are those that were evaluated."""
    kernels = [(known.get(id(leaf)) or leaf.build(np)).weight for leaf in leaves(top) if leaf.label in _WEIGHING]
    return max((_spread(np.asarray(weight)) for weight in kernels), default=1.0)


def _border_error(before: Model, after: Model, ctx: Context) -> str:
    """How far the outputs move, on the data."""
    lead = "NOT EXACT: with border=approx the borders come out different"
    try:
        sessions = Session(before, threads=ctx.threads), Session(after, threads=ctx.threads)
    except ModelError as error:
        return f"{lead}; how much is not known: {error.diagnostic.why}"
    feeds = ctx.feeds.take(_MEASURED)
    drift = compare(*sessions, feeds)
    return f"{lead}, by up to {drift.worst_rel:.1e} of an output's range on {len(feeds)} samples"


def _describe(model: Model, choice: Choice) -> str:
    ops = [model.graph.nodes[i].op for i in sorted(choice.span.nodes)]
    counted = {op: ops.count(op) for op in dict.fromkeys(ops)}
    listed = ", ".join(f"{n} {op}" if n > 1 else op for op, n in counted.items())
    operators = choice.recipe.operators + bool(choice.gathered)
    number = "one operator" if operators == 1 else f"{operators} operators"
    roots = " and ".join(f"'{t.name}'" for t in choice.gathered or (choice.span.root,))
    macs = (
        f"{choice.recipe.macs:,} multiply-accumulates instead of {choice.macs_before:,}" if choice.macs_before else "no arithmetic"
    )
    return f"{listed} from {roots} became {number}: {formula(choice.span.map)}; {macs}"


def _refusals(obstacles: list[Obstacle]) -> list[Refusal]:
    """Each place and reason once."""
    unique = {(o.where, o.refused.code): o for o in obstacles}
    return [Refusal(o.where, o.refused.code, o.refused.why) for o in unique.values()]
