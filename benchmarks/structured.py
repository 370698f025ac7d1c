"""Structured pruning beside onnxsim's, on the same files: what changes, how many channels go, whether the outputs are right.

    python -m benchmarks.structured MODEL-OR-FOLDER... [--peer-python P] [--ratio 0.5] [--multiple 8]

Both prune by the norms of weights, without data. Both results are held against a masked original that is derived from the result
itself: which rows its weights lost says what every operator must read zero for (``tests.pruning``). A result that loses channels
of a graph output, mixes channels that go with channels that stay, or cannot be loaded, is *wrong*; so is a deviation above 1e-4 of
an output's range. The peer is ``onnxsim.pruning.apply_structured_pruning`` in an interpreter of its own. It keeps no multiple; a
line states, for each, the share of multiply-accumulates that is left, output channels removed, the deviation, seconds of the
processor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

import graphopt
from benchmarks.curves import macs
from graphopt.errors import GraphoptError
from graphopt.passes.prune import Prune
from graphopt.pipeline import Context
from tests.pruning.elements import Unrelated
from tests.pruning.gone import Mixed
from tests.pruning.large import KEPT, compare

_PEER = """
import json, sys, time
import onnx
from onnxsim.pruning import apply_structured_pruning
model = onnx.load(sys.argv[1])
start = time.process_time()
model = apply_structured_pruning(model, sparsity=float(sys.argv[3]))
seconds = time.process_time() - start
onnx.save(model, sys.argv[2])
print(json.dumps(seconds))
"""
_VERSION = "import onnxsim; print(onnxsim.__version__)"


@dataclass(frozen=True)
class Pruned:
    """What came of one file: share of MACs left, channels removed, deviation, seconds, what was wrong."""

    left: float = 1.0
    removed: int = 0
    deviation: float = 0.0
    seconds: float = 0.0
    wrong: str = ""

    def __str__(self) -> str:
        if self.wrong:
            return f"{'':>7} {'':>8} {'':>9} {self.seconds:7.1f}  {self.wrong[:40]:40}"
        return f"{self.left:7.1%} {self.removed:8} {self.deviation:9.1e} {self.seconds:7.1f}  {'':40}"


Run = Callable[[Path, float, int, str], tuple[onnx.ModelProto, float]]
"""From file, ratio, multiple and interpreter to the pruned model and seconds."""


def ours(path: Path, ratio: float, multiple: int, _: str) -> tuple[onnx.ModelProto, float]:
    """Prune with graphopt."""
    model = graphopt.load(path)
    context = Context(model)
    context.input_shapes()
    start = time.process_time()
    Prune(ratio=ratio, multiple=multiple, importance="norm", compensate=False).run(model, context)
    return model.proto(), time.process_time() - start


def theirs(path: Path, ratio: float, _: int, python: str) -> tuple[onnx.ModelProto, float]:
    """Prune with onnxsim, in its own interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.onnx"
        command = [python, "-c", _PEER, str(path), str(out), str(ratio)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise RuntimeError(f"failed: {done.stderr.strip().splitlines()[-1]}")
        return onnx.load(out), float(json.loads(done.stdout.splitlines()[-1]))


def measure(run: Run, path: Path, args: argparse.Namespace) -> Pruned:
    """Prune one file in one way, and judge the result."""
    seconds = 0.0
    try:
        pruned, seconds = run(path, args.ratio, args.multiple, args.peer_python)
        verdict = compare(onnx.load(path), pruned, dynamic=1)
        before, after = (macs(graphopt.load(p)) for p in (onnx.load(path), pruned))
    except (Mixed, Unrelated, AssertionError, GraphoptError, RuntimeError, NotImplementedError, ValueError) as error:
        return Pruned(seconds=seconds, wrong=f"{type(error).__name__}: {' '.join(str(error).split())}")
    except Exception as error:  # noqa: BLE001  onnxruntime's errors have no common ancestor
        return Pruned(seconds=seconds, wrong=f"not run: {' '.join(str(error).split())}")
    removed = sum(verdict.gone.rows.values())
    wrong = "" if verdict.deviation <= KEPT else f"other outputs: {verdict.deviation:.1e}"
    return Pruned(after / max(before, 1), removed, verdict.deviation, seconds, wrong)


def main() -> int:
    """Parse, measure, print a line a model and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--peer-python", default="", help="an interpreter with onnxsim")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--multiple", type=int, default=8)
    parser.add_argument("--largest", type=float, default=1000, help="leave out larger files (MiB)")
    args = parser.parse_args()
    files = [f for m in args.models for f in (m.glob("**/*.onnx") if m.is_dir() else [m])]
    files = sorted((f for f in files if f.stat().st_size <= args.largest * 2**20), key=lambda f: f.stat().st_size)
    runs: dict[str, Run] = {"graphopt": ours}
    if args.peer_python:
        version = subprocess.run([args.peer_python, "-c", _VERSION], capture_output=True, text=True, check=True)  # noqa: S603
        runs[f"onnxsim {version.stdout.strip()}"] = theirs
    print(f"{'':36} " + " ".join(f"{name:66}" for name in runs))
    print(f"{'file':36} " + " ".join(f"{'MACs':>7} {'removed':>8} {'deviation':>9} {'s':>7}  {'':40}" for _ in runs), flush=True)
    results: dict[str, list[Pruned]] = {name: [] for name in runs}
    for path in files:
        for name, run in runs.items():
            results[name].append(measure(run, path, args))
        print(f"{'/'.join(path.parts[-2:]):36} " + " ".join(str(found[-1]) for found in results.values()), flush=True)
    for name, found in results.items():
        right = [r for r in found if r.removed and not r.wrong]
        wrong, channels = sum(bool(r.wrong) for r in found), sum(r.removed for r in right)
        print(f"{name}: {len(right)} of {len(found)} files changed and right, {wrong} wrong, {channels} channels removed")
    return int(any(r.wrong for r in results["graphopt"]))


if __name__ == "__main__":
    sys.exit(main())
