"""Holding the result of a pass against what it promised: structure, interface, outputs.

The checks themselves are ``graphopt.verify``'s; here is what is compared with what, and at which tolerance.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NoReturn

from onnx import TensorProto

from graphopt.analysis import Analyses, Shapes
from graphopt.errors import Diagnostic, ModelError, VerificationError
from graphopt.model import Model
from graphopt.pipeline.base import Kind, Pass
from graphopt.pipeline.context import Monitor
from graphopt.pipeline.outcome import Outcome
from graphopt.pipeline.record import Verification
from graphopt.runtime import Feeds, Session
from graphopt.runtime.session import Feed
from graphopt.verify import Drift, Recording, check_interface, check_structure, compare, compare_recorded, leave_reproducer, within

EXACT_TOLERANCE = 1e-4
"""The largest difference between two outputs that count as equal, as a share of the output's range (``manager`` says
why)."""

HALF_ROUNDINGS = 4.0
"""For a model that computes in a type of half precision: units in the last place of that type, which is what rounding comes to when
sums are taken in another order."""

ROUNDING_MARGIN = 4.0
"""An output that is off by more is still equal if it is off by at most so many times what onnxruntime's own graph optimizations
change in the reference: a nearly constant output has a range no larger than its rounding errors."""

LEAST_SAMPLES = 2
GENERATED_SECONDS = 10.0
"""Generated inputs say little that the first ones do not: as many are compared as a model runs on in this time, but no fewer. The
user's data is compared whole."""

OUT_OF_MEMORY = "GO042"

UNVERIFIED = "`--unverified` (verify=False) goes on and compares nothing"


_HALVES: dict[int, float] = {TensorProto.FLOAT16: 2.0**-10, TensorProto.BFLOAT16: 2.0**-7}
"""Units in the last place of one (IEEE 754 binary16; bfloat16 has 8 bits of significand)."""


def tolerance_for(facts: Analyses) -> float:
    """The largest difference between two outputs of a model that count as equal, as a share of the output's range.

    It follows the coarsest type that operators compute in: one that comes in as well as goes out, so that weights which are merely
    stored in it do not count.
    """
    shapes = facts.get(Shapes())
    units = [0.0]
    for node in facts.model.graph.nodes:
        computed = {shapes.dtype(t) for t in node.inputs if t.name} & {shapes.dtype(t) for t in node.outputs if t.name}
        units.extend(_HALVES[kind] for kind in computed & _HALVES.keys())
    return max(EXACT_TOLERANCE, HALF_ROUNDINGS * max(units))


class Checker:
    """Holds models against the original and against one another, always on the same samples.

    Args:
        facts: about the model as the user gave it.
        sample: the feeds to compare outputs on.
        monitor: gets progress.
        threads: threads of one operator.

    Attributes:
        runs: whether outputs can be compared: onnxruntime runs the original, and it answers twice the same. Found by
            ``open``.
    """

    def __init__(self, facts: Analyses, sample: Feeds, monitor: Monitor, threads: int = 1) -> None:
        self.original = facts.model
        self.sample = sample
        self.runs = False
        self._monitor = monitor
        self._threads = threads
        self._original: Recording | None = None
        self._latest: tuple[Model | None, Recording] | None = None
        self._known_faults: set[tuple[str, str]] = set()
        self._tolerance = tolerance_for(facts)

    def open(self, *, needed: bool, required: bool) -> list[str]:
        """Look at the original: its structure, and whether its outputs can be compared. Returns notes for the report.

        Args:
            needed: whether anything will have to be compared at all.
            required: whether to raise if it cannot be.

        Raises:
            ModelError: GO030, onnxruntime cannot run the original; GO032, it answers at random.
        """
        faults = check_structure(self.original, self.original.label)
        self._known_faults = {(fault.code, fault.why) for fault in faults}
        notes = [f"the input model is not quite valid ({fault.code}: {fault.why})" for fault in faults]
        if not needed:
            return notes
        try:
            self._original = self._probe()
        except ModelError as error:
            fault = error.diagnostic
            if required:
                hint = f"{fault.hint}; {UNVERIFIED}" if fault.hint else UNVERIFIED
                raise ModelError(fault.code, fault.where, fault.why, hint) from None
            return [*notes, f"NOT VERIFIED: {fault.why}; no output was compared with the input model's"]
        self.runs = True
        self._latest = None, self._original
        return notes

    def _probe(self) -> Recording:
        with self._monitor.progress("run the input model", None):
            session = Session(self.original, threads=self._threads)
            start = time.perf_counter()
            drift = compare(session, session, self.sample.take(1))
            seconds = (time.perf_counter() - start) / 2
            if not within(drift, EXACT_TOLERANCE):
                why = "the model gives other outputs when it is run again on the same input"
                raise ModelError("GO032", self.original.label, why, "take out what draws at random")
            if not self.sample.calibrated:
                self.sample = self.sample.take(max(LEAST_SAMPLES, int(GENERATED_SECONDS / max(seconds, 1e-9))))
            return Recording(session, self.sample)

    @property
    def first(self) -> Feed:
        """The first feed."""
        return self.sample.first()

    def check(self, one: Pass, before: Model, after: Model, outcome: Outcome) -> tuple[Verification, Drift | None]:
        """Hold ``after``, the pass's result, against what it promised; the drift is the one from the original.

        Raises:
            VerificationError: GO501 not a valid graph, GO502 another interface, GO503 not the promised outputs.
        """
        faults = [fault for fault in check_structure(after, after.label) if not self._known(fault)]
        self._refuse("GO501", one, before, after, faults)
        self._refuse("GO502", one, before, after, check_interface(before, after))
        if not self.runs:
            return Verification("unverified"), None
        with self._monitor.progress(f"verify {one.name}", None):
            candidate = self._record(one, before, after)
            drift = compare_recorded(self._recorded(self.original), candidate)
            verification = self._outputs(one, before, after, outcome, candidate, drift)
        self._latest = after, candidate
        return verification, drift

    def _known(self, fault: Diagnostic) -> bool:
        """Whether the original has this fault. What shape inference says names nodes and sizes, which a pass may change."""
        known = self._known_faults
        return (fault.code, fault.why) in known or (fault.code == "GO025" and any(code == "GO025" for code, _ in known))

    def _recorded(self, model: Model) -> Recording:
        """The outputs of a model: the original's, and those of what went on last, are known already."""
        if self._original is None or self._latest is None:
            raise RuntimeError("the original is not known to run")
        if model is self.original:
            return self._original
        known, outputs = self._latest
        # Until a pass has changed something, what goes on is a copy of the original.
        return outputs if known is None or known is model else Recording(model, self.sample, threads=self._threads)

    def _record(self, one: Pass, before: Model, after: Model) -> Recording:
        try:
            return Recording(after, self.sample, threads=self._threads)
        except ModelError as error:
            if error.diagnostic.code != OUT_OF_MEMORY:
                self._refuse("GO503", one, before, after, [error.diagnostic])
            raise

    def _outputs(self, one: Pass, before: Model, after: Model, outcome: Outcome, got: Recording, drift: Drift) -> Verification:
        """Compare the outputs with the promised ones, where any are promised. ``drift`` is from the original."""
        count = len(self.sample)
        if one.kept(outcome) is Kind.EXACT:
            reference, against, promised = before, "the pass's input", self._recorded(before)
        elif outcome.reference is not None:
            reference, against = outcome.reference, "the pass's reference model"
            promised = Recording(reference, self.sample, threads=self._threads)
        else:
            if drift.failure is not None:
                self._fail("GO503", one, before, after, drift.why)
            return Verification("measured", "the input model", samples=count)
        found = compare_recorded(promised, got)
        equal = within(found, self._tolerance)
        rounding = not equal and self._is_rounding(found, reference, promised)
        if not equal and not rounding:
            why = f"{found.why}; equality with {against} was promised, within {self._tolerance:.0e} of the range"
            self._fail("GO503", one, reference, after, why)
        return Verification("held", against, self._tolerance, found.worst_rel, count, rounding)

    def _is_rounding(self, found: Drift, reference: Model, promised: Recording) -> bool:
        """Whether every output that is off is off by no more than the runtime's own rounding."""
        if found.failure is not None or any(o.failure is not None for o in found.outputs):
            return False
        plain = Recording(reference, self.sample, threads=self._threads, optimize=False)
        noise = {o.name: o.max_abs for o in compare_recorded(promised, plain).outputs}
        return all(o.rel <= self._tolerance or o.max_abs <= ROUNDING_MARGIN * noise[o.name] for o in found.outputs)

    def _refuse(self, code: str, one: Pass, before: Model, after: Model, faults: Sequence[Diagnostic]) -> None:
        """Raise if there are faults, telling the first."""
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            self._fail(code, one, before, after, f"{faults[0].code}: {faults[0].where}: {faults[0].why}{more}")

    def _fail(self, code: str, one: Pass, reference: Model, after: Model, why: str) -> NoReturn:
        hint = self._reproducer(reference, after, why)
        raise VerificationError(code, f"{self.original.label}: {one}", why, f"nothing was written; {hint}")

    def _reproducer(self, reference: Model, after: Model, why: str) -> str:
        try:
            return leave_reproducer(reference, after, self.sample, relative=self._tolerance, why=why).hint
        except Exception as error:  # noqa: BLE001 - a graph that a pass broke can fail in any way; the fault itself must be told
            return f"no reproducer could be left: {type(error).__name__}: {error}"
