"""``graphopt run MODEL``: compile a model.

The outputs' paths are looked at first, before the long work; they are written last, after every pass was verified.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from graphopt.cli.common import debug_option, emit, format_option, limit_options, load_options, model_argument, on_terminal
from graphopt.cli.progress import watching
from graphopt.cli.terminal import stdout_width
from graphopt.errors import BudgetError, UsageError
from graphopt.guard.doing import watched
from graphopt.guard.limits import Limits
from graphopt.model import Model
from graphopt.model.files import refuse_target, write_bytes
from graphopt.pipeline import DEFAULT_TARGET
from graphopt.pipeline.manager import SAMPLES, run
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.record import Report
from graphopt.report import to_json, to_text
from graphopt.target import Target
from graphopt.verify.contact import begin

EXACT = "simplify,fold"
"""The pipeline where none is named: everything that changes no output."""


@click.command(name="run", short_help="Compile a model.")
@model_argument
@click.option("-p", "--passes", default=EXACT, show_default=True, metavar="PASSES", help="The passes in their order.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write the result; without it, only report.")
@click.option("-d", "--data", metavar="DATA", help="Samples: .npz, .npy, a folder of them or of images, module:callable.")
@click.option("--preprocess", metavar="STEPS", help="How images become inputs.")
@click.option("--labels", type=click.Path(), help="A .npz with inputs and `labels`: measure top-1 before and after.")
@click.option("-t", "--target", default=DEFAULT_TARGET, show_default=True, help="The device: a name or a TOML file.")
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="Write the whole report as JSON.")
@format_option("text", "json")
@click.option("-f", "--force", is_flag=True, help="Overwrite existing outputs, and write a pruned model that is not faster.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For everything that draws.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of one operator.")
@click.option("--samples", type=click.IntRange(min=1), default=SAMPLES, show_default=True, help="How many samples to verify on.")
@click.option("--timing/--no-timing", default=None, help="Measure latency (by default, unless the weights exceed 256 MiB).")
@click.option("--explain", is_flag=True, help="List every rewrite, and every refusal with its reason.")
@load_options
@click.option("--unverified", is_flag=True, help="Go on with a model that onnxruntime cannot run; nothing is compared.")
@limit_options
@debug_option
def command(
    model: str,
    passes: str,
    output: Path | None,
    data: str | None,
    preprocess: str | None,
    labels: str | None,
    target: str,
    report_path: Path | None,
    form: str,
    force: bool,
    seed: int,
    threads: int,
    samples: int,
    timing: bool | None,
    explain: bool,
    freeze_initializers: bool,
    inline_functions: bool,
    unverified: bool,
    memory_limit: int | None,
    time_limit: float | None,
) -> None:
    """Compile MODEL: run passes over it, verify each against the model before it, then write the result.

    \b
    graphopt run model.onnx --passes fold,prune:macs=0.75:multiple=8,quant \\
        --data calib.npz -o model.opt.onnx

    `graphopt passes` lists the passes and their options. Without --data, inputs are generated: good enough to verify
    with, not to calibrate on. Nothing is written unless every pass keeps its promise.
    """  # noqa: D301 - click wants the backspace itself
    pipeline = Pipeline.parse(passes)
    device = Target.load(target)
    check_outputs(Path(model), output, report_path, force)
    begin(model, Limits(memory_limit, time_limit))
    loaded = Model.load(model, freeze_initializers=freeze_initializers, inline_functions=inline_functions)
    for path in filter(None, (output, report_path)):  # now that it is known what the model reads besides its own file
        loaded.refuse_output(path, force=force)
    with watching() as monitor:
        result = run(
            loaded,
            pipeline,
            data=data,
            preprocess=preprocess,
            target=device,
            labels=labels,
            seed=seed,
            threads=threads,
            samples=samples,
            timing=timing,
            verify=not unverified,
            monitor=monitor,
            memory_limit=memory_limit,
            time_limit=time_limit,
            isolate=watched() is None,
        )
    check_faster(result.report, output, force=force)
    if output is not None:
        result.save(output, force=force)
    if report_path is not None:
        write_bytes(report_path, to_json(result.report).encode())
    if form == "json":
        emit(to_json(result.report))
    else:
        colour = on_terminal(sys.stdout)
        emit(to_text(result.report, width=stdout_width(), colour=colour, explain=explain))
        emit(f"\nwritten: {output}" if output is not None else "\nnothing written: no -o was given")
    if any("unmet" in one.facts for one in result.report.passes):
        click.get_current_context().exit(1)


def check_faster(report: Report, output: Path | None, *, force: bool) -> None:
    """Nobody prunes to be slower. Raises BudgetError GO402, unless ``force``, where a result to be written is not faster."""
    for record in report.passes:
        if output is None or force or not record.facts.get("not_faster"):
            continue
        why = next((note for note in record.notes if note.startswith("NOT FASTER")), "the pruned model is not faster")
        hint = "widths on the device's steps (`prune:multiple=`), `prune:latency=`, or --force to write it all the same"
        raise BudgetError("GO402", f"{report.model}: {record.text}", f"{why}; nothing was written", hint)


def check_outputs(model: Path, output: Path | None, report: Path | None, force: bool) -> None:
    """Raises UsageError for outputs that exist, are the model itself, or are one file."""
    for path in (output, report):
        if path is not None:
            refuse_target(path, model, force)
    if output is not None and report is not None and output.resolve() == report.resolve():
        raise UsageError("GO908", str(output), "two outputs would be one file", "name two files")
