"""fold over a folder of models, beside onnxscript's optimizer in the same run: nodes, MACs, seconds, outputs.

    python -m benchmarks.fold MODELS [--only TEXT] [--peer-python PYTHON] [--repeat N] [--table FILE.md]

MODELS are files or folders of ONNX files, the smallest of which come first. For each: nodes and MACs as it comes and folded,
processor time of ``fold`` (which simplifies first) on a loaded model, the least of N, and the largest difference of the outputs, as
a share of their range, on a generated input. Where an operator's MACs are not known as the model comes, those of the simplified
model are taken (marked ~), or if not even they are, none (a question mark) and no comparison is made. PYTHON is an interpreter with
onnxscript; it optimizes the same file in a process of its own, and loading is not counted there either. ``--table`` writes the same
as a table in Markdown, line by line. The exit code is 1 if a model came out larger, or its outputs differ by more than 1e-4.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import graphopt
from graphopt.analysis import Analyses
from graphopt.errors import GraphoptError
from graphopt.passes.fold import Fold
from graphopt.passes.simplify import Simplify
from graphopt.pipeline import Context
from graphopt.pipeline.figures import figures
from graphopt.runtime import Session, generated

KEPT = 1e-4
HEADINGS = ("model", "nodes", "folded", "M MACs", "folded", "s", "error", "peer's nodes", "s", "faults")
_PEER = """
import json, sys, time
import onnx, onnxscript.optimizer
best = None
for _ in range(int(sys.argv[2])):
    model = onnx.load(sys.argv[1])
    start = time.process_time()
    model = onnxscript.optimizer.optimize(model)
    seconds = time.process_time() - start
    best = seconds if best is None else min(best, seconds)
print(json.dumps([len(model.graph.node), best]))
"""


@dataclass(frozen=True)
class Line:
    """What came of one model."""

    name: str
    nodes: tuple[int, int]
    macs: tuple[int | None, int | None]
    seconds: float
    error: float
    peer: tuple[int, float] | None
    simplified: bool = False

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        pairs = {"nodes": self.nodes, "MACs": self.macs}
        grown = [n for n, (a, b) in pairs.items() if a is not None and b is not None and b > a]
        return [*(f"more {n}" for n in grown), *([] if self.error <= KEPT else ["other outputs"])]

    @property
    def cells(self) -> list[str]:
        """As they are printed."""
        before, after = ("?" if m is None else f"{m / 1e6:.1f}" for m in self.macs)
        peer = [f"{self.peer[0]}", f"{self.peer[1]:.2f}"] if self.peer else ["", ""]
        macs = [f"~{before}" if self.simplified else before, after]
        return [*map(str, self.nodes), *macs, f"{self.seconds:.2f}", f"{self.error:.1e}", *peer, ", ".join(self.faults)]

    def __str__(self) -> str:
        widths = (6, 6, 10, 10, 7, 9, 6, 7, 0)
        return f"{self.name:40} " + " ".join(f"{c:>{w}}" for c, w in zip(self.cells, widths, strict=True))

    @property
    def row(self) -> str:
        """A line of a table in Markdown."""
        return f"| {self.name} | " + " | ".join(self.cells) + " |"


def measure(path: Path, name: str, repeat: int, peer_python: str | None) -> Line:
    """Fold one file."""
    seconds = float("inf")
    original = graphopt.load(path)
    context = Context(original)
    for _ in range(repeat):
        model = original.copy()
        fresh = Context(original)
        fresh.input_shapes()  # found by trial where they are dynamic: no part of fold
        start = time.process_time()
        Fold().run(model, fresh)
        seconds = min(seconds, time.process_time() - start)
    before, after = figures(Analyses(original), context.input_shapes()), figures(Analyses(model), context.input_shapes())
    base, simplified = before, bool(before.unknown)
    if simplified:
        plain = original.copy()
        Simplify().run(plain, Context(original))
        base = figures(Analyses(plain), context.input_shapes())
    feed = generated(original, 1).first()
    worst = 0.0
    for a, b in zip(Session(original).run(feed).values(), Session(model).run(feed).values(), strict=True):
        span = float(np.ptp(a)) or 1.0
        worst = max(worst, float(np.abs(np.asarray(a, np.float64) - b).max()) / span) if a.size else worst
    peer = _peer(path, repeat, peer_python) if peer_python else None
    macs = (None if base.unknown else base.macs, None if after.unknown else after.macs)
    return Line(name, (before.nodes, after.nodes), macs, seconds, worst, peer, simplified and not base.unknown)


def _peer(path: Path, repeat: int, python: str) -> tuple[int, float] | None:
    done = subprocess.run([python, "-c", _PEER, str(path), str(repeat)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        return None
    nodes, seconds = json.loads(done.stdout.splitlines()[-1])
    return nodes, seconds


def main() -> int:
    """Parse, measure, print a line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="just the files whose name contains this")
    parser.add_argument("--peer-python", help="an interpreter with onnxscript")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--table", type=Path, help="write a table in Markdown")
    args = parser.parse_args()
    print(f"{'':40} {'nodes':>6} {'folded':>6} {'M MACs':>10} {'folded':>10} {'s':>7} {'error':>9} {'peer':>6} {'s':>7}")
    failed = False
    with args.table.open("w", encoding="utf-8") if args.table else contextlib.nullcontext() as table:
        if table is not None:
            print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}", file=table)
        for path, name in _files(args.models, args.only):
            try:
                line = measure(path, name, args.repeat, args.peer_python)
            except GraphoptError as error:
                print(f"{name:40} {error}", flush=True)
                failed = True
                continue
            print(line, flush=True)
            if table is not None:
                print(line.row, file=table, flush=True)
            failed |= bool(line.faults)
    return int(failed)


def _files(given: list[Path], only: str) -> list[tuple[Path, str]]:
    """Files and what they are called: within a folder by their place in it."""
    found: list[tuple[Path, str]] = []
    for one in given:
        inside = one.glob("**/*.onnx") if one.is_dir() else [one]
        base = one if one.is_dir() else one.parent
        found += [(f, f.relative_to(base).with_suffix("").as_posix()) for f in inside if only in f.name]
    return sorted(found, key=lambda pair: (pair[0].stat().st_size, pair[1]))


if __name__ == "__main__":
    sys.exit(main())
