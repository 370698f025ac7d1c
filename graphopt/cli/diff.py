"""``graphopt diff A B``: how two models differ, in structure, interface, weights, cost and outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from graphopt.check.difference import Cost, ModelDifference, difference
from graphopt.check.runner import admitted
from graphopt.check.subject import Asked
from graphopt.cli.common import debug_option, emit, format_option, limit_options
from graphopt.errors import printable
from graphopt.guard.limits import Limits
from graphopt.pipeline import DEFAULT_TARGET
from graphopt.report.text import counted, si, size
from graphopt.target import Target

MOST = 12
"""Lines of a list; the JSON has them all."""


@click.command(name="diff", short_help="Show how two models differ.")
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("-d", "--data", metavar="DATA", help="Samples, as for `run`; generated without it.")
@click.option("--preprocess", metavar="STEPS", help="How images become inputs.")
@click.option("--samples", type=click.IntRange(min=1), default=32, show_default=True, help="How many samples to compare on.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if they differ.")
@format_option("text", "json")
@limit_options
@debug_option
def command(
    first: Path,
    second: Path,
    data: str | None,
    preprocess: str | None,
    samples: int,
    exit_code: bool,
    form: str,
    memory_limit: int | None,
    time_limit: float | None,
) -> int:
    """Show how B differs from A: structure, interface, weights, cost, and how far its outputs are from A's."""
    target, limits = Target.load(DEFAULT_TARGET), Limits(memory_limit, time_limit)
    one = admitted(first, Asked(target, data=data, preprocess=preprocess, samples=samples), limits)
    other = admitted(second, Asked(target, against=first, data=data, preprocess=preprocess, samples=samples), limits)
    found = difference(one, other)
    emit(json.dumps(_data(first, second, found), indent=2, allow_nan=False) if form == "json" else "\n".join(_text(found)))
    return 1 if exit_code and not found.equal else 0


def _data(first: Path, second: Path, found: ModelDifference) -> dict[str, Any]:
    drift = found.drift
    return {
        "schema": 1,
        "first": str(first),
        "second": str(second),
        "equal": found.equal,
        "structure": {
            "same": found.same_structure,
            "opsets": found.opsets,
            "ops": found.ops,
            "removed": found.removed,
            "added": found.added,
        },
        "interface": [{"code": d.code, "why": d.why} for d in found.interface],
        "weights": {"equal": found.weights_equal, "different": [_finite(asdict(w)) for w in found.weights]},
        "cost": {"first": asdict(found.costs[0]), "second": asdict(found.costs[1])},
        "drift": None if drift is None else {"failure": drift.failure, "outputs": [_finite(asdict(o)) for o in drift.outputs]},
        "no_drift": found.no_drift,
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _text(found: ModelDifference) -> Iterator[str]:
    yield "structure: " + ("the same, up to names" if found.same_structure else "different")
    yield from (
        f"  opset of {printable(name) or 'ONNX'}: {one or 'none'} -> {two or 'none'}" for name, (one, two) in found.opsets.items()
    )
    yield from (f"  {printable(op)}: {before} -> {after}" for op, (before, after) in found.ops.items())
    yield from _listed("- ", found.removed)
    yield from _listed("+ ", found.added)
    yield "interface: " + ("the same" if not found.interface else "different")
    yield from (f"  {fault.code}: {printable(fault.why)}" for fault in found.interface)
    yield f"weights: {counted(found.weights_equal, 'tensor')} equal, {len(found.weights)} not"
    lines = [f"{w.first or w.second}: {w.why}" + (f" ({w.sqnr_db:.1f} dB)" if w.sqnr_db is not None else "") for w in found.weights]
    yield from _listed("", lines)
    yield "cost:"
    yield from _costs(*found.costs)
    yield from _drift(found)


def _listed(mark: str, lines: tuple[str, ...] | list[str]) -> Iterator[str]:
    yield from (f"  {mark}{printable(line)}" for line in lines[:MOST])
    if len(lines) > MOST:
        yield f"  {mark}and {len(lines) - MOST} more"


def _costs(first: Cost, second: Cost) -> Iterator[str]:
    yield f"  nodes: {first.nodes} -> {second.nodes}"
    yield f"  parameters: {si(first.params)} -> {si(second.params)}"
    yield f"  MACs: {si(first.macs)} -> {si(second.macs)}"
    yield f"  file: {size(first.bytes)} -> {size(second.bytes)}"
    peaks = ["not known" if c.peak_activation is None else size(c.peak_activation) for c in (first, second)]
    yield f"  peak activation: {peaks[0]} -> {peaks[1]}"


def _drift(found: ModelDifference) -> Iterator[str]:
    drift = found.drift
    if drift is None or drift.failure is not None:
        yield printable(f"drift: not measured: {found.no_drift if drift is None else drift.failure}")
        return
    yield f"drift, on {counted(drift.runs, 'sample')}:"
    for output in drift.outputs:
        figures = [f"largest difference {output.max_abs:.3g}, {output.rel:.2g} of its range"]
        figures += [f"SQNR {output.sqnr_db:.1f} dB"] if output.sqnr_db is not None else []
        figures += [f"PSNR {output.psnr_db:.1f} dB"] if output.psnr_db is not None else []
        figures += [f"top-1 agreement {output.top1:.2%}"] if output.top1 is not None else []
        figures += [f"cosine {output.cosine:.6f}"] if output.cosine is not None else []
        yield printable(f"  {output.name}: {output.failure or ', '.join(figures)}")
