"""fold over a folder of models, beside onnxscript's optimizer in the same run: nodes, MACs, seconds, outputs.

    python -m benchmarks.fold MODELS [--only TEXT] [--peer-python PYTHON] [--repeat N]

MODELS are files or folders of ONNX files. For each: nodes and MACs as it comes and folded (a question mark where an operator's
are not known), processor time of ``fold`` (which simplifies first) on a loaded model, the least of N, and the largest difference
of the outputs, as a share of their range, on a generated input. PYTHON is an interpreter with onnxscript; it optimizes the same
file in a process of its own, and loading is not counted there either. The exit code is 1 if a model came out larger, or its
outputs differ by more than 1e-4.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import graphopt
from graphopt.errors import GraphoptError
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context
from graphopt.pipeline.figures import figures
from graphopt.runtime import Session, generated

KEPT = 1e-4
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

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        pairs = {"nodes": self.nodes, "MACs": self.macs}
        grown = [n for n, (a, b) in pairs.items() if a is not None and b is not None and b > a]
        return [*(f"more {n}" for n in grown), *([] if self.error <= KEPT else ["other outputs"])]

    def __str__(self) -> str:
        peer = f"{self.peer[0]:6} {self.peer[1]:7.2f}" if self.peer else f"{'':6} {'':7}"
        macs = " ".join(f"{'?':>10}" if m is None else f"{m / 1e6:10.1f}" for m in self.macs)
        return (
            f"{self.name:40} {self.nodes[0]:6} {self.nodes[1]:6} {macs} {self.seconds:7.2f} {self.error:9.1e} {peer}"
            f" {', '.join(self.faults)}"
        )


def measure(path: Path, repeat: int, peer_python: str | None) -> Line:
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
    before, after = figures(original, context.input_shapes()), figures(model, context.input_shapes())
    feed = generated(original, 1).first()
    worst = 0.0
    for a, b in zip(Session(original).run(feed).values(), Session(model).run(feed).values(), strict=True):
        span = float(np.ptp(a)) or 1.0
        worst = max(worst, float(np.abs(np.asarray(a, np.float64) - b).max()) / span) if a.size else worst
    peer = _peer(path, repeat, peer_python) if peer_python else None
    macs = (None if before.unknown else before.macs, None if after.unknown else after.macs)
    return Line(path.stem, (before.nodes, after.nodes), macs, seconds, worst, peer)


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
    args = parser.parse_args()
    files = [f for m in args.models for f in (sorted(m.glob("**/*.onnx")) if m.is_dir() else [m]) if args.only in f.name]
    print(f"{'':40} {'nodes':>6} {'folded':>6} {'M MACs':>10} {'folded':>10} {'s':>7} {'error':>9} {'peer':>6} {'s':>7}")
    failed = False
    for path in files:
        try:
            line = measure(path, args.repeat, args.peer_python)
        except GraphoptError as error:
            print(f"{path.stem:40} {error}", flush=True)
            failed = True
            continue
        print(line, flush=True)
        failed |= bool(line.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
