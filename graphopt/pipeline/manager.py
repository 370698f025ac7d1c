"""Running a pipeline, with proof between the passes.

    for each pass:   copy the model -> run the pass on the copy -> structure -> interface -> outputs -> figures

The input model is never edited: a pass gets a private copy. What it returns goes on only if

- it is a valid graph (what the input itself violates already is not held against a pass);
- its inputs and outputs are the input's, by name, type and shape;
- its outputs are what the pass promised. An exact pass is held against its own input. A lossy pass that names a reference
  (for pruning the masked original) is held against that, at the same tolerance; without one it is measured only. For
  every pass the drift from the *original* is measured.

The tolerance of equality is ``EXACT_TOLERANCE`` of the output's range: float32 rounds at 6e-8, sums of a few thousand
products in another order differ by some 1e-6 of the range, and deep networks amplify that by one order or two; a wrong
kernel differs by far more than 1e-4. Where operators compute in half precision it is ``HALF_ROUNDINGS`` units of that type instead.

**A model that onnxruntime cannot run** cannot be verified. That is an error, unless the caller says ``verify=False``;
then the passes run with structure and interface checked only, and the report says loudly that nothing was compared. The
same goes for a model that answers differently when it is run twice on the same input.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.analysis import Analyses
from graphopt.errors import UsageError
from graphopt.guard.death import size
from graphopt.guard.limits import Limits
from graphopt.model import Model
from graphopt.model.source import Source
from graphopt.pipeline.base import Kind, Pass
from graphopt.pipeline.checks import Checker
from graphopt.pipeline.context import DEFAULT_TARGET, Context, Monitor, Silent, shapes_of
from graphopt.pipeline.figures import figures
from graphopt.pipeline.labels import Labels
from graphopt.pipeline.pipeline import Passes, Pipeline
from graphopt.pipeline.record import Accuracy, Figures, PassRecord, Report, Verification
from graphopt.runtime import Feeds, Timing, compare_time, feeds_from, generated, open_data
from graphopt.runtime.feeds import bytes_of
from graphopt.runtime.session import LARGE, PROTO_LIMIT, Runnable
from graphopt.target import Target
from graphopt.verify import isolated
from graphopt.verify.contact import first_contact, unlimited

SAMPLES = 64
"""How many feeds the outputs are compared on."""

TIMING_PAIRS = 200
TIMING_SECONDS = 3.0
"""Latency is the median ratio of at most so many interleaved pairs, or of as many as fit into the time."""

SLOWER = 0.97
"""Below this ratio a result is called slower; between this and 1 lies what the measurement cannot tell."""

LARGER = 1.01
"""Above this ratio of bytes a result is called larger; a name or a shape more is not worth a word."""

GENERATED = "GENERATED INPUTS, NOT CALIBRATED: no data was given, so the choices were made on generated inputs"
"""Said of a lossy pass that looked at inputs nobody gave."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gives: the compiled model, and the report on how it came about."""

    model: Model
    report: Report

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model, atomically. Raises UsageError if ``path`` exists (without ``force``) or is the input."""
        self.model.save(path, force=force)


def run(
    model: Model | Source,
    passes: Passes,
    *,
    data: Any = None,
    preprocess: str | None = None,
    target: Target | str = DEFAULT_TARGET,
    labels: str | os.PathLike[str] | None = None,
    seed: int = 0,
    threads: int = 1,
    samples: int = SAMPLES,
    timing: bool | None = None,
    freeze_initializers: bool = False,
    inline_functions: bool = False,
    verify: bool = True,
    monitor: Monitor | None = None,
    memory_limit: int | None = None,
    time_limit: float | None = None,
    isolate: bool = True,
) -> Result:
    """Run passes over a model and verify each.

    Args:
        model: a Model, or whatever ``Model.load`` takes. It is not changed.
        passes: a text (``"fold,quant"``), a pass, a Pipeline, or a sequence of texts and passes. None at all is a round
            trip.
        data: samples for calibration and verification: a path or ``module:callable`` as on the command line, an array,
            a dict of arrays, a re-iterable of them, an onnxruntime CalibrationDataReader. Inputs are generated where it
            is left out, and the result is then not calibrated.
        preprocess: how images become inputs, where ``data`` names images.
        target: the device, by name or TOML file.
        labels: a ``.npz`` with the model's inputs and an array ``labels``; top-1 accuracy is then measured before and
            after.
        seed: for everything that draws.
        threads: threads of one operator while calibrating and verifying; latency is measured with one in any case.
        samples: how many feeds the outputs are compared on.
        timing: whether to measure latency after each pass; if None, unless the model's weights take more than 256 MiB, for both
            models have to be in memory then, in the form in which they are fastest.
        freeze_initializers: as for ``Model.load``, where ``model`` is not loaded yet.
        inline_functions: likewise.
        verify: False goes on with a model that onnxruntime cannot run.
        monitor: gets progress and log lines.
        memory_limit: bytes that the model may take until it is known to be harmless; its size decides if None, 0 is no limit.
        time_limit: seconds that checking, loading and running it once may take; likewise.
        isolate: whether an unknown model is first tried in a worker process, which may crash in this one's place.

    Raises:
        VerificationError: GO5xx, a pass did not keep its promise; nothing was written but the folder that the message
            names. BudgetError, DataError, ModelError, UsageError: what the caller can mend.
    """
    start = time.perf_counter()
    pipeline = Pipeline.of(passes)
    device = target if isinstance(target, Target) else Target.load(target)
    original, notes = _named(_loaded(model, freeze_initializers, inline_functions), pipeline)
    limits = Limits(memory_limit, time_limit)
    watcher: Monitor = Silent() if monitor is None else monitor
    if data is not None or labels is not None:
        unlimited()
    labelled = None if labels is None else Labels.load(labels, original)
    user = None if data is None else _user_feeds(original, data, preprocess)
    given = 0 if user is None else bytes_of(user.first())
    if isolate:
        isolated.probe(original, limits, feed=None if user is None else user.first(), seed=seed, threads=threads)
    facts = Analyses(original)
    with first_contact(original, limits, given=given) as contact:
        feeds = generated(original, seed=seed) if user is None else user
        contact.admit(facts, shapes_of(feeds))
        checker = Checker(facts, feeds.take(samples), watcher, threads)
        report = Report(
            model=original.label,
            pipeline=str(pipeline),
            target=device.name,
            data=feeds.source,
            calibrated=feeds.calibrated,
            seed=seed,
            figures=figures(facts, shapes_of(feeds)),
            notes=[
                *notes,
                *(feeds.notes if feeds.calibrated else ()),
                *checker.open(needed=bool(pipeline.passes) or labelled is not None, required=verify),
            ],
        )
    contact.known(exact=all(one.kind is Kind.EXACT for one in pipeline.passes))
    if timing is None:
        timing = original.weight_bytes() <= LARGE
        if not timing:
            report.notes.append(
                f"latency was not measured: the weights take {size(original.weight_bytes())} (`--timing` measures it)"
            )
    judged = labelled if checker.runs else None
    driver = _Driver(original, report.figures, feeds, device, seed, threads, watcher, checker, judged, timing)
    report.accuracy = driver.accuracy(original)
    current = original.copy()
    last = None
    for one in pipeline.passes:
        current, last = driver.step(one, current, last, report.accuracy)
        report.passes.append(last)
    report.notes += _closing_notes(report)
    report.seconds = time.perf_counter() - start
    return Result(current, report)


def _loaded(model: Model | Source, freeze: bool, inline: bool) -> Model:
    if not isinstance(model, Model):
        return Model.load(model, freeze_initializers=freeze, inline_functions=inline)
    if freeze or inline:
        raise UsageError("GO917", model.label, "is loaded already, as it is", "give these options to `load`, or the path to `run`")
    return model


def _named(model: Model, pipeline: Pipeline) -> tuple[Model, list[str]]:
    """The model with nodes that have names of their own, without which it could not be run and verified, and what to say of it."""
    if not pipeline.passes or not model.repeated_names():
        return model, []
    separate = model.copy()
    renamed = len(separate.separate_names())
    return separate, [f"{renamed} node{'s were' if renamed > 1 else ' was'} renamed: another node had the name"]


def _user_feeds(model: Model, data: Any, preprocess: str | None) -> Feeds:
    if isinstance(data, (str, Path)):
        return open_data(str(data), model, preprocess)
    return feeds_from(data, model)


@dataclass(frozen=True, slots=True)
class _Driver:
    """What stays the same from pass to pass."""

    original: Model
    figures: Figures
    feeds: Feeds
    target: Target
    seed: int
    threads: int
    monitor: Monitor
    checker: Checker
    labels: Labels | None
    timing: bool

    def step(self, one: Pass, before: Model, last: PassRecord | None, accuracy: Accuracy | None) -> tuple[Model, PassRecord]:
        """Run one pass and verify it; the model after it, and its record. ``before`` stays as it is."""
        start = time.perf_counter()
        self.monitor.log(str(one))
        work = before.copy()
        ctx = Context(
            self.original,
            target=self.target,
            feeds=self.feeds,
            seed=self.seed,
            threads=self.threads,
            monitor=self.monitor,
        )
        outcome = one.run(work, ctx)
        if outcome.changed:
            verification, drift = self.checker.check(one, before, work, outcome)
            numbers = figures(Analyses(work), ctx.input_shapes())
            timing, accuracy = self._latency(one, work), self.accuracy(work)
        else:
            # Whatever was done to the copy is dropped with it; the figures are those of the model before.
            work, verification = before, Verification("unchanged")
            numbers = self.figures if last is None else last.figures
            drift, timing = (None, None) if last is None else (last.drift, last.timing)
            accuracy = accuracy if last is None else last.accuracy
        record = PassRecord(
            text=str(one),
            name=one.name,
            kind=one.kept(outcome).value,
            changed=outcome.changed,
            figures=numbers,
            verification=verification,
            drift=drift,
            timing=timing,
            accuracy=accuracy,
            seconds=time.perf_counter() - start,
            rewrites=tuple(outcome.rewrites),
            refusals=tuple(outcome.refusals),
            notes=(*self._data_notes(one.kept(outcome), ctx), *outcome.notes),
            facts=dict(outcome.facts),
        )
        return work, record

    def accuracy(self, model: Model) -> Accuracy | None:
        """Top-1 on the labelled samples, where there are any."""
        if self.labels is None:
            return None
        with self.monitor.progress("accuracy", len(self.labels)) as bar:
            return self.labels.accuracy(model, bar, self.threads)

    def _latency(self, one: Pass, model: Model) -> Timing | None:
        if not (self.timing and self.checker.runs):
            return None
        with self.monitor.progress(f"time {one.name}", None):
            first = self.checker.first
            a, b = _fastest(self.original), _fastest(model)
            return compare_time(a, b, first, repeats=TIMING_PAIRS, seconds=TIMING_SECONDS, threads=1)

    def _data_notes(self, kind: Kind, ctx: Context) -> list[str]:
        """An exact pass gives the same on any data; what a lossy one chose by made-up data must be known."""
        if kind is Kind.LOSSY and ctx.data_used and not self.feeds.calibrated:
            return [GENERATED]
        return []


def _fastest(model: Model) -> Runnable:
    """A model in the form in which the runtime makes it fastest, whatever memory that takes."""
    return model.proto() if LARGE < model.weight_bytes() < PROTO_LIMIT else model


def _closing_notes(report: Report) -> list[str]:
    """What nobody asked for: a result that is slower, larger or costlier than the input."""
    notes: list[str] = []
    before, after = report.figures, report.result
    timing = report.passes[-1].timing if report.passes else None
    if timing is not None and timing.ratio < SLOWER:
        notes.append(f"SLOWER: the result runs at {timing.ratio:.2f} times the input's speed on this machine")
    if after.bytes > before.bytes * LARGER:
        notes.append(f"LARGER: the result takes {after.bytes / before.bytes:.2f} times the input's bytes")
    if after.macs > before.macs and len(after.unknown) >= len(before.unknown):
        notes.append(f"COSTLIER: the result takes {after.macs / max(before.macs, 1):.2f} times the input's MACs")
    return notes
