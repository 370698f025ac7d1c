"""A check of several models: configuration, rules and baseline together. The command line and other packages' tests begin here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graphopt.check import registry
from graphopt.check.baseline import Baseline
from graphopt.check.config import Config, Options, expand
from graphopt.check.finding import Checked, Level
from graphopt.check.runner import Settings, check_file
from graphopt.check.subject import Asked
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
        given = [path for one in request.config.models for path in expand(one, request.config.folder)]
    if not given:
        hint = "name models, or list them under `models` of the configuration"
        raise UsageError("GO950", "graphopt check", "there is no model to check", hint)
    return list({path.resolve(): path for path in given}.values())


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
    options = request.options.over(request.config.options_for(path))
    codes = registry.chosen(options.select or (), options.ignore or ())
    levels = dict.fromkeys(_meant(options.warning), Level.WARNING) | dict.fromkeys(_meant(options.error), Level.ERROR)
    against = None if options.against is None else Path(options.against)
    if against is not None and not against.exists():
        raise UsageError("GO950", str(against), "there is no such reference", "mend the path of --against")
    needing = [name for name in options.limits if name.startswith("min-") or name == "max-latency-ratio"]
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


def _meant(words: Iterable[str] | None) -> list[str]:
    return [code for word in words or () for code in registry.matching(word)]
