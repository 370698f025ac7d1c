"""Budgets: what is to be spent of multiply-accumulates, parameters, bytes of the file, or time.

A budget knows what a choice of widths will cost (``costs``, exact but for time) and what a finished model does cost, by which it is
held in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis import Cost as CostAnalysis
from graphopt.analysis.channels import ChannelGraph, Group
from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.prune.costs import Cost, bytes_of, macs_of, params_of
from graphopt.passes.prune.latency import Latency, predicted, sized
from graphopt.passes.prune.probe import probe
from graphopt.pipeline import Context, InputShapes
from graphopt.runtime import compare_time, measure_time
from graphopt.target.latency import LatencyTable

METRICS = ("macs", "params", "size", "latency")

CLOCK = 0.95
"""A time counts as met closely when the result takes at least this share of it."""

PAIRS, SECONDS = 300, 3.0
"""Of a measurement of time."""


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """At most ``target`` of a metric.

    Attributes:
        metric: one of ``METRICS``.
        total: what the model costs as it is.
        cost: the cost by widths.
        measured: the cost of a finished model.
        table: by which time is told, where it is time; clocked: whether it is measured on this machine.
    """

    metric: str
    target: float
    total: float
    cost: Callable[[ChannelGraph, Sequence[Group]], Cost]
    measured: Callable[[Model], float]
    table: LatencyTable | None = None
    clocked: bool = False

    @property
    def words(self) -> str:
        """The metric, for people."""
        return {"macs": "MACs", "params": "parameters", "size": "bytes", "latency": "latency"}[self.metric]


def counted(metric: str, share: float, graph: ChannelGraph, ctx: Context) -> Budget:
    """A share of what can be counted."""

    def macs(model: Model) -> float:
        return float(Analyses(model).get(CostAnalysis(ctx.input_shapes())).macs)

    def params(model: Model) -> float:
        return float(Analyses(model).get(CostAnalysis(ctx.input_shapes())).params)

    def size(model: Model) -> float:
        return float(model.size())

    cost, measured = {"macs": (macs_of, macs), "params": (params_of, params), "size": (bytes_of, size)}[metric]
    total = measured(graph.model)
    return Budget(metric, share * total, total, cost, measured)


def timed(goal: str, graph: ChannelGraph, ctx: Context) -> Budget:
    """A share of the time, or milliseconds: by the target's table, or on this machine where it has none.

    Raises UsageError GO940 for a goal that is neither.
    """
    share, ms = parsed(goal)
    shapes = ctx.input_shapes()
    known = ctx.target.latency
    if known is not None:
        total = predicted(graph.model, known, shapes).ms
        target = share * total if ms is None else ms
        return Budget("latency", target, total, _by_table(known, shapes), lambda model: predicted(model, known, shapes).ms, known)
    facts = Analyses(graph.model).get(Shapes(shapes))
    feed = ctx.feeds.first()
    with ctx.progress("probe", len({s.key for s in sized(graph.model, facts)})) as bar:
        table = probe(graph.model, feed, shapes, bar.advance)
    total = measure_time(graph.model, feed, repeats=PAIRS, seconds=SECONDS)
    # The table gives the shape of the cost, the clock its size.
    table = replace(table, scale=table.scale * total / max(predicted(graph.model, table, shapes).ms, 1e-9))

    def measured(model: Model) -> float:
        return total / compare_time(graph.model, model, feed, repeats=PAIRS, seconds=SECONDS).ratio

    return Budget("latency", share * total if ms is None else ms, total, _by_table(table, shapes), measured, table, clocked=True)


def parsed(goal: str) -> tuple[float, float | None]:
    """A share, or milliseconds: ``0.7`` or ``5ms``."""
    text = goal.strip().lower()
    try:
        value = float(text.removesuffix("ms"))
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf") or (not text.endswith("ms") and value > 1):
        raise UsageError("GO940", f"prune:latency={goal}", "is neither a share between 0 and 1 nor milliseconds", "as 0.7 or 5ms")
    return (1.0, value) if text.endswith("ms") else (value, None)


def _by_table(table: LatencyTable, shapes: InputShapes) -> Callable[[ChannelGraph, Sequence[Group]], Cost]:
    return lambda graph, groups: Latency(graph, groups, table, shapes)


@dataclass(frozen=True, slots=True)
class Speed:
    """How many times as fast a pruned model is: the median of interleaved pairs and its quartiles, or a table's word."""

    ratio: float
    low: float
    high: float
    source: str

    @property
    def slower(self) -> bool:
        """Whether it is not faster, as three of four pairs say."""
        return self.high <= 1.0


def speed(before: Model, after: Model, ctx: Context) -> Speed | None:
    """Compare two models on the target's table, or on this machine; None if that was not wanted."""
    table = ctx.target.latency
    if table is not None:
        ratio = predicted(before, table, ctx.input_shapes()).ms / max(predicted(after, table, ctx.input_shapes()).ms, 1e-12)
        return Speed(ratio, ratio, ratio, f"latency table of {ctx.target.name}")
    if not ctx.timing:
        return None
    with ctx.progress("time prune", None):
        found = compare_time(before, after, ctx.feeds.first(), repeats=PAIRS, seconds=SECONDS)
    return Speed(found.ratio, found.low, found.high, "measured on this machine")
