"""``graphopt check MODEL...``: does a model hold what a team wants of every model it ships?"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from graphopt.check import Checked
from graphopt.check import baseline as baselines
from graphopt.check.baseline import Baseline
from graphopt.check.config import Config, Options, find, parse_limit, read
from graphopt.check.fix import fix_models
from graphopt.check.session import Request, check, find_models, settings_for
from graphopt.cli.common import debug_option, emit, format_option, limit_options, on_terminal
from graphopt.cli.parts import PartFailed, check_parts, divided
from graphopt.cli.progress import watching
from graphopt.errors import UsageError
from graphopt.guard.limits import Limits
from graphopt.model.files import identity_of, write_bytes

FORMATS = ("text", "json", "sarif", "junit", "github", "markdown")


def _words(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    """``GO1,GO301``, any number of times; None if there are none."""
    del ctx, parameter
    words = tuple(filter(None, (word.strip() for text in value for word in text.split(","))))
    return words or None


@click.command(name="check", short_help="Check models by rules, for continuous integration.")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--against", metavar="REFERENCE", help="A model to compare with: interface, drift, latency.")
@click.option("-d", "--data", metavar="DATA", help="Samples for drift, as for `run`; generated without it.")
@click.option("--preprocess", metavar="STEPS", help="How images become inputs.")
@click.option("-t", "--target", metavar="TARGET", help="The device: a name or a TOML file.")
@click.option("--select", multiple=True, metavar="RULES", callback=_words, help="Only these: codes, beginnings, names, or all.")
@click.option("--ignore", multiple=True, metavar="RULES", callback=_words, help="Not these.")
@click.option("--error", multiple=True, metavar="RULES", callback=_words, help="Let these fail the check.")
@click.option("--warning", multiple=True, metavar="RULES", callback=_words, help="Let these be told, and not fail the check.")
@click.option("--limit", multiple=True, metavar="NAME=NUMBER", help="A budget: max-macs=5e8, min-sqnr-db=30 ...")
@click.option("--baseline", type=click.Path(path_type=Path), help="Findings that do not count: a file of --write-baseline.")
@click.option("--write-baseline", type=click.Path(path_type=Path), help="Write what is found now as a baseline.")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="The configuration file; else one is looked for.")
@click.option("--no-config", is_flag=True, help="Look for no configuration file.")
@click.option("--fix", type=click.Path(path_type=Path), metavar="FOLDER", help="Write mended models into FOLDER, verified.")
@format_option(*FORMATS)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the report to a file; it is overwritten.")
@click.option("--also", multiple=True, metavar="FORMAT=FILE", help="One more report, in another format; it is overwritten.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Processes side by side; by default one for each processor.")
@click.option("--samples", type=click.IntRange(min=1), default=32, show_default=True, help="How many samples drift is measured on.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of one operator.")
@click.option("--seconds", type=click.FloatRange(min=0), default=20.0, show_default=True, help="How long latency is measured.")
@limit_options
@debug_option
@click.pass_context
def command(
    ctx: click.Context,
    models: tuple[str, ...],
    against: str | None,
    data: str | None,
    preprocess: str | None,
    target: str | None,
    select: tuple[str, ...] | None,
    ignore: tuple[str, ...] | None,
    error: tuple[str, ...] | None,
    warning: tuple[str, ...] | None,
    limit: tuple[str, ...],
    baseline: Path | None,
    write_baseline: Path | None,
    config_path: Path | None,
    no_config: bool,
    fix: Path | None,
    form: str,
    output: Path | None,
    also: tuple[str, ...],
    jobs: int | None,
    samples: int,
    threads: int,
    seconds: float,
    memory_limit: int | None,
    time_limit: float | None,
) -> int:
    """Check MODELs (paths or patterns) by rules, and exit with 1 if one has an error.

    \b
    graphopt check models/**/*.onnx --ignore GO3
    graphopt check new.onnx --against old.onnx --limit min-sqnr-db=30

    What to check can stand in `pyproject.toml` or `graphopt.toml`. `graphopt explain` lists the rules.
    """  # noqa: D301 - click wants the backspace itself
    if no_config and config_path is not None:
        raise UsageError("GO955", "--no-config", "goes with no --config", "give one of them")
    reports = [(form, output), *map(_also, also)]
    options = Options(target, select, ignore, error, warning, against, data, preprocess, dict(map(parse_limit, limit)))
    if write_baseline is not None and (baseline is not None or fix is not None or output is not None or also):
        raise UsageError("GO955", "--write-baseline", "goes with no other output and no --baseline", "give one of them")
    request = Request(
        models,
        options,
        Config() if no_config else _config(config_path),
        baseline,
        Limits(memory_limit, time_limit),
        samples,
        threads,
        seconds,
    )
    with watching() as monitor:
        paths = find_models(request)
        _refuse_outputs([place for _, place in [*reports, ("", write_baseline)] if place is not None], paths, request)
        if write_baseline is not None:
            if write_baseline.exists():
                Baseline.read(write_baseline)  # nothing but a baseline is overwritten by one
            return _write_baseline(write_baseline, check(request, monitor.log, use_baseline=False))
        parts = divided(paths, _jobs(jobs, paths, request))
        try:
            results = check(request, monitor.log) if len(parts) == 1 else check_parts(parts, paths, ctx)
        except PartFailed as failed:
            click.echo(failed.told, err=True)
            return failed.code
    for kind, place in reports:
        _report(results, kind, place)
    if fix is not None:
        with watching() as monitor:
            written = list(fix_models(results, fix, request, monitor))
        for line in written:
            click.echo(line, err=True)
    return 1 if any(checked.failed for checked in results) else 0


def _jobs(asked: int | None, paths: Sequence[Path], request: Request) -> int:
    """How many processes: one where latency is measured, which others would disturb."""
    timed = any("max-latency-ratio" in settings_for(path, request).asked.limits for path in paths)
    return 1 if timed else asked or os.cpu_count() or 1


def _refuse_outputs(places: Sequence[Path], models: Sequence[Path], request: Request) -> None:
    """UsageError GO907 for a report over what the check reads, over a model (a pattern that the shell expanded), or twice over one
    file.
    """
    asked = [request.options.over(request.config.options_for(path)) for path in models]
    read = [
        *models,
        *(Path(place) for one in asked for place in (one.against, one.data) if place),
        request.baseline,
        request.config.baseline,
    ]
    inputs = {identity_of(path) for path in read if path is not None} - {None}
    seen: set[Path] = set()
    for place in places:
        if identity_of(place) in inputs or (place.is_file() and place.suffix.lower() == ".onnx"):
            raise UsageError("GO907", str(place), "the report would overwrite what is there to be read", "name another file")
        if place.is_dir():
            raise UsageError("GO908", str(place), "is a folder", "name the output file")
        if place.resolve() in seen:
            raise UsageError("GO955", str(place), "two reports go to this file", "name another file for one of them")
        seen.add(place.resolve())


def _also(text: str) -> tuple[str, Path]:
    """``sarif=report.sarif``."""
    kind, equals, place = text.partition("=")
    if kind not in FORMATS or not equals or not place:
        raise UsageError("GO955", "--also", f"{text!r} is not FORMAT=FILE", f"formats are {', '.join(FORMATS)}")
    return kind, Path(place)


def _config(path: Path | None) -> Config:
    found = path or find(Path.cwd())
    return Config() if found is None else read(found)


def _write_baseline(path: Path, results: Sequence[Checked]) -> int:
    count = baselines.write(path, results)
    emit(f"{count} findings of {len(results)} models written to {path}")
    return 0


def _report(results: Sequence[Checked], form: str, output: Path | None) -> None:
    module = importlib.import_module(f"graphopt.report.checks.{form}")
    if form == "text":
        text: str = module.render(results, colour=output is None and on_terminal(sys.stdout))
    else:
        text = module.render(results)
    if output is None:
        emit(text)
        return
    raw = (text if text.endswith("\n") else text + "\n").encode("utf-8", "backslashreplace")
    if (output.exists() and not output.is_file()) or output.parent.resolve() == Path("/dev"):
        with output.open("ab") as stream:  # a pipe or a device: a file must not take its place
            stream.write(raw)
    else:
        write_bytes(output.resolve(), raw)
