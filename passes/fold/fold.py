"""The pass: plan, write, and say what was composed and what was refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from graphopt.analysis import Shapes
from graphopt.analysis.affine import Obstacle
from graphopt.model import Model, node_label
from graphopt.ops.affine import Refused
from graphopt.ops.affine.maps import sources
from graphopt.passes.fold.choose import Choice, choose
from graphopt.passes.fold.emit import KERNELS, replace, values_of
from graphopt.passes.simplify import Simplify
from graphopt.pipeline import Context, Kind, Outcome, Pass, Refusal, Rewrite, option

_ROUNDS = 16


@dataclass(frozen=True, kw_only=True)
class Fold(Pass):
    """Compose convolutions, branches, skips, normalisations and scales into single operators, where that is exact and cheaper."""

    name: ClassVar[str] = "fold"
    kind: ClassVar[Kind] = Kind.EXACT

    simplify: bool = option(True, "compute constants first: exporters leave weights behind shape arithmetic, casts and identities")
    max_growth: float = option(1.0, "cost of a folded operator over that of the operators it replaces, at most")

    def run(self, model: Model, ctx: Context) -> Outcome:
        """Fold region after region until nothing more is gained."""
        outcome = Outcome(changed=False)
        if self.simplify:
            outcome = Simplify().run(model, ctx)
            outcome.facts["simplified"] = len(outcome.rewrites)
        model.sort()
        obstacles: list[Obstacle] = []
        provenance: dict[str, list[str]] = {}
        origins: dict[str, list[str]] = {}
        for _ in range(_ROUNDS):
            plan = choose(ctx.analyses(model), ctx.input_shapes(), self.max_growth, ctx.target.fusions)
            obstacles = list(plan.obstacles.values())
            done = _apply(model, ctx, plan.choices, outcome, obstacles, provenance, origins)
            if not done:
                break
            outcome.changed = True
        outcome.refusals.extend(_refusals(obstacles))
        present = {t.name for n in model.graph.nodes for t in n.outputs}
        outcome.facts["folded"] = {name: list(names) for name, names in provenance.items() if name in present}
        return outcome


def _apply(
    model: Model,
    ctx: Context,
    choices: list[Choice],
    outcome: Outcome,
    obstacles: list[Obstacle],
    provenance: dict[str, list[str]],
    origins: dict[str, list[str]],
) -> int:
    """Write the chosen operators in place of the last node of each span; how many were written. ``origins`` traces a constant
    that an earlier round wrote to the model's own.
    """
    shapes = ctx.analyses(model).get(Shapes())
    placed: dict[int, list[gs.Node]] = {}
    positions = {t.name: i for i, n in enumerate(model.graph.nodes) for t in n.outputs if t.name}
    for choice in choices:
        span = choice.span
        last = model.graph.nodes[positions[span.top.name]]
        values = values_of(span, shapes.dtype(span.top))
        if isinstance(values, Refused):
            obstacles.append(Obstacle(node_label(last), values))
            continue
        kernels = [model.graph.nodes[i] for i in sorted(span.nodes) if model.graph.nodes[i].op in KERNELS]
        name = next((n.name for n in kernels if n.name), last.name)
        where, what = node_label(last), _describe(model, choice)  # before the tensor changes hands: it names the node
        placed[id(last)] = replace(model, span, *values, name)
        given = sources(span.map)
        provenance[span.top.name] = list(dict.fromkeys(o for source in given for o in origins.get(source, [source])))
        origins.update(
            (t.name, provenance[span.top.name]) for n in placed[id(last)] for t in n.inputs if isinstance(t, gs.Constant)
        )
        outcome.rewrites.append(Rewrite(where, what, max(choice.macs_before - choice.macs_after, 0)))
    if placed:
        model.splice(placed)
        model.sweep()
    return len(placed)


def _describe(model: Model, choice: Choice) -> str:
    ops = [model.graph.nodes[i].op for i in sorted(choice.span.nodes)]
    counted = {op: ops.count(op) for op in dict.fromkeys(ops)}
    listed = ", ".join(f"{n} {op}" if n > 1 else op for op, n in counted.items())
    return f"{listed} from '{choice.span.root.name}' became one operator"


def _refusals(obstacles: list[Obstacle]) -> list[Refusal]:
    """Each place and reason once."""
    unique = {(o.where, o.refused.code): o for o in obstacles}
    return [Refusal(o.where, o.refused.code, o.refused.why) for o in unique.values()]
