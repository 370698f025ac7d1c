"""``graphopt groups MODEL``: which channels depend on each other, which can be removed, and why others cannot.

The model is simplified first where ``prune`` would do that too: where weights or sizes are computed, they say little.

As DOT, a node is an axis of a tensor, an edge the operator that ties two of them, and a colour one group; grey cannot
be pruned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
from rich import box
from rich.table import Table

from graphopt.analysis import Analyses
from graphopt.analysis.channels import ChannelGraph, Channels, Group
from graphopt.cli.common import debug_option, emit, format_option
from graphopt.cli.shapes import takes_model
from graphopt.cli.terminal import shortened, show, stdout_width
from graphopt.errors import printable
from graphopt.model import Model
from graphopt.passes.prune import ready
from graphopt.pipeline import Context, InputShapes
from graphopt.report.text import si
from graphopt.runtime import Feeds, input_specs
from graphopt.runtime.feeds import Computed, FeedDict

HUE_STEP = 0.618033988749895
"""Hues of successive groups are this far apart on the circle: the golden ratio never comes back near an earlier one
soon."""


@click.command(name="groups", short_help="Show which channels depend on each other.")
@takes_model
@format_option("text", "json", "dot")
@click.option("--heads", is_flag=True, help="Of attention take whole heads, not dimensions of every head.")
@click.option("--lossy-norm", is_flag=True, help="Count channels that a normalisation averages over as prunable.")
@debug_option
def command(loaded: Model, shapes: InputShapes, form: str, heads: bool, lossy_norm: bool) -> None:
    """Show which channels of MODEL depend on each other: they can be removed together only, or not at all."""
    ready(loaded, Context(loaded, feeds=Feeds(Computed(0, make), input_specs(loaded), calibrated=False, name="none")))
    found = Analyses(loaded).get(Channels(shapes, heads, lossy_norm))
    if form == "json":
        emit(json.dumps({"schema": 1, "model": loaded.label, **found.to_json()}, indent=2))
    elif form == "dot":
        emit("\n".join(_dot(loaded.label, found)))
    else:
        _print(loaded, found)


def make(index: int) -> FeedDict:
    """Nothing is run here."""
    raise IndexError(index)


def _print(model: Model, found: ChannelGraph) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("group", no_wrap=True)
    table.add_column("channels", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_column("tensors", justify="right", no_wrap=True)
    table.add_column("ops", justify="right", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("can be pruned", overflow="fold")
    for group in found.groups:
        macs = "?" if group.macs is None else si(group.macs)
        counts = str(len({p.tensor for p in group.places})), str(len(group.operators))
        name = shortened(printable(group.tensor), stdout_width() // 6)
        table.add_row(group.id, str(group.size), macs, *counts, name, _verdict(group))
    share = f"{found.prunable_share_of_macs:.0%} of the MACs"
    head = f"{model.label}: {len(found.prunable)} of {len(found.groups)} groups can be pruned; they touch {share}"
    show(printable(head), table)


def _verdict(group: Group) -> str:
    if group.frozen is not None:
        return printable(f"no: {group.frozen}")
    return printable("; ".join(["yes", *group.constraints]))


def _dot(label: str, found: ChannelGraph) -> Iterator[str]:
    colours = {group.id: f"{index * HUE_STEP % 1:.3f} 0.35 1.0" for index, group in enumerate(found.groups) if group.frozen is None}
    graph = found.graph()
    ids = {node: f"n{index}" for index, node in enumerate(graph.nodes)}
    yield f"digraph {_quoted(label)} {{"
    yield "  rankdir=TB; node [shape=box, style=filled, fontname=monospace];"
    for node, name in ids.items():
        groups: tuple[str, ...] = graph.nodes[node].get("groups", ())
        colour = next((colours[one] for one in groups if one in colours), "0.0 0.0 0.9")
        text = f"{node[0]} axis {node[1]}" + (f"\n{' '.join(groups)}" if groups else "")
        yield f"  {name} [label={_quoted(text)}, fillcolor={_quoted(colour)}];"
    for first, second, data in graph.edges(data=True):
        yield f"  {ids[first]} -> {ids[second]} [label={_quoted(str(data.get('operator', '')))}, dir=none];"
    yield "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
