"""A check of several models: configuration, rules and baseline together. The command line and other packages' tests begin here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graphopt.check import registry
from graphopt.check.baseline import Baseline
from graphopt.check.config import LIMITS, Config, Options, expand
from graphopt.check.finding import Checked, Level
from graphopt.check.runner import Settings, check_file
from graphopt.check.subject import NEED_REFERENCE, Asked
from graphopt.errors import UsageError
from graphopt.guard.limits import Limits
from graphopt.pipeline import DEFAULT_TARGET
from graphopt.target import Target

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller says; it goes before the configuration.

    Attributes:
        models: paths and patterns; those of the configuration if there are none.
        options: as on the command line.
        config: the configuration file's content.
        baseline: findings that do not count; the configuration's if None.
        limits: memory and time until a model is known.
        samples, threads, seconds: as ``Asked`` has them.
    """

    models: Sequence[str]
    options: Options = field(default_factory=Options)
    config: Config = field(default_factory=Config)
    baseline: Path | None = None
    limits: Limits = field(default_factory=Limits)
    samples: int = 32
    threads: int = 1
    seconds: float = 20.0


def find_models(request: Request) -> list[Path]:
    """The files to check, each once, in the order in which they were named.

    Raises:
        UsageError: GO950, a path or pattern matches no file, or there is none at all.
    """
    request.config.check_patterns()
    given = [path for one in request.models for path in expand(one, Path())]
    if not request.models:
        given = [_shown(path) for one in request.config.models for path in expand(one, request.config.folder)]
    if not given:
        hint = "name models, or list them under `models` of the configuration"
        raise UsageError("GO950", "graphopt check", "there is no model to check", hint)
    found: dict[str, Path] = {}
    for path in given:
        found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - a link is a model of its own
    return list(found.values())


def _shown(path: Path) -> Path:
    """As it is written from the current folder, if it lies there: what reads a report knows no other machine's folders."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def check(request: Request, log: Log | None = None, *, use_baseline: bool = True) -> list[Checked]:
    """Check all models.

    Raises:
        UsageError: GO950 no model, GO952 no such rule, GO953 the baseline, GO905 or GO906 the target.
        DataError: the samples do not fit.
    """
    paths = find_models(request)
    chosen = request.baseline or request.config.baseline
    baseline = None if chosen is None or not use_baseline else Baseline.read(chosen)
    settings = [settings_for(path, request) for path in paths]
    results: list[Checked] = []
    for path, one in zip(paths, settings, strict=True):
        if log is not None:
            log(f"check {path}")
        checked = check_file(path, one)
        results.append(checked if baseline is None else baseline.apply(checked))
    return results


def settings_for(path: Path, request: Request) -> Settings:
    """What holds for one model."""
    configured = request.config.options_for(path)
    options = request.options.over(configured)
    codes = registry.chosen(options.select or (), options.ignore or ())
    if not codes:
        raise UsageError("GO955", str(path), "no rule is left to ask", "a check of nothing is an error: mend --select or --ignore")
    for name in request.options.limits:
        if LIMITS[name] not in codes:
            raise UsageError(
                "GO955", f"--limit {name}", f"its rule {LIMITS[name]} is not asked", "select it, or leave the limit out"
            )
    levels = _levels(configured) | _levels(request.options)
    against = None if options.against is None else Path(options.against)
    if against is not None and not against.exists():
        raise UsageError("GO950", str(against), "there is no such reference", "mend the path of --against")
    needing = [name for name in options.limits if name in NEED_REFERENCE]
    if needing and against is None:
        raise UsageError("GO951", str(path), f"the limit {needing[0]} needs a model to compare with", "give --against REFERENCE")
    target = Target.load(options.target or DEFAULT_TARGET)
    asked = Asked(
        target,
        against=against,
        data=options.data,
        preprocess=options.preprocess,
        limits=dict(options.limits),
        samples=request.samples,
        threads=request.threads,
        seconds=request.seconds,
    )
    return Settings(asked, codes, levels, request.limits)


def _levels(options: Options) -> dict[str, Level]:
    """Code -> level; the longer word wins, and of equal ones the error."""
    pairs = [(word, Level.WARNING) for word in options.warning or ()] + [(word, Level.ERROR) for word in options.error or ()]
    found: dict[str, Level] = {}
    for word, level in sorted(pairs, key=lambda pair: registry.weight(pair[0])):
        found |= dict.fromkeys(registry.matching(word), level)
    return found
