"""Holding the result of a pass against what it promised: structure, interface, outputs.

The checks themselves are ``graphopt.verify``'s; here is what is compared with what, and at which tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from graphopt.errors import Diagnostic, ModelError, VerificationError
from graphopt.model import Model
from graphopt.pipeline.base import Kind, Pass
from graphopt.pipeline.context import Monitor
from graphopt.pipeline.outcome import Outcome
from graphopt.pipeline.record import Verification
from graphopt.runtime import Feeds, Session
from graphopt.runtime.session import Feed
from graphopt.verify import Drift, check_interface, check_structure, compare, leave_reproducer, within

EXACT_TOLERANCE = 1e-4
"""The largest difference between two outputs that count as equal, as a share of the output's range (``manager`` says
why)."""

ROUNDING_MARGIN = 4.0
"""An output that is off by more is still equal if it is off by at most so many times what onnxruntime's own graph optimizations
change in the reference: a nearly constant output has a range no larger than its rounding errors."""

UNVERIFIED = "`--unverified` (verify=False) goes on and compares nothing"


class Checker:
    """Holds models against the original and against one another, always on the same samples.

    Args:
        original: the model as the user gave it.
        sample: the feeds to compare outputs on.
        monitor: gets progress.
        threads: threads of one operator.

    Attributes:
        runs: whether outputs can be compared: onnxruntime runs the original, and it answers twice the same. Found by
            ``open``.
    """

    def __init__(self, original: Model, sample: Feeds, monitor: Monitor, threads: int = 1) -> None:
        self.original = original
        self.sample = sample
        self.runs = False
        self._monitor = monitor
        self._threads = threads
        self._session: Session | None = None
        self._known_faults: set[tuple[str, str]] = set()

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
            self._session = self._probe()
        except ModelError as error:
            fault = error.diagnostic
            if required:
                hint = f"{fault.hint}; {UNVERIFIED}" if fault.hint else UNVERIFIED
                raise ModelError(fault.code, fault.where, fault.why, hint) from None
            return [*notes, f"NOT VERIFIED: {fault.why}; no output was compared with the input model's"]
        self.runs = True
        return notes

    def _probe(self) -> Session:
        with self._monitor.progress("run the input model", None):
            session = Session(self.original, threads=self._threads)
            drift = compare(session, session, self.sample.take(1))
        if not within(drift, EXACT_TOLERANCE):
            why = "the model gives other outputs when it is run again on the same input"
            raise ModelError("GO032", self.original.label, why, "take out what draws at random")
        return session

    @property
    def session(self) -> Session:
        """The original, loaded."""
        if self._session is None:
            raise RuntimeError("the original is not known to run")
        return self._session

    @property
    def first(self) -> Feed:
        """The first feed."""
        return self.sample.first()

    def check(self, one: Pass, before: Model, after: Model, outcome: Outcome) -> tuple[Verification, Drift | None]:
        """Hold ``after``, the pass's result, against what it promised; the drift is the one from the original.

        Raises:
            VerificationError: GO501 not a valid graph, GO502 another interface, GO503 not the promised outputs.
        """
        faults = [f for f in check_structure(after, after.label) if (f.code, f.why) not in self._known_faults]
        self._refuse("GO501", one, before, after, faults)
        self._refuse("GO502", one, before, after, check_interface(before, after))
        if not self.runs:
            return Verification("unverified"), None
        with self._monitor.progress(f"verify {one.name}", None):
            candidate = self._load(one, before, after)
            drift = compare(self.session, candidate, self.sample)
            return self._outputs(one, before, after, outcome, candidate, drift), drift

    def _load(self, one: Pass, before: Model, after: Model) -> Session:
        try:
            return Session(after, threads=self._threads)
        except ModelError as error:
            self._refuse("GO503", one, before, after, [error.diagnostic])
            raise

    def _outputs(self, one: Pass, before: Model, after: Model, outcome: Outcome, candidate: Session, drift: Drift) -> Verification:
        """Compare the outputs with the promised ones, where any are promised. ``drift`` is from the original."""
        count = len(self.sample)
        if one.kept(outcome) is Kind.EXACT:
            reference, against = before, "the pass's input"
        elif outcome.reference is not None:
            reference, against = outcome.reference, "the pass's reference model"
        else:
            if drift.failure is not None:
                self._fail("GO503", one, before, after, drift.why)
            return Verification("measured", "the input model", samples=count)
        promised = Session(reference, threads=self._threads)
        found = compare(promised, candidate, self.sample)
        rounding = not within(found, EXACT_TOLERANCE) and self._is_rounding(found, reference, promised)
        if not within(found, EXACT_TOLERANCE) and not rounding:
            why = f"{found.why}; equality with {against} was promised, within {EXACT_TOLERANCE:.0e} of the range"
            self._fail("GO503", one, reference, after, why)
        return Verification("held", against, EXACT_TOLERANCE, found.worst_rel, count, rounding)

    def _is_rounding(self, found: Drift, reference: Model, promised: Session) -> bool:
        """Whether every output that is off is off by no more than the runtime's own rounding."""
        if found.failure is not None or any(o.failure is not None for o in found.outputs):
            return False
        plain = Session(reference, threads=self._threads, optimize=False)
        noise = {o.name: o.max_abs for o in compare(promised, plain, self.sample).outputs}
        return all(o.rel <= EXACT_TOLERANCE or o.max_abs <= ROUNDING_MARGIN * noise[o.name] for o in found.outputs)

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
            return leave_reproducer(reference, after, self.sample, relative=EXACT_TOLERANCE, why=why).hint
        except Exception as error:  # noqa: BLE001 - a graph that a pass broke can fail in any way; the fault itself must be told
            return f"no reproducer could be left: {type(error).__name__}: {error}"
