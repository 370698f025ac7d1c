"""Mixed precision: the fewest kernels in float that bring the figure that counts back to where it is wanted.

The figure is measured on held-out samples: what a user's own function says, or how much of the float model's answers stay (the
share of equal largest classes for outputs [N, classes], in percent), or the outputs' signal to noise in dB.

A kernel's *gain* is what the figure's proxy, the error of the outputs, falls by when that kernel alone is kept in float; its
*cost* the time that the placement then takes more, by the target's table (what surrounds it loses its quantizers too, where that
is cheaper). Kernels are kept in the order of gain over cost, which is the knapsack's fractional optimum, until the measured
figure is met; then each is given back that turns out not to be needed, the costliest first.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.quant.fidelity import Judge

Outputs = Mapping[str, NDArray[Any]]

LEAST_COST_NS = 1000.0
"""A kernel whose float costs nothing by the estimate is not free."""


class Trials(Protocol):
    """What can be asked of a quantization."""

    def kernels(self) -> list[str]:
        """Names of the integer kernels' outputs."""
        ...

    def made(self, kept: frozenset[str]) -> tuple[Model, float] | None:
        """The model with these kernels in float, and its estimated time in ns; None if that cannot be written."""
        ...


@dataclass(frozen=True, slots=True)
class Figure:
    """How well a model answers: higher is better. ``limit`` is what it must reach."""

    of: Callable[[Model], float]
    limit: float
    name: str


def figure(judge: Judge, drop: float, metric: str) -> Figure:
    """The figure that counts, and what it may fall to.

    Raises UsageError GO931 for a metric that cannot be imported, or does not give a number.
    """
    if metric not in ("auto", "sqnr", "agreement"):
        score = _imported(metric)
        values = [score(outputs, feed) for outputs, feed in zip(judge.outputs, judge.feeds, strict=True)]
        return Figure(lambda model: _mean(score, judge, model), float(np.mean(values)) - drop, metric)
    classes = all(_is_scores(v) for outputs in judge.outputs for v in outputs.values())
    if metric == "agreement" or (metric == "auto" and classes):
        return Figure(judge.agreement, 100.0 - drop, "agreement in percent")
    return Figure(lambda model: -10 * float(np.log10(max(judge.error(model), 1e-30))), drop, "signal to noise in dB")


def _is_scores(value: NDArray[Any]) -> bool:
    # A sequence comes as a list.
    return getattr(value, "dtype", np.dtype(bool)).kind == "f" and value.ndim == 2 and value.shape[1] > 1


def _imported(metric: str) -> Callable[[Outputs, Outputs], float]:
    module, _, name = metric.partition(":")
    hint = "name a function as module:function (a colon is %3a in a pipeline); it takes outputs and inputs by name"
    if "" not in sys.path:
        sys.path.append("")  # an installed command does not look where it is called, and there the function is
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing runs the user's code
        raise UsageError("GO931", "quant:metric", f"'{metric}' cannot be imported: {error}", hint) from error

    def score(outputs: Outputs, feed: Outputs) -> float:
        try:
            value: Any = found(outputs, feed)
        except Exception as error:  # the user's code may raise anything, and it is the user's to mend
            raise UsageError("GO931", "quant:metric", f"'{metric}' fails: {type(error).__name__}: {error}", hint) from error
        if np.ndim(value) != 0 or not np.issubdtype(np.asarray(value).dtype, np.number):
            raise UsageError("GO931", "quant:metric", f"'{metric}' gives {type(value).__name__}, not a number", hint)
        return float(value)

    return score


def _mean(score: Callable[[Outputs, Outputs], float], judge: Judge, model: Model) -> float:
    return float(np.mean([score(outputs, feed) for outputs, feed in judge.runs(model)]))


def keep_fewest(trials: Trials, judge: Judge, wanted: Figure, advance: Callable[[int], None]) -> tuple[frozenset[str], float]:
    """Outputs of the kernels to keep in float, and the figure that is reached: below the limit if all of them are not enough."""
    start = trials.made(frozenset())
    assert start is not None  # noqa: S101 - it is the plan that exists
    reached = wanted.of(start[0])
    if reached >= wanted.limit:
        return frozenset(), reached
    error, time = judge.error(start[0]), start[1]
    ranked: list[tuple[float, str]] = []
    for name in trials.kernels():
        made = trials.made(frozenset((name,)))
        if made is not None:
            ranked.append(((error - judge.error(made[0])) / max(made[1] - time, LEAST_COST_NS), name))
        advance(1)
    ranked.sort(key=lambda pair: (-pair[0], pair[1]))
    kept: list[str] = []
    for _, name in ranked:
        made = trials.made(frozenset((*kept, name)))
        if made is None:
            continue
        kept.append(name)
        reached = wanted.of(made[0])
        if reached >= wanted.limit:
            break
    for name in kept[:-1]:
        fewer = frozenset(kept) - {name}
        made = trials.made(fewer)
        if made is not None and (value := wanted.of(made[0])) >= wanted.limit:
            kept.remove(name)
            reached = value
    return frozenset(kept), reached
