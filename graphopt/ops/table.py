"""All rows, by operator: the built-in families and those of other packages (entry-point group ``graphopt.ops``)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

import onnx_graphsurgeon as gs
from onnx import defs

from graphopt.model.domains import STANDARD
from graphopt.ops import activation, conv, elementwise, linear, movement, norm, pool, qdq, recurrent, reduction, shape
from graphopt.ops.facts import Facts, has_input
from graphopt.ops.row import Row

FAMILIES = (conv, linear, elementwise, activation, norm, pool, movement, reduction, shape, qdq, recurrent)


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
    """The row that holds for ``node``; None if the operator is opaque, or if the node lacks what every rule takes for granted."""
    domain = "" if node.domain in STANDARD else str(node.domain)
    if domain == "" and not _is_whole(node, facts.opset):
        return None
    for row in rows().get((domain, node.op), ()):
        if domain == "" and not row.since <= facts.opset <= (row.until or facts.opset):
            continue
        if row.when is None or row.when(node, facts):
            return row
    return None


def _is_whole(node: gs.Node, opset: int) -> bool:
    """Whether the node has all inputs and outputs that its operator demands: a file may hold a Conv without a weight."""
    inputs, outputs = _demanded(node.op, opset)
    return len(node.outputs) >= outputs and all(has_input(node, index) for index in inputs)


@cache
def _demanded(op: str, opset: int) -> tuple[tuple[int, ...], int]:
    """The places of an operator's required inputs, and the least number of its outputs; nothing where ONNX does not know it."""
    try:
        schema = defs.get_schema(op, opset, "")
    except defs.SchemaError:
        return (), 0
    optional = defs.OpSchema.FormalParameterOption.Optional
    last = len(schema.inputs) - 1
    places = (i for i in range(schema.min_input) if schema.inputs[min(i, last)].option != optional)
    return tuple(places), schema.min_output
