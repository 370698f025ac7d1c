"""``--shape NAME=1x3x224x224``: the sizes that a model leaves open, for the commands that run nothing on data."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import click

from graphopt.analysis import Analyses
from graphopt.cli.common import limit_options, load_options, model_argument
from graphopt.errors import UsageError
from graphopt.guard.doing import watched
from graphopt.guard.limits import Limits
from graphopt.model import Model
from graphopt.ops.facts import static
from graphopt.pipeline import InputShapes
from graphopt.pipeline.context import shapes_of
from graphopt.runtime import generated, input_specs
from graphopt.spec import near
from graphopt.verify import isolated
from graphopt.verify.contact import begin, first_contact

_SHAPE = re.compile(r"(?P<name>.+)=(?P<dims>[0-9]+(x[0-9]+)*)")


def takes_model(command: Callable[..., None]) -> Callable[..., None]:
    """MODEL, ``--shape`` and the options of loading; ``command`` gets the model and its input shapes before its own options."""

    @functools.wraps(command)
    def call(
        model: str,
        shape: tuple[str, ...],
        freeze_initializers: bool,
        inline_functions: bool,
        memory_limit: int | None,
        time_limit: float | None,
        **own: Any,
    ) -> None:
        limits = Limits(memory_limit, time_limit)
        command(*_admitted(model, shape, limits, freeze_initializers, inline_functions), **own)

    help_text = "Shape of an input, NAME=1x3x224x224; open sizes are guessed otherwise."
    shape_option = click.option("--shape", multiple=True, metavar="NAME=DIMS", help=help_text)
    return model_argument(shape_option(load_options(limit_options(call))))


def _admitted(path: str, given: tuple[str, ...], limits: Limits, freeze: bool, inline: bool) -> tuple[Model, InputShapes]:
    """Load a model and settle the shapes of its inputs. Raises ModelError GO042 for one that would take too much memory."""
    begin(path, limits)
    model = Model.load(path, freeze_initializers=freeze, inline_functions=inline)
    if watched() is None:
        # Where a size is open, the model is run to see what it takes.
        isolated.probe(model, limits, run=any(static(spec.shape) is None for spec in input_specs(model)))
    with first_contact(model, limits) as contact:
        shapes = input_shapes(model, given)
        contact.admit(Analyses(model), shapes)
    return model, shapes


def input_shapes(model: Model, given: tuple[str, ...]) -> InputShapes:
    """The shape of each input: as given, else as declared, else as a generated input would have it.

    Inputs are generated, which may run the model to see what it takes, only where a size is still open.

    Raises:
        UsageError: GO922, a shape cannot be read or names no input.
    """
    specs = [spec for spec in input_specs(model) if spec.kind == "tensor"]
    names = [spec.name for spec in specs]
    shapes = {spec.name: shape for spec in specs if (shape := static(spec.shape)) is not None}
    for text in given:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise UsageError("GO922", "--shape", f"{text!r} is not a shape", "write NAME=1x3x224x224")
        if match["name"] not in names:
            raise UsageError("GO922", "--shape", f"the model has no input {match['name']!r}", near(match["name"], names))
        shapes[match["name"]] = tuple(int(n) for n in match["dims"].split("x"))
    if len(shapes) < len(names):
        shapes = {**dict(shapes_of(generated(model, 1))), **shapes}
    return tuple((name, shapes[name]) for name in names)
