"""Budgets: what is to be spent of multiply-accumulates, parameters, bytes of the file, or time.

A budget knows what a choice of widths will cost (``costs``, exact but for time) and what a finished model does cost, by which it is
held in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.analysis import Analyses
from graphopt.analysis import Cost as CostAnalysis
from graphopt.analysis.channels import ChannelGraph, Group
from graphopt.model import Model
from graphopt.passes.prune.costs import Cost, bytes_of, macs_of, params_of
from graphopt.pipeline import Context

METRICS = ("macs", "params", "size", "latency")


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """At most ``target`` of a metric.

    Attributes:
        metric: one of ``METRICS``.
        total: what the model costs as it is.
        cost: the cost by widths.
        measured: the cost of a finished model.
    """

    metric: str
    target: float
    total: float
    cost: Callable[[ChannelGraph, Sequence[Group]], Cost]
    measured: Callable[[Model], float]

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
