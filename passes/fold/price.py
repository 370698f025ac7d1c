"""What an operator costs, present or to be written.

By default the multiply-accumulates plus the elements written plus the weights read. Where the target has a table of times
(``graphopt.target.costs``) it is nanoseconds by that table, in float: channels that fit the device's steps, and what each operator
costs by being there, decide then between covers. Under either, nothing is written that has more multiply-accumulates than what it
replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphopt.analysis import ShapeTable
from graphopt.ops import lookup
from graphopt.ops.facts import elements, static
from graphopt.ops.kernels import KERNELS
from graphopt.target import Target
from graphopt.target.costs import Counts


@dataclass(frozen=True, slots=True)
class Step:
    """One operator: elements that it writes, multiply-accumulates, elements of its weights, its kind (of a Conv: dense, grouped or
    depthwise), output channels, output pixels times kernel taps (times groups), and elements of its input.
    """

    op: str
    written: int
    macs: int = 0
    params: int = 0
    kind: str = ""
    channels: int = 0
    taps: int = 0
    read: int = 0


Price = Callable[[Step], float]


def counted(step: Step) -> float:
    """Multiply-accumulates, elements written and weights read."""
    return step.macs + step.written + step.params


def price(target: Target, operators: Collection[str]) -> Price:
    """Times, where ``target`` has them for all ``operators`` of a model that multiply with weights; else counts."""
    rows = {op for op, _ in target.costs.rows}
    known = "Conv" in rows and KERNELS.intersection(operators) <= rows
    return (lambda step: _time(target, step)) if known else counted


def _time(target: Target, step: Step) -> float:
    row = target.costs.row(step.op, step.kind)
    if row is None or row.float_ is None:
        return 0.0
    macs, channels = step.macs, step.channels
    if channels and step.kind in ("dense", ""):
        unit = target.channel_step("float32")
        macs = macs // channels * (-(-channels // unit) * unit)
    size = step.read if row.basis == "input" else step.written
    return row.float_.of(Counts(size, macs, step.taps, step.params, channels), row.align)


def step_of(node: gs.Node, shapes: ShapeTable, macs: int, params: int) -> Step:
    """A node as it stands."""
    written = sum(elements(shapes.shape(t)) or 0 for t in node.outputs if t.name)
    read = (elements(shapes.shape(node.inputs[0])) or 0) if node.inputs else 0
    if node.op not in KERNELS or len(node.inputs) < 2:
        return Step(node.op, written, macs, params, read=read)
    row, weight, top = lookup(node, shapes), static(shapes.shape(node.inputs[1])), static(shapes.shape(node.outputs[0]))
    kind = ((row.subtype if row is not None else "") or "dense") if node.op == "Conv" else ""
    channels = 0 if not top else top[1] if node.op.startswith("Conv") else top[-1]
    return Step(node.op, written, macs, params, kind, channels, _gathered(node, kind, weight, written, read, channels), read)


def _gathered(node: gs.Node, kind: str, weight: tuple[int, ...] | None, written: int, read: int, channels: int) -> int:
    if weight is None or len(weight) < 3 or not channels:
        return 0
    pixels = read // max(weight[0], 1) if node.op == "ConvTranspose" else written // channels
    taps = 1
    for extent in weight[2:]:
        taps *= extent
    return pixels * taps * (int(node.attrs.get("group", 1)) if kind == "grouped" else 1)
