"""``graphopt sensitivity MODEL --data D``: what each group and step of a pass costs at the output, measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich import box
from rich.table import Table

from graphopt.analysis import Analyses
from graphopt.cli.common import debug_option, emit, format_option, limit_options, load_options, model_argument
from graphopt.cli.progress import watching
from graphopt.cli.terminal import shortened, show, stdout_width
from graphopt.errors import printable
from graphopt.guard.doing import watched
from graphopt.guard.limits import Limits
from graphopt.model import Model
from graphopt.model.files import refuse_target, write_bytes
from graphopt.pipeline import DEFAULT_TARGET, Context
from graphopt.pipeline.context import shapes_of
from graphopt.pipeline.sensitivity import SURVEYS, Kind, Series, survey
from graphopt.report.plot import svg
from graphopt.runtime import Session, generated, open_data
from graphopt.runtime.feeds import bytes_of
from graphopt.target import Target
from graphopt.verify import isolated
from graphopt.verify.contact import begin, first_contact, unlimited


@click.command(name="sensitivity", short_help="Show what a pass costs at the output, group by group.")
@model_argument
@click.option("-p", "--pass", "name", type=click.Choice(sorted(SURVEYS)), default="prune", show_default=True, help="Of which pass.")
@click.option("-d", "--data", metavar="DATA", help="Samples: .npz, .npy, a folder of them or of images, module:callable.")
@click.option("--preprocess", metavar="STEPS", help="How images become inputs.")
@click.option("-t", "--target", default=DEFAULT_TARGET, show_default=True, help="The device: a name or a TOML file.")
@click.option("--multiple", type=click.IntRange(min=1), help="Widths are multiples of this; the target's step if not given.")
@click.option("--svg", "plot", type=click.Path(path_type=Path), help="Write the curves as a picture.")
@click.option("-f", "--force", is_flag=True, help="Overwrite an existing picture.")
@format_option("text", "json")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For everything that draws.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of one operator.")
@load_options
@limit_options
@debug_option
def command(
    model: str,
    name: str,
    data: str | None,
    preprocess: str | None,
    target: str,
    multiple: int | None,
    plot: Path | None,
    force: bool,
    form: str,
    seed: int,
    threads: int,
    freeze_initializers: bool,
    inline_functions: bool,
    memory_limit: int | None,
    time_limit: float | None,
) -> None:
    """Show what a pass costs at MODEL's output: removing channels, for each group alone and at several steps, or int8
    (`--pass quant`), for each kernel alone and for all of them, one after the other.

    \b
    graphopt sensitivity model.onnx --data calib.npz --svg curves.svg

    An error of 0.01 is a hundredth of the output's variance (of its mean square for quant), on samples that took no part in
    compensating.
    """  # noqa: D301 - click wants the backspace itself
    limits, device = Limits(memory_limit, time_limit), Target.load(target)
    if plot is not None:
        refuse_target(plot, Path(model), force)
    begin(model, limits)
    loaded = Model.load(model, freeze_initializers=freeze_initializers, inline_functions=inline_functions)
    if data is not None:
        unlimited()
    user = None if data is None else open_data(data, loaded, preprocess)
    first = None if user is None else user.first()
    if watched() is None:
        isolated.probe(loaded, limits, feed=first, seed=seed, threads=threads)
    with first_contact(loaded, limits, given=0 if first is None else bytes_of(first)) as contact:
        feeds = generated(loaded, seed=seed) if user is None else user
        contact.admit(Analyses(loaded), shapes_of(feeds))
        Session(loaded, threads=threads).run(feeds.first())  # what shapes do not tell meets the limits here
    contact.known(exact=False)
    with watching() as monitor:
        ctx = Context(loaded, target=device, feeds=feeds, seed=seed, threads=threads, monitor=monitor)
        found = survey(name, loaded.copy(), ctx, multiple)
    series = found.series
    if plot is not None:
        write_bytes(plot, svg(f"{loaded.label}: {name}", series, SURVEYS[name].step).encode())
    if form == "json":
        rows = [
            {"place": s.place, "size": s.size, "points": [{"removed": n, "saves": m, "error": e} for n, m, e in s.points]}
            for s in series
        ]
        head = {"schema": 1, "model": loaded.label, "pass": name, "calibrated": feeds.calibrated, "notes": found.notes}
        emit(json.dumps({**head, "series": rows}, indent=2))
        return
    _print(loaded, series, SURVEYS[name], feeds.calibrated)
    for note in found.notes:
        emit(printable(f"note: {note}"))


def _print(model: Model, series: Sequence[Series], kind: Kind, calibrated: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("from", no_wrap=True)
    for head in (*kind.heads, "error"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in sorted(series, key=lambda s: s.points[-1][2] if s.points else 0.0):
        for at, (count, saves, error) in enumerate(one.points):
            name = shortened(printable(one.place), max(20, stdout_width() - 45)) if at == 0 else ""
            table.add_row(name, str(one.size) if at == 0 else "", str(count), f"{saves:.1%}", f"{error:.2g}")
    made_up = "" if calibrated else "; GENERATED INPUTS, not data: these errors say little"
    show(printable(f"{model.label}: {len(series)} {kind.places}, the most robust first{made_up}"), table)
