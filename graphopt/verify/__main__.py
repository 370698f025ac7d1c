"""``python -m graphopt.verify reference.onnx candidate.onnx feed.npz --relative 1e-4``: the line that a reproducer ends with.

Prints each output's distance and the first inner tensor that differs. Exits with 0 if the outputs agree, 1 if they do
not, 2 if a file cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from graphopt.errors import Diagnostic, GraphoptError
from graphopt.model import Model
from graphopt.runtime import Feed, generated, input_specs
from graphopt.verify.compare import Drift, compare, within
from graphopt.verify.differences import first_difference
from graphopt.verify.interface import check_interface
from graphopt.verify.reproducer import load_feed
from graphopt.verify.structure import check_structure


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two model files."""
    parser = argparse.ArgumentParser(prog="python -m graphopt.verify", description="Compare the outputs of two models.")
    parser.add_argument("reference", type=Path)
    parser.add_argument("candidate", type=Path)
    parser.add_argument("feed", type=Path, nargs="?", help=".npz of the inputs; generated inputs if left out")
    parser.add_argument("--relative", type=float, required=True, help="allowed difference, as a share of an output's range")
    given = parser.parse_args(arguments)
    try:
        return _run(given.reference, given.candidate, given.feed, given.relative)
    except GraphoptError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _run(reference: Path, candidate: Path, feed: Path | None, relative: float) -> int:
    first, second = Model.load(reference), Model.load(candidate)
    faults = [*check_structure(second), *check_interface(first, second)]
    feeds: list[Feed] = [*generated(first, 1)] if feed is None else [load_feed(feed, input_specs(first))]
    drift = compare(first, second, feeds)
    agree = within(drift, relative) and not faults
    lines = [*_faults(faults), *_outputs(drift, relative)]
    if not within(drift, relative):
        difference = first_difference(first, second, feeds[0], relative)
        lines.append("no common inner tensor differs" if difference is None else str(difference))
    lines.append("the outputs agree" if agree else "the models do NOT agree")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if agree else 1


def _faults(faults: Sequence[Diagnostic]) -> list[str]:
    return [f"[{fault.code}] {fault.where}: {fault.why}" for fault in faults]


def _outputs(drift: Drift, relative: float) -> list[str]:
    if drift.failure is not None:
        return [drift.failure]
    lines: list[str] = []
    for output in drift.outputs:
        mark = "ok " if output.rel <= relative else "BAD"
        sqnr = "" if output.sqnr_db is None else f", SQNR {output.sqnr_db:.1f} dB"
        figures = output.failure or f"max difference {output.max_abs:.3g}, {output.rel:.2g} of its range{sqnr}"
        lines.append(f"{mark} '{output.name}': {figures}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
