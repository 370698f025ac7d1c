"""What a pass costs at the model's output, place by place: the form that passes report it in, and which passes do.

A pass joins with one function, ``survey(model, ctx, multiple) -> list[Series]``, named in ``SURVEYS``; ``model`` is a copy that it
may edit.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
        points: for each step how much of it goes, what it saves as a share of the model's multiply-accumulates, and the error: mean
            square at the output over the output's variance, on held-out samples.
    """

    place: str
    size: int
    points: Sequence[tuple[int, float, float]]


Survey = Callable[[Model, Context, "int | None"], list[Series]]

SURVEYS: Mapping[str, str] = {"prune": "graphopt.passes.prune.survey:survey"}
"""Pass: ``module:function``."""


def survey(name: str, model: Model, ctx: Context, multiple: int | None) -> list[Series]:
    """The series of one pass. Raises UsageError GO911 for a pass that has none."""
    if name not in SURVEYS:
        raise UsageError("GO911", name, "there is no such survey", near(name, SURVEYS))
    module, _, function = SURVEYS[name].partition(":")
    found = cast(Survey, getattr(importlib.import_module(module), function))
    return found(model, ctx, multiple)
