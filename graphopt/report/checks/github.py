"""Workflow commands of GitHub's runners, which become annotations of a change.

    ::error file=models/net.onnx,title=GO101 unfolded-batch-norm::the message

The grammar: ``::name key=value,key=value::message``; in a message ``%``, CR and LF are written ``%25``, ``%0D``, ``%0A``, in a
value also ``:`` and ``,`` as ``%3A``, ``%2C`` (the runner's source, ``ActionCommand.cs``). Names come from model files, and one
that holds a line feed must not begin a command of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.check import Checked, Level
from graphopt.report.checks.common import message, name_of, new, totals

_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}


def render(results: Sequence[Checked]) -> str:
    """The annotations, and one line for the log."""
    lines = [
        f"::{_COMMANDS[finding.level]} file={_value(checked.model)},title={_value(f'{finding.code} {name_of(finding.code)}')}"
        f"::{_message(message(finding))}"
        for checked in results
        for finding in new(checked)
    ]
    return "\n".join([*lines, totals(results)])


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _value(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
