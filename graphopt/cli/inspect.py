"""``graphopt inspect MODEL``: what each layer costs."""

from __future__ import annotations

import json
from typing import Any

import click
from rich import box
from rich.table import Table

from graphopt.analysis import Analyses, Cost, Shapes
from graphopt.cli.common import debug_option, emit, format_option
from graphopt.cli.shapes import takes_model
from graphopt.cli.terminal import shortened, show, stdout_width
from graphopt.errors import printable
from graphopt.model import Model, node_key
from graphopt.pipeline import InputShapes
from graphopt.pipeline.figures import figures
from graphopt.pipeline.record import Figures
from graphopt.report.text import counted, si, size

HEADS = ("op", "name", "output", "MACs", "params", "share")
MIN_NAME = 12
BETWEEN = 3


@click.command(name="inspect", short_help="Show what a model costs, layer by layer.")
@takes_model
@format_option("text", "json")
@debug_option
def command(loaded: Model, shapes: InputShapes, form: str) -> None:
    """Show what MODEL costs, layer by layer: output shape, multiply-accumulates, parameters and share of the whole."""
    facts = Analyses(loaded)
    total = figures(facts, shapes)
    layers = _layers(facts, shapes)
    if form == "json":
        emit(json.dumps(_data(loaded, shapes, total, layers), indent=2))
    else:
        _print(loaded, shapes, total, layers)


def _layers(facts: Analyses, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> list[dict[str, Any]]:
    cost, inferred = facts.get(Cost(inputs=shapes)), facts.get(Shapes(inputs=shapes))
    layers: list[dict[str, Any]] = []
    for node in facts.model.graph.nodes:
        found = cost.of(node)
        shape = inferred.shape(node.outputs[0]) if node.outputs else None
        layers.append(
            {
                "op": node.op,
                "domain": node.domain or "",
                "name": node.name,
                "output": node_key(node),
                "shape": None if shape is None else list(shape),
                "macs": None if found is None else found.macs,
                "params": 0 if found is None else found.params,
                "share": found.macs / cost.macs if found is not None and found.macs and cost.macs else 0.0,
            }
        )
    return layers


def _data(
    model: Model, shapes: tuple[tuple[str, tuple[int, ...]], ...], total: Figures, layers: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "schema": 1,
        "model": model.label,
        "opset": model.opset,
        "inputs": {name: list(dims) for name, dims in shapes},
        "total": {"nodes": total.nodes, "params": total.params, "macs": total.macs, "bytes": total.bytes},
        "unknown": list(total.unknown),
        "layers": layers,
    }


def _print(model: Model, shapes: tuple[tuple[str, tuple[int, ...]], ...], total: Figures, layers: list[dict[str, Any]]) -> None:
    rows = [_cells(layer) for layer in layers]
    columns = zip(HEADS, *rows, strict=True)
    taken = sum(max(map(len, column)) for column in columns if column[0] != "name")
    room = max(MIN_NAME, stdout_width() - taken - BETWEEN * (len(HEADS) - 1))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in HEADS:
        table.add_column(head, justify="left" if head in ("op", "name") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(shortened(cell, room) if head == "name" else cell for head, cell in zip(HEADS, row, strict=True)))
    given = ", ".join(f"{name} {'x'.join(map(str, dims))}" for name, dims in shapes)
    more = "+" if total.unknown else ""
    costs = f"{counted(total.nodes, 'node')}, {si(total.params)} parameters, {si(total.macs)}{more} MACs, {size(total.bytes)}"
    unknown = [f"MACs leave out {counted(len(total.unknown), 'node')} of unknown cost: {', '.join(total.unknown[:5])}"]
    head = printable(f"{model.label}  opset {model.opset}  input {given}")
    show(head, table, costs, *map(printable, unknown if total.unknown else []))


def _cells(layer: dict[str, Any]) -> tuple[str, ...]:
    shape = "?" if layer["shape"] is None else "x".join("?" if d is None else str(d) for d in layer["shape"])
    macs = "?" if layer["macs"] is None else si(layer["macs"])
    cells = (layer["op"], layer["name"] or layer["output"], shape, macs, si(layer["params"]), f"{layer['share']:.1%}")
    return tuple(map(printable, cells))
