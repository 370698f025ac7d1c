"""Is the output still the input's? Both models run on the same feeds, and each output's distance is measured (``measures.py``).

What cannot be compared is a value, not an exception: an output of another shape, a candidate that onnxruntime does not
load. Only the reference must run, for without it there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from graphopt.errors import ModelError
from graphopt.runtime.feeds import Spool
from graphopt.runtime.session import Array, Feed, Runnable, Session
from graphopt.verify.measures import Measure, OutputDrift


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a candidate's outputs are from the reference's.

    Attributes:
        outputs: one entry an output of the reference.
        runs: how many feeds were compared.
        failure: why the candidate could not be compared at all; None if it ran and has the reference's outputs.
    """

    outputs: tuple[OutputDrift, ...]
    runs: int
    failure: str | None = None

    @property
    def worst_rel(self) -> float:
        """The greatest ``rel`` of any output; infinite after a failure."""
        if self.failure is not None:
            return math.inf
        return max((output.rel for output in self.outputs), default=0.0)

    @property
    def sqnr_db(self) -> float | None:
        """The least signal-to-noise ratio of any output of floats; None if there is none."""
        return min((o.sqnr_db for o in self.outputs if o.sqnr_db is not None), default=None)

    @property
    def worst(self) -> OutputDrift | None:
        """The output with the greatest ``rel``."""
        return max(self.outputs, key=lambda output: output.rel, default=None)

    @property
    def why(self) -> str:
        """The failure, or the worst output in words."""
        if self.failure is not None:
            return self.failure
        worst = self.worst
        if worst is None:
            return "there are no outputs"
        if worst.failure is not None:
            return f"output '{worst.name}': {worst.failure}"
        if worst.kind == "exact":
            return f"output '{worst.name}': {worst.mismatch:.2%} of the elements differ"
        return f"output '{worst.name}': off by {worst.max_abs:.3g}, {worst.rel:.2g} of its range of {worst.range:.3g}"


class Recording:
    """The outputs of a model on a number of feeds, kept after its session is gone: two large models need not be in memory at once.

    Up to 256 MiB stay in memory, the rest goes into a temporary folder.

    Args:
        model: a model or a session.
        feeds: what to run it on.
        threads: threads of one operator.
        optimize: whether onnxruntime may rewrite the graph.

    Raises:
        ModelError: GO030, it does not load or run.
    """

    def __init__(self, model: Runnable | Session, feeds: Iterable[Feed], *, threads: int = 1, optimize: bool = True) -> None:
        session = model if isinstance(model, Session) else Session(model, threads=threads, optimize=optimize)
        self.label = session.label
        self.output_names = session.output_names
        self._outputs = Spool()
        for feed in feeds:
            self._outputs.add(session.run(feed))

    def __len__(self) -> int:
        return len(self._outputs)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return self._outputs.read(range(len(self)))


def compare_recorded(reference: Recording, candidate: Recording) -> Drift:
    """As ``compare``, for outputs on the same feeds."""
    measures = {name: Measure(name) for name in reference.output_names}
    missing = [name for name in reference.output_names if name not in candidate.output_names]
    if missing:
        return _result(measures, 0, f"it has no output '{missing[0]}'")
    runs = 0
    for expected, got in zip(reference, candidate, strict=True):
        for name, measure in measures.items():
            measure.update(expected[name], got[name], runs)
        runs += 1
    return _result(measures, runs, None if runs else "there was no input to compare them on")


def compare(reference: Runnable | Session, candidate: Runnable | Session, feeds: Iterable[Feed], *, threads: int = 1) -> Drift:
    """Run both models on every feed and measure each output's distance.

    Raises:
        ModelError: GO030, the reference does not load or run. (A candidate that does not is a ``failure``.)
    """
    first = reference if isinstance(reference, Session) else Session(reference, threads=threads)
    measures = {name: Measure(name) for name in first.output_names}
    try:
        second = candidate if isinstance(candidate, Session) else Session(candidate, threads=threads)
    except ModelError as error:
        return _result(measures, 0, error.diagnostic.why)
    missing = [name for name in first.output_names if name not in second.output_names]
    if missing:
        return _result(measures, 0, f"it has no output '{missing[0]}'")
    runs = 0
    for feed in feeds:
        expected = first.run(feed)
        try:
            got = second.run(feed, first.output_names)
        except ModelError as error:
            place = error.diagnostic.where.removeprefix(f"{second.label}: ").removeprefix(second.label)
            return _result(measures, runs, f"{place}: {error.diagnostic.why}" if place else error.diagnostic.why)
        for name, measure in measures.items():
            measure.update(expected[name], got[name], runs)
        runs += 1
    return _result(measures, runs, None if runs else "there was no input to compare them on")


def within(drift: Drift, relative: float) -> bool:
    """Whether every output is off by at most ``relative`` of its range (and integers, booleans and strings are equal)."""
    return drift.worst_rel <= relative


def _result(measures: dict[str, Measure], runs: int, failure: str | None) -> Drift:
    return Drift(tuple(measure.result() for measure in measures.values()), runs, failure)
