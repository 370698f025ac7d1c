"""What can go wrong, as values: one diagnostic a fault, and the exceptions that carry them to the user.

Exceptions are for the user's mistakes and for damaged input; a pass that declines a rewrite returns a refusal instead.
A diagnostic is printed as

    error[GO003]: cycle.onnx: the graph has a cycle
      help: `graphopt inspect --no-validate cycle.onnx` shows it

Codes: GO0xx the model file (of these GO04x what native code makes of it, see ``graphopt.guard``), GO4xx budgets, GO5xx verification
and drift, GO8xx data, GO9xx usage. A code is never reused.
"""

from __future__ import annotations

from dataclasses import dataclass


def printable(text: str) -> str:
    """``text`` for one line of a terminal. Names come from model files: a control character in one could forge a message, or
    speak to the terminal.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fault: its code, the place (file, then node or tensor), the reason, and what the user can do about it."""

    code: str
    where: str
    why: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{printable(self.where)}: " if self.where else ""
        head = f"error[{self.code}]: {place}{printable(self.why)}"
        return f"{head}\n  help: {printable(self.hint)}" if self.hint else head


class GraphoptError(Exception):
    """A fault that the user can mend; ``exit_code`` is what the command line exits with."""

    exit_code = 2

    def __init__(self, code: str, where: str, why: str, hint: str = "") -> None:
        super().__init__(code, where, why, hint)
        self.diagnostic = Diagnostic(code, where, why, hint)

    def __str__(self) -> str:
        return str(self.diagnostic)


class UsageError(GraphoptError):
    """GO9xx: a wrong option, pass, path or combination of them."""


class DataError(GraphoptError):
    """GO8xx: calibration or label data that the model cannot take."""


class ModelError(GraphoptError):
    """GO0xx: a model that cannot be read, is invalid, or that the runtime does not load."""


class VerificationError(GraphoptError):
    """GO5xx: the result of a pass is not what it promised to be; nothing was written."""

    exit_code = 1


class BudgetError(GraphoptError):
    """GO4xx: a budget that was asked for is not met; nothing was written."""

    exit_code = 1
