"""All rows, by operator: the built-in families and those of other packages (entry-point group ``graphopt.ops``)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

import onnx_graphsurgeon as gs

from graphopt.ops import activation, conv, elementwise, linear, movement, norm, pool, qdq, reduction, shape
from graphopt.ops.facts import Facts
from graphopt.ops.row import Row

FAMILIES = (conv, linear, elementwise, activation, norm, pool, movement, reduction, shape, qdq)

_DEFAULT_DOMAINS = (None, "", "ai.onnx")


@cache
def rows() -> dict[tuple[str, str], tuple[Row, ...]]:
    """Rows by (domain, operator). A plugin's entry point names a sequence of rows; they come before the built-in ones."""
    found: list[Row] = []
    for plugin in entry_points(group="graphopt.ops"):
        found.extend(plugin.load())
    for family in FAMILIES:
        found.extend(family.ROWS)
    table: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        table.setdefault((row.domain, row.op), []).append(row)
    return {key: tuple(value) for key, value in table.items()}


def lookup(node: gs.Node, facts: Facts) -> Row | None:
    """The row that holds for ``node``; None if the operator is opaque."""
    domain = "" if node.domain in _DEFAULT_DOMAINS else str(node.domain)
    for row in rows().get((domain, node.op), ()):
        if domain == "" and not row.since <= facts.opset <= (row.until or facts.opset):
            continue
        if row.when is None or row.when(node, facts):
            return row
    return None
