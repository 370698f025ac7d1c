"""The sensitivity of a model to pruning: for each group and step the error at the output and what it saves."""

from __future__ import annotations

from graphopt.analysis import Analyses
from graphopt.analysis.channels import Channels
from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.prune.allocate import steps
from graphopt.passes.prune.costs import macs_of
from graphopt.passes.prune.degenerate import Findings, examined, not_finite
from graphopt.passes.prune.importance import channel_norms
from graphopt.passes.prune.plan import Planner, Settings
from graphopt.passes.prune.prune import certifiable, ready
from graphopt.passes.prune.reorder import aligned, reordered
from graphopt.pipeline import Context, Outcome
from graphopt.pipeline.sensitivity import Series, Surveyed


def survey(model: Model, ctx: Context, multiple: int | None) -> Surveyed:
    """One series a group that can be pruned, compensated where there is data. Raises UsageError GO940."""
    if multiple is not None and multiple < 1:
        raise UsageError("GO940", "--multiple", f"{multiple} is not a positive number")
    ready(model, ctx)
    graph = Analyses(model).get(Channels(ctx.input_shapes()))
    if broken := not_finite(graph):
        return Surveyed([], [f"{r.where}: {r.why}" for r in broken])
    data = examined(ctx.feeds) if ctx.calibrated else Findings()
    fitted = ctx.calibrated and not data.useless
    usable = certifiable(graph, Outcome())
    moves = aligned(graph, usable, channel_norms(graph))
    moved = (reordered(graph, moves) if moves else graph) or graph
    step = multiple or max(1, ctx.target.channel_step("float32"))
    settings = Settings(step, fitted, fitted, 1e-3)
    planner = Planner(moved, ctx, settings, usable, moves if moved is not graph else {})
    groups = [g for g in usable if len(steps(g, step)) > 1]
    if groups:
        planner.measure_curves(groups, [steps(g, step) for g in groups])
    cost = macs_of(moved, groups)
    none = [0] * len(groups)
    series = [
        Series(g.tensor, g.size, [(n, cost.change(none, k, n) / max(cost.total, 1.0), e) for n, e in planner.curves[g.id].points])
        for k, g in enumerate(groups)
    ]
    return Surveyed(series, [f"{r.where} {r.why}" for r in data.refusals])
