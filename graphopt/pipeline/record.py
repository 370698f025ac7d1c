"""What a run leaves behind, as plain data: figures before and after each pass, what was held against what, how far it
moved.

Nothing here is formatted; ``graphopt.report`` makes text and JSON of it.

    size       bytes of the serialised model
    drift      the outputs against the *original's* (``graphopt.verify.Drift``), on the samples of the verification
    timing     the original's latency by the result's, measured in alternation with one thread: 2.0 is twice as fast
    accuracy   share of labelled samples whose first output is largest at the label
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from graphopt.pipeline.outcome import JSON, Refusal, Rewrite

if TYPE_CHECKING:
    from graphopt.runtime import Timing
    from graphopt.verify import Drift

Status = Literal["unchanged", "held", "measured", "unverified"]
"""unchanged: the pass edited nothing. held: the outputs equal what they were promised to equal. measured: no promise of
equality, the drift is stated. unverified: onnxruntime cannot run the input, so that nothing could be compared."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model costs, for one run on inputs of the given shape.

    ``macs`` and ``params`` leave out the nodes listed in ``unknown``, whose operators have no cost rule. ``bytes`` is
    the size of the serialised model.
    """

    nodes: int
    params: int
    macs: int
    bytes: int
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared with what, and how it came out.

    Attributes:
        status: see ``Status``.
        against: what the outputs were held against, in words.
        tolerance: the largest difference that was allowed, as a share of the output's range; None where nothing was
            held.
        worst: the largest difference that was found, likewise.
        samples: on how many feeds.
        rounding: whether an output beyond the tolerance was accepted, because it is off by no more than what the runtime's
            own optimizations change in the reference.
    """

    status: Status
    against: str = ""
    tolerance: float | None = None
    worst: float | None = None
    samples: int = 0
    rounding: bool = False

    def __str__(self) -> str:
        match self.status:
            case "unchanged":
                return "nothing changed"
            case "unverified":
                return "NOT VERIFIED: onnxruntime cannot run the input model"
            case "measured":
                return f"measured against {self.against} on {self.samples} samples, no equality promised"
            case "held":
                worst = "" if self.worst is None else f", {self.worst:.1e} found"
                tolerance = "" if self.tolerance is None else f" within {self.tolerance:.0e} of the range"
                beyond = ", no more than the runtime's own rounding" if self.rounding else ""
                return f"equal to {self.against}{tolerance}{worst}{beyond} on {self.samples} samples"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-1 on labelled samples: ``right`` of ``count``."""

    right: int
    count: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.right / self.count


@dataclass(frozen=True, slots=True)
class PassRecord:
    """One pass of a run: its text, what it did, what it refused, and the model after it."""

    text: str
    name: str
    kind: str
    changed: bool
    figures: Figures
    verification: Verification
    drift: Drift | None
    timing: Timing | None
    accuracy: Accuracy | None
    seconds: float
    rewrites: Sequence[Rewrite]
    refusals: Sequence[Refusal]
    notes: Sequence[str]
    facts: Mapping[str, JSON]


def _records() -> list[PassRecord]:
    return []


def _texts() -> list[str]:
    return []


@dataclass(slots=True)
class Report:
    """One run: the input, the passes in their order, and what the reader must not miss.

    Attributes:
        model: label of the input.
        pipeline: text of the passes.
        target: name of the target.
        data: where the samples came from.
        calibrated: whether they are the user's; generated ones otherwise.
        seed: the seed.
        figures: the input's.
        accuracy: the input's, where labels were given.
        passes: one record a pass.
        notes: what the reader must not miss, beside the passes' own notes.
        seconds: wall time of the run.
    """

    model: str
    pipeline: str
    target: str
    data: str
    calibrated: bool
    seed: int
    figures: Figures
    accuracy: Accuracy | None = None
    passes: list[PassRecord] = field(default_factory=_records)
    notes: list[str] = field(default_factory=_texts)
    seconds: float = 0.0

    @property
    def result(self) -> Figures:
        """The figures of the result."""
        return self.passes[-1].figures if self.passes else self.figures

    @property
    def all_notes(self) -> list[str]:
        """Everything that must be said loudly: the run's notes, then each pass's under its name."""
        return [*self.notes, *(f"{one.name}: {note}" for one in self.passes for note in one.notes)]
