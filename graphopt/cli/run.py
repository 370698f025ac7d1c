"""``graphopt run MODEL``: compile a model."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from graphopt.cli.common import debug_option, emit, format_option, limit_options, load_options, model_argument, on_terminal
from graphopt.cli.compiling import check_faster, compiled
from graphopt.cli.terminal import stdout_width
from graphopt.model.files import write_bytes
from graphopt.pipeline import DEFAULT_TARGET
from graphopt.pipeline.manager import SAMPLES
from graphopt.pipeline.pipeline import Pipeline
from graphopt.report import to_json, to_text

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
@click.option("--metric", metavar="METRIC", help="What `quant:drop=` counts: agreement, sqnr, or a function module:function.")
@click.option("--allow-slower", is_flag=True, help="Keep an int8 model that runs slower than float here.")
@click.option("--requantize", is_flag=True, help="Drop the quantizers that the model comes with, and make them anew.")
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
    metric: str | None,
    allow_slower: bool,
    requantize: bool,
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
    if metric is not None:
        pipeline = pipeline.given("--metric", metric)
    for flag, wanted in (("--allow-slower", allow_slower), ("--requantize", requantize)):
        if wanted:
            pipeline = pipeline.given(flag, True)
    result = compiled(
        model,
        pipeline,
        target,
        (output, report_path),
        force=force,
        freeze_initializers=freeze_initializers,
        inline_functions=inline_functions,
        memory_limit=memory_limit,
        time_limit=time_limit,
        data=data,
        preprocess=preprocess,
        labels=labels,
        seed=seed,
        threads=threads,
        samples=samples,
        timing=timing,
        verify=not unverified,
    )
    check_faster(result.report, (output,), force=force)
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
