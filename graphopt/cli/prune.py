"""``graphopt prune MODEL``: fold and prune in one command, and write the decision as masks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from graphopt.cli.common import debug_option, emit, format_option, limit_options, load_options, model_argument, on_terminal
from graphopt.cli.compiling import check_faster, compiled
from graphopt.cli.terminal import stdout_width
from graphopt.errors import DataError
from graphopt.model.files import write_bytes
from graphopt.pipeline import DEFAULT_TARGET
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.record import Report
from graphopt.report import to_json, to_text


@click.command(name="prune", short_help="Fold and prune a model.")
@model_argument
@click.option(
    "-b", "--budget", default="macs=0.75", show_default=True, metavar="GOAL", help="macs=, params=, size=, latency= or ratio=."
)
@click.option("--options", default="", metavar="OPTIONS", help="Further options of the pass, as multiple=8:heads.")
@click.option("--fold/--no-fold", default=True, help="Fold first, as the model will run.")
@click.option("--emit-masks", type=click.Path(path_type=Path), help="Write what was decided, in the names of MODEL, as .npz.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write the result; without it, only report.")
@click.option("-d", "--data", metavar="DATA", help="Samples: .npz, .npy, a folder of them or of images, module:callable.")
@click.option("--preprocess", metavar="STEPS", help="How images become inputs.")
@click.option("-t", "--target", default=DEFAULT_TARGET, show_default=True, help="The device: a name or a TOML file.")
@format_option("text", "json")
@click.option("-f", "--force", is_flag=True, help="Overwrite existing outputs, and write a result that is not faster.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For everything that draws.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of one operator.")
@click.option("--timing/--no-timing", default=None, help="Measure latency (by default, unless the weights exceed 256 MiB).")
@load_options
@limit_options
@debug_option
def command(
    model: str,
    budget: str,
    options: str,
    fold: bool,
    emit_masks: Path | None,
    output: Path | None,
    data: str | None,
    preprocess: str | None,
    target: str,
    form: str,
    force: bool,
    seed: int,
    threads: int,
    timing: bool | None,
    freeze_initializers: bool,
    inline_functions: bool,
    memory_limit: int | None,
    time_limit: float | None,
) -> None:
    """Fold MODEL and remove channels within a budget: `run --passes fold,prune:GOAL`.

    \b
    graphopt prune model.onnx -b macs=0.7 --data calib.npz -o pruned.onnx
    graphopt prune model.onnx -b latency=0.7 --data calib.npz --emit-masks masks.npz

    The masks name tensors of MODEL, one boolean a channel, False for those that go; `prune:masks=masks.npz` takes them back.
    """  # noqa: D301 - click wants the backspace itself
    pipeline = Pipeline.parse(("fold," if fold else "") + ":".join(part for part in ("prune", budget, options) if part))
    result = compiled(
        model,
        pipeline,
        target,
        (output, emit_masks),
        force=force,
        freeze_initializers=freeze_initializers,
        inline_functions=inline_functions,
        memory_limit=memory_limit,
        time_limit=time_limit,
        data=data,
        preprocess=preprocess,
        seed=seed,
        threads=threads,
        timing=timing,
    )
    check_faster(result.report, (output, emit_masks), force=force)
    masks = None if emit_masks is None else archive(_masks(result.report, emit_masks))
    if output is not None:
        result.save(output, force=force)
    if emit_masks is not None and masks is not None:
        write_bytes(emit_masks, masks)
    if form == "json":
        emit(to_json(result.report))
        return
    emit(to_text(result.report, width=stdout_width(), colour=on_terminal(sys.stdout), explain=False))
    for path in filter(None, (output, emit_masks)):
        emit(f"\nwritten: {path}")
    if output is None and emit_masks is None:
        emit("\nnothing written: no -o was given")


def _masks(report: Report, path: Path) -> dict[str, str]:
    """What was decided. Raises DataError GO843 where channels went and no tensor of the file has them."""
    record = report.passes[-1]
    masks: Any = record.facts.get("masks") or {}
    if not masks and record.rewrites:
        why = "no tensor of the file that was given holds the channels that went"
        raise DataError("GO843", str(path), why, "decide without folding (--no-fold)")
    return dict(masks)


def archive(masks: Any) -> bytes:
    """An .npz archive of masks that are texts of ones and zeros; the same bytes every time."""
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as whole:
        for name, text in sorted(masks.items()):
            array = io.BytesIO()
            np.save(array, np.asarray([c == "1" for c in text], bool), allow_pickle=False)
            whole.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue())
    return packed.getvalue()
