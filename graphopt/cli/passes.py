"""``graphopt passes [NAME]``: every registered pass, its options with types and defaults, from docstrings and field
metadata.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import click

from graphopt.cli.common import debug_option, emit, format_option
from graphopt.errors import GraphoptError
from graphopt.pipeline import Pass, registry
from graphopt.pipeline.base import DOC
from graphopt.spec import describe, format_value, option_types


@click.command(name="passes", short_help="List the passes with their options.")
@click.argument("name", required=False)
@format_option("text", "json")
@debug_option
def command(name: str | None, form: str) -> None:
    """List the passes with their options; with NAME, that pass and its whole documentation."""
    if name is None:
        described = [_describe_entry(entry) for known in registry.entries().values() for entry in known]
    else:
        described = [describe_pass(registry.find(name))]
    if form == "json":
        emit(json.dumps({"schema": 1, "passes": described}, indent=2))
    else:
        emit("\n\n".join(_text(one, whole=name is not None) for one in described))


def _describe_entry(entry: registry.Entry) -> dict[str, Any]:
    try:
        return describe_pass(registry.load(entry))
    except GraphoptError as error:
        return {"name": entry.name, "broken": error.diagnostic.why}


def describe_pass(cls: type[Pass]) -> dict[str, Any]:
    """A pass as plain data: name, kind, first line of its docstring, the whole, and its options."""
    doc = inspect.cleandoc(cls.__doc__ or "")
    types = option_types(cls)
    options = [
        {
            "name": field.name.replace("_", "-"),
            "type": describe(types[field.name]),
            "default": format_value(field.default),
            "doc": str(field.metadata.get(DOC, "")),
        }
        for field in dataclasses.fields(cls)
    ]
    summary = " ".join(doc.split("\n\n", 1)[0].split())
    return {"name": cls.name, "kind": cls.kind.value, "summary": summary, "doc": doc, "options": options}


def _text(described: dict[str, Any], *, whole: bool) -> str:
    import textwrap

    if "broken" in described:
        return f"{described['name']}  BROKEN: {described['broken']}"
    doc = described["doc"] if whole else textwrap.fill(described["summary"], 78, initial_indent="  ", subsequent_indent="  ")
    lines = [f"{described['name']} ({described['kind']})", textwrap.indent(doc, "  ") if whole else doc]
    for option in described["options"]:
        head = f"    {option['name']}={option['default']}  ({option['type']})"
        lines += [head, textwrap.fill(option["doc"], 78, initial_indent=" " * 8, subsequent_indent=" " * 8)]
    return "\n".join(line for line in lines if line.strip())
