"""Checking one model: from the file to the findings.

The order is that of trust. The door reads the file; a worker process checks, loads and runs what came out of it, and may die
(``graphopt.verify.isolated``); only then is native code asked in this process, and only then the rules. Whatever a step refuses is
a finding with the step's own code, and the check goes on with the next model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from graphopt.check import registry
from graphopt.check.anchor import WHOLE, of_text
from graphopt.check.codes import CODES
from graphopt.check.config import LIMITS
from graphopt.check.finding import Checked, Fact, Finding, Level, State
from graphopt.check.rule import Rule, Stage
from graphopt.check.subject import Asked, NotAsked, Subject
from graphopt.check.suppress import Suppressions
from graphopt.errors import Diagnostic, GraphoptError, ModelError, UsageError
from graphopt.guard.limits import Limits
from graphopt.model import Model
from graphopt.runtime import Session, generated
from graphopt.verify import check_structure, isolated
from graphopt.verify.contact import begin, first_contact, unlimited

INVALID = "GO021"
"""For faults of structure that no file should bring about, and that must not be lost if one does."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one model is checked.

    Attributes:
        asked: target, reference, data, budgets.
        codes: the rules.
        levels: code -> level, where it is not the rule's own.
        limits: memory and time until the model is known.
    """

    asked: Asked
    codes: Sequence[str]
    levels: Mapping[str, Level] = field(default_factory=dict[str, Level])
    limits: Limits = field(default_factory=Limits)


def check_file(path: Path, settings: Settings) -> Checked:
    """Check one model file.

    Raises:
        UsageError, DataError: the target, the reference, the data or a suppression is wrong; what is wrong with the model is a
            finding.
    """
    return _Run(path, settings).run()


def admitted(path: Path, asked: Asked, limits: Limits) -> Subject:
    """A model that was looked at as a check does, for a command that asks no rules.

    Raises:
        ModelError: it cannot be read, or does harm.
    """
    begin(path, limits)
    try:
        model = Model.load(path)
        isolated.probe(model, limits)
        with first_contact(model, limits) as contact:
            try:
                session = Session(model, threads=asked.threads)
                session.run(generated(model, 1).first())
            except ModelError as error:
                if error.diagnostic.code != "GO030":
                    raise
                return Subject(model, asked, None)
            subject = Subject(model, asked, session)
            if asked.data is None:
                contact.admit(subject.analyses, subject.input_shapes)
            return subject
    finally:
        unlimited()


class _Run:
    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.settings = settings
        self.rules: dict[str, Rule] = {code: registry.load(code) for code in settings.codes}
        self.findings: list[Finding] = []
        self.skipped: dict[str, str] = {}
        self.ran: list[str] = []
        self.facts: dict[str, Fact] = {}

    def run(self) -> Checked:
        start = time.perf_counter()
        subject = self._subject()
        if subject is not None:
            self._ask(subject)
            self._place(subject)
            self.facts.update(_figures(subject))
        levels = {code: self.settings.levels.get(code, rule.level) for code, rule in self.rules.items()}
        order = {code: index for index, code in enumerate(self.rules)}
        kept = [replace(f, level=levels[f.code]) for f in self.findings if f.code in levels]
        kept.sort(key=lambda f: order[f.code])
        seconds = time.perf_counter() - start
        return Checked(str(self.path), tuple(kept), tuple(self.ran), self.skipped, self.facts, seconds)

    # -- contact -----------------------------------------------------------------------------------------------------------------

    def _subject(self) -> Subject | None:
        """The model, known to be harmless; None if it cannot be looked at any further."""
        stages = {stage: [code for code, rule in self.rules.items() if rule.stage is stage] for stage in Stage}
        try:
            if self.path.is_symlink() and not self.path.exists():
                why = "is a link to a file that is not there"
                raise ModelError("GO001", str(self.path), why, "fetch the file, or take away the link")
            begin(self.path, self.settings.limits)
            model = Model.load(self.path)
        except ModelError as error:
            self._refused(error, stages[Stage.DOOR])
            return None
        self.ran += stages[Stage.DOOR]
        try:
            isolated.probe(model, self.settings.limits)
            with first_contact(model, self.settings.limits) as contact:
                structure = check_structure(model)
                session = self._loaded(model)
                runs = session is not None
                subject = Subject(model, self.settings.asked, session)
                if self.settings.asked.data is None and runs:
                    contact.admit(subject.analyses, subject.input_shapes)
        except ModelError as error:
            self._refused(error, [*stages[Stage.STRUCTURE], *stages[Stage.CONTACT]])
            return None
        finally:
            unlimited()
        self.ran += [*stages[Stage.STRUCTURE], *stages[Stage.CONTACT]]
        for fault in structure:
            self._tell(fault)
        contact.known(exact=False)  # dry runs of lossy passes need what those passes need
        return subject

    def _loaded(self, model: Model) -> Session | None:
        """The model in onnxruntime, where it ran once; None where it did not, and why is a finding."""
        try:
            session = Session(model, threads=self.settings.asked.threads)
            session.run(generated(model, 1).first())
        except ModelError as error:
            self._tell(error.diagnostic)
            return None
        return session

    def _refused(self, error: ModelError, asked: Sequence[str]) -> None:
        """The model cannot be looked at any further. What no rule tells (the file was changed meanwhile) is raised again."""
        fault = error.diagnostic
        if fault.code not in CODES:
            raise error
        self.ran += [code for code in asked if code not in self.ran]
        self._tell(fault)
        if fault.code not in self.rules:
            # Whoever deselects a rule does not want its finding, but a model that nobody looked at must not pass for a sound one.
            self.rules[fault.code] = registry.load(fault.code)
        left = [code for code in self.rules if code not in self.ran and code != fault.code]
        self.skipped.update(dict.fromkeys(left, f"the model was not looked at any further ({fault.code})"))

    def _tell(self, fault: Diagnostic) -> None:
        place = fault.where.removeprefix(self.path.name).removeprefix(":").strip()
        place = "" if place in (str(self.path), self.path.name) else place
        code = fault.code if fault.code in CODES else INVALID
        self.findings.append(Finding(code, place, fault.why, fault.hint))

    # -- rules -------------------------------------------------------------------------------------------------------------------

    def _ask(self, subject: Subject) -> None:
        for code, rule in self.rules.items():
            if rule.check is None or code in self.ran:
                continue
            try:
                for finding in rule.check(subject):
                    self.findings.append(_own(finding, rule))
            except NotAsked as reason:
                wanted = next((name for name, its in LIMITS.items() if its == code and name in subject.asked.limits), None)
                if wanted is None:
                    self.skipped[code] = str(reason)
                else:  # what was asked for and cannot be told is no success
                    self.findings.append(
                        Finding(code, "", f"{wanted} cannot be checked: {reason}", "leave the limit out for this model")
                    )
                    self.ran.append(code)
            except ModelError as error:
                self.skipped[code] = error.diagnostic.why
            except Exception as error:
                if code in CODES or isinstance(error, GraphoptError):
                    raise
                why = f"its check of {subject.model.label} raised {type(error).__name__}: {error}"
                raise UsageError("GO954", f"rules: {code}", why, "mend or uninstall its package") from error
            else:
                self.ran.append(code)

    def _place(self, subject: Subject) -> None:
        """Anchors, and what the model says to leave out."""
        hidden = Suppressions(subject.proto, subject.model.label)
        self.findings = [replace(f, key=f.key or subject.node_of(f.where)[1]) for f in self.findings]
        self.findings = [replace(f, anchor=f.anchor or _anchor(f, subject)) for f in self.findings]
        self.findings = [replace(f, state=State.SUPPRESSED) if hidden.hides(f) else f for f in self.findings]


def _own(finding: object, rule: Rule) -> Finding:
    """What a rule found, if it is a finding of its own."""
    if not isinstance(finding, Finding) or finding.code != rule.code:
        raise UsageError("GO954", f"rules: {rule.code}", f"gave {finding!r:.100}, which is no finding of its own", "use RULE.found")
    return finding


def _anchor(finding: Finding, subject: Subject) -> str:
    if finding.key:
        return subject.anchors.get(finding.key, WHOLE)
    return of_text(finding.where) if finding.where else WHOLE


def _figures(subject: Subject) -> Iterator[tuple[str, Fact]]:
    """What the model costs, for whoever reads the report."""
    try:
        cost = subject.cost
    except ModelError:
        return
    yield from (("nodes", cost.nodes), ("params", cost.params), ("macs", cost.macs), ("bytes", subject.model.size()))
