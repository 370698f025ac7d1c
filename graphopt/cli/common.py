"""What the commands share: options, colours, and results on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

from graphopt.guard.limits import parse_size

C = TypeVar("C", bound=Callable[..., Any])


def debug_option(command: C) -> C:
    """``--debug``: `graphopt.cli.main` looks for it among the arguments, before anything is parsed."""
    return click.option("--debug", is_flag=True, expose_value=False, help="On a failure, print the traceback too.")(command)


def format_option(*formats: str) -> Callable[[C], C]:
    """``--format``; the first one is the default."""
    return click.option(
        "--format", "form", type=click.Choice(formats), default=formats[0], show_default=True, help="Form of the result."
    )


def model_argument(command: C) -> C:
    """MODEL: an ONNX file. Whether it exists and what it holds is for ``Model.load`` to say."""
    return click.argument("model", type=click.Path())(command)


def load_options(command: C) -> C:
    """``--freeze-initializers`` and ``--inline-functions``: keyword arguments of ``Model.load`` of the same names."""
    freeze = click.option("--freeze-initializers", is_flag=True, help="Make constants of inputs that have a default value.")
    inline = click.option("--inline-functions", is_flag=True, help="Replace calls of the model's functions by their bodies.")
    return freeze(inline(command))


class Size(click.ParamType[int]):
    """Bytes: ``8GiB``, ``500MB``, ``0``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(str(value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a size such as 8GiB", param, ctx)


def limit_options(command: C) -> C:
    """``--memory-limit`` and ``--time-limit``: what a model may take until it is known to be harmless."""
    memory_help = "Memory that an unknown model may take, such as 8GiB; 0: any. Its size decides otherwise."
    time_help = "Time that checking, loading and running it once may take; 0: any. Its size decides otherwise."
    memory = click.option("--memory-limit", type=Size(), metavar="SIZE", help=memory_help)
    seconds = click.option("--time-limit", type=click.FloatRange(min=0), metavar="SECONDS", help=time_help)
    return memory(seconds(command))


def on_terminal(stream: TextIO) -> bool:
    """Whether colours and bars may go to a stream (https://no-color.org for the variable)."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def colour(text: str, name: str) -> str:
    """Bold text in a colour, for stderr; plain where that is no terminal."""
    return click.style(text, fg=name, bold=True) if on_terminal(sys.stderr) else text


def emit(text: str) -> None:
    """A result, to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_versions(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """``--version``: ours, and those of the packages that decide what comes out."""
    del parameter
    if not wanted or ctx.resilient_parsing:
        return
    import platform
    from importlib import metadata

    from graphopt import __version__

    lines = [f"graphopt {__version__}"]
    for name in ("onnx", "onnx-graphsurgeon", "onnxruntime", "numpy"):
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} is not installed")
    lines.append(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    emit("\n".join(lines))
    ctx.exit()
