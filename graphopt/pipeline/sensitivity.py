"""What a pass costs at the model's output, place by place: the form that passes report it in, and which passes do.

A pass joins with one function, ``survey(model, ctx, multiple) -> Surveyed``, named in ``SURVEYS``; ``model`` is a copy that it
may edit.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.pipeline.context import Context
from graphopt.spec import near


@dataclass(frozen=True, slots=True)
class Series:
    """One place and what steps of a pass do there.

    Attributes:
        place: a tensor or a region, for people.
        size: what there is of it (channels, operators).
        points: for each step how much of it goes (or changes), what that saves as a share of what the survey counts in, and the
            error of the output on held-out samples, as a share of its power.
    """

    place: str
    size: int
    points: Sequence[tuple[int, float, float]]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What a survey found: series, and what a reader must know of them."""

    series: list[Series]
    notes: list[str] = field(default_factory=list[str])


Survey = Callable[[Model, Context, "int | None"], Surveyed]


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a pass's survey is, as ``module:function``, and the words for its series: places, their sizes, steps, savings."""

    function: str
    places: str
    heads: tuple[str, str, str]
    step: str


SURVEYS: Mapping[str, Kind] = {
    "prune": Kind("graphopt.passes.prune.survey:survey", "groups", ("channels", "removed", "of the MACs"), "removed"),
    "quant": Kind("graphopt.passes.quant.survey:survey", "kernels", ("kernels", "in int8", "of the time"), "in int8"),
}


def survey(name: str, model: Model, ctx: Context, multiple: int | None) -> Surveyed:
    """The series of one pass. Raises UsageError GO911 for a pass that has none."""
    if name not in SURVEYS:
        raise UsageError("GO911", name, "there is no such survey", near(name, SURVEYS))
    module, _, function = SURVEYS[name].function.partition(":")
    found = cast(Survey, getattr(importlib.import_module(module), function))
    return found(model, ctx, multiple)
