"""``graphopt explain GO301``: what a rule looks for, why, an example and the remedy; without a code, the list of rules."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

import click

from graphopt.check import registry
from graphopt.check.codes import CODES, Status
from graphopt.cli.common import debug_option, emit, format_option
from graphopt.errors import UsageError

WIDTH = 100


@click.command(name="explain", short_help="Explain a rule, or list them all.")
@click.argument("rule", required=False)
@format_option("text", "json", "markdown")
@debug_option
def command(rule: str | None, form: str) -> None:
    """Explain RULE, a code or a name: what it looks for, why, an example, the remedy. Without it, list all rules."""
    if rule is None:
        described = [describe(code) for code in registry.known()]
        emit(json.dumps({"schema": 1, "rules": described}, indent=2) if form == "json" else "\n".join(map(_line, described)))
        return
    code = _code(rule)
    described = [describe(code)]
    if form == "json":
        emit(json.dumps({"schema": 1, "rules": described}, indent=2))
    else:
        emit(page(code) if form == "markdown" else _text(described[0]))


def _code(word: str) -> str:
    """The one rule that a code or a name means."""
    removed = CODES.get(word.upper())
    if removed is not None and removed.status is Status.REMOVED:
        registry.load(word.upper())
    if re.fullmatch(r"GO\d{3}", word.upper()) and removed is None:
        hint = "if a command ended with it, its message says what to do; `graphopt explain` lists the rules"
        raise UsageError("GO952", "rules", f"no rule has the code {word.upper()}", hint)
    found = registry.matching(word)
    if len(found) > 1:
        raise UsageError("GO952", "rules", f"{word!r} means {len(found)} rules", f"name one of {', '.join(found[:5])} ...")
    return found[0]


def describe(code: str) -> dict[str, Any]:
    """A rule as plain data."""
    rule = registry.load(code)
    doc = registry.doc(rule)
    return {
        "code": code,
        "name": rule.name,
        "level": rule.level.value,
        "status": registry.status(code).value,
        "fix": rule.fix,
        "summary": doc.summary,
        **{name.lower(): text for name, text in doc.sections.items()},
    }


def page(code: str) -> str:
    """A rule's page of the documentation."""
    rule = registry.load(code)
    doc = registry.doc(rule)
    head = [f"# {code} {rule.name}", "", doc.summary, "", f"Level: {rule.level.value}. Status: {registry.status(code).value}."]
    fix = [f"`graphopt check --fix FOLDER` mends it by `{rule.fix}`."] if rule.fix else []
    sections = [line for name, text in doc.sections.items() for line in ("", f"**{name}.** {' '.join(text.split())}")]
    return "\n".join([*head, *fix, *sections]) + "\n"


def _line(described: dict[str, Any]) -> str:
    mark = "" if described["status"] == "stable" else f" ({described['status']})"
    return f"{described['code']}  {described['level']:<8} {described['name']}{mark}: {described['summary']}"


def _text(described: dict[str, Any]) -> str:
    mark = "" if described["status"] == "stable" else f", {described['status']}"
    fix = f", mended by `{described['fix']}`" if described["fix"] else ""
    lines = [f"{described['code']} {described['name']} ({described['level']}{mark}{fix})", "", described["summary"]]
    for name in ("what", "why", "example", "remedy"):
        body = textwrap.fill(" ".join(described[name].split()), WIDTH, initial_indent="  ", subsequent_indent="  ")
        lines += ["", f"{name.capitalize()}:", body]
    return "\n".join(lines)
