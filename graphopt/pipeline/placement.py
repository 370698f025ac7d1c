"""What quantization would run in integers, for who wants to know it without quantizing: a function of the pass, found by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from graphopt.model import Model
from graphopt.pipeline.context import Context
from graphopt.pipeline.outcome import Refusal

Planned = Callable[[Model, Context], "list[frozenset[str]] | Refusal"]

PLANNED = "graphopt.passes.quant.quant:planned"
"""``module:function``."""


def planned(model: Model, ctx: Context) -> list[frozenset[str]] | Refusal:
    """The names of the nodes that would run in integers, for each placement that a run may end with, the likeliest first.

    Args:
        model: prepared in place, but not quantized.
        ctx: says the target, and the inputs' shapes.

    Returns:
        The placements, or why there is none.
    """
    module, _, function = PLANNED.partition(":")
    return cast(Planned, getattr(importlib.import_module(module), function))(model, ctx)
