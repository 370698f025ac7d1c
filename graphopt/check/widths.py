"""Widths against what the target's kernels compute in: what the rules of GO30x share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphopt.analysis.channels import Channels
from graphopt.check.subject import NotAsked, Subject
from graphopt.ops.facts import elements, static
from graphopt.target.costs import Counts


@dataclass(frozen=True, slots=True)
class Width:
    """A number of channels that could be another one: where, how many, and the step that it should be a multiple of."""

    label: str
    key: str
    count: int
    step: int


def widths(subject: Subject) -> Iterator[Width]:
    """The widths of all groups that prune could change. Raises NotAsked for a target without a step."""
    target = subject.asked.target
    dtype = "int8" if subject.quantizers.present else "float32"
    multiple = target.channel_step(dtype)
    if multiple <= 1:
        raise NotAsked(f"the target {target.name} states no channel step for {dtype}")
    for group in subject.analyses.get(Channels(subject.input_shapes)).prunable:
        step = group.step(multiple)
        if group.size and group.macs:
            # The place is the first tensor that a node makes: a group may begin at a constant.
            made = [p.tensor for p in group.places if p.tensor in subject.makers]
            tensor = group.tensor if group.tensor in subject.makers or not made else made[0]
            yield Width(f"'{tensor}'", subject.makers.get(tensor, ""), group.size, step)


def odd_convolution(node: gs.Node, subject: Subject, worth: float) -> str | None:
    """Why the target's table says that a depthwise or grouped convolution is of a bad form; None if it does not.

    ``worth``: the least factor that is told.
    """
    group = int(node.attrs.get("group", 1))
    weight, out = static(subject.shapes.shape(node.inputs[1])), static(subject.shapes.shape(node.outputs[0]))
    if group == 1 or weight is None or out is None or len(out) < 3:
        return None
    kind = "depthwise" if weight[1] == 1 and weight[0] == group else "grouped"
    row = subject.asked.target.costs.row("Conv", kind)
    if row is None:
        return None
    size = elements(out) or 0
    taps = out[0] * math.prod(out[2:]) * math.prod(weight[2:]) * (group if kind == "grouped" else 1)
    macs = size * math.prod(weight[1:])
    counts = Counts(size, macs, taps, math.prod(weight), out[1])
    integer = subject.op_of(next(t.name for t in node.outputs if t.name)) and node.outputs[0].name in subject.quantizers.integer
    cost = row.int8 if integer else row.float_
    if cost is None:
        return None
    taken, even = cost.of(counts, row.align), cost.of(counts)
    if taken > worth * even:
        return f"{kind}, {out[1]} channels: {taken / even:.1f} times the time of a multiple of {row.align}, by the target's table"
    if integer and row.float_ is not None and taken > worth * row.float_.of(counts, row.align):
        factor = taken / row.float_.of(counts, row.align)
        return f"{kind}, in int8: {factor:.1f} times its time in float, by the target's table"
    return None
