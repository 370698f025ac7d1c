"""Tables on stdout: as wide as the terminal and in its colours, else 80 columns and plain."""

from __future__ import annotations

import io
import shutil
import sys

from rich.console import Console, RenderableType

from graphopt.cli.common import emit, on_terminal

PLAIN_WIDTH = 80


def stdout_width() -> int:
    """Columns of stdout."""
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if on_terminal(sys.stdout) else PLAIN_WIDTH


def show(*parts: RenderableType) -> None:
    """Print to stdout. Text is taken as it is: node names are full of what rich would take for markup."""
    colour = on_terminal(sys.stdout)
    out = io.StringIO()
    console = Console(
        file=out,
        width=stdout_width(),
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        emoji=False,
        markup=False,
    )
    for part in parts:
        console.print(part)
    emit("\n".join(line.rstrip() for line in out.getvalue().splitlines()))


def shortened(name: str, room: int) -> str:
    """A long name by its end, which is what tells the layers of a block apart."""
    return name if len(name) <= room else "…" + name[1 - room :]
