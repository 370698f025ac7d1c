"""``graphopt target``: devices as data. ``probe`` measures a latency table on the machine that it runs on."""

from __future__ import annotations

import re
from pathlib import Path

import click
import numpy as np

from graphopt.analysis import Analyses, Shapes
from graphopt.cli.common import debug_option, emit
from graphopt.cli.progress import watching
from graphopt.cli.shapes import takes_model
from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.model.files import refuse_target, write_bytes
from graphopt.passes.fold import Fold
from graphopt.passes.prune.latency import predicted, sized
from graphopt.passes.prune.probe import probe, source
from graphopt.pipeline import DEFAULT_TARGET, Context, InputShapes
from graphopt.runtime import Feed, generated
from graphopt.target.latency import LatencyTable, to_toml
from graphopt.target.loader import parse, text_of


@click.group(name="target", short_help="Measure devices, and list them.")
def command() -> None:
    """Devices as data: what they run well, and how long it takes."""


@command.command(name="list", short_help="List the targets.")
@debug_option
def listed() -> None:
    """List the targets that have a name."""
    from graphopt.target import Target

    found = [Target.load(name) for name in Target.names()]
    width = max(len(t.name) for t in found)
    emit("\n".join(f"{t.name:{width}}  {t.title}" for t in found))


@command.command(name="probe", short_help="Measure a latency table on this machine.")
@takes_model
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write the target; without it, to stdout.")
@click.option(
    "-t", "--target", default=DEFAULT_TARGET, show_default=True, help="What else is known of the device: name or TOML file."
)
@click.option("-f", "--force", is_flag=True, help="Overwrite an existing file.")
@debug_option
def probing(loaded: Model, shapes: InputShapes, output: Path | None, target: str, force: bool) -> None:
    """Measure how long the convolutions of MODEL take on this machine, over widths, and write a target with that table.

    \b
    graphopt target probe model.onnx -o device.toml
    graphopt run model.onnx --passes fold,prune:latency=0.7 --data calib.npz --target device.toml

    The model is folded first, as it will run. One thread; nothing but onnxruntime is needed.
    """  # noqa: D301 - click wants the backspace itself
    base = text_of(target)
    if output is not None:
        refuse_target(output, loaded.path or Path(loaded.label), force)
    model = loaded.copy()
    Fold().run(model, Context(model.copy(), feeds=generated(loaded)))
    feed = _feed(model, shapes)
    count = len({s.key for s in sized(model, Analyses(model).get(Shapes(shapes)))})
    if not count:
        raise UsageError("GO923", loaded.label, "has no convolution or matrix product of known size", "give --shape for open sizes")
    with watching() as monitor, monitor.progress("probe", count) as bar:
        table = probe(model, feed, shapes, bar.advance)
    text = written(base, table, output.stem if output is not None else "this-machine")
    parse(text, "the result")
    if output is None:
        emit(text)
        return
    write_bytes(output, text.encode())
    ms = predicted(model, table, shapes).ms
    emit(f"{count} shapes, step {table.step}; {loaded.label} folded takes {ms:.2f} ms\nwritten: {output}")


def written(base: str, table: LatencyTable, name: str) -> str:
    """The text of a target with a table: ``base`` under another name, its step for float32 as measured."""
    own = "\n".join(line for line in base.splitlines() if not line.startswith("# "))
    own = re.split(r"(?m)^\[latency\]", own)[0].strip()
    own = re.sub(r"(?m)^name = .*$", f'name = "{name}"', own, count=1)
    step = (
        f'float32 = {{ value = {table.step}, evidence = "measured", source = "target probe: times of a 1x1 convolution by width" }}'
    )
    own = re.sub(r"(?m)^float32 = \{ value = .*$", step, own, count=1)
    return f"{own}\n\n{to_toml(table, source())}\n"


def _feed(model: Model, shapes: InputShapes) -> Feed:
    feed = dict(generated(model, 1).first())
    for name, shape in shapes:
        if name in feed and feed[name].shape != tuple(shape):
            feed[name] = np.resize(feed[name], shape)
    return feed
