"""The same model and options give the same bytes: runs in fresh processes, compared by the sha256 of everything that was written.

    python -m benchmarks.determinism MODEL... [--python PATH]... [--passes P]... [--seeds 0 1] [--runs 3]
    python -m benchmarks.determinism --generate FOLDER      # twenty models: those of this repository, and random ones

Each model goes through each pipeline in each interpreter (this one, and those named with --python, which must have graphopt's
dependencies), under each PYTHONHASHSEED, so many times. Data is drawn once for a model, with a fixed seed, and given to every
run. The exit code is 1 if any two runs of a model and pipeline differ; a run that is refused counts by what it says.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import graphopt
from benchmarks.random_nets import random_net
from graphopt.runtime import generated

ROOT = Path(__file__).parent.parent
PIPELINES = ("simplify,fold", "fold,prune:macs=0.8:multiple=4,quant")
GENERATED = 20


def main() -> int:
    """Parse, run everything, print one line for each model and pipeline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--generate", type=Path, metavar="FOLDER")
    parser.add_argument("--python", action="append", default=[], metavar="PATH")
    parser.add_argument("--passes", action="append", default=[])
    parser.add_argument("--seeds", nargs="+", default=["0", "1"])
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    models = [*args.models, *(twenty(args.generate) if args.generate else ())]
    differing = 0
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            data = draw(model, Path(folder))
            for passes in args.passes or PIPELINES:
                prints = [
                    fingerprint(python, seed, model, passes, data, Path(folder))
                    for python in [sys.executable, *args.python]
                    for seed in args.seeds
                    for _ in range(args.runs)
                ]
                same = len(set(prints)) == 1
                differing += not same
                told = prints[0] if same else f"DIFFER: {sorted(set(prints))}"
                print(f"{model.name:28} {passes:40} {len(prints)} runs {told}", flush=True)
    print(f"{differing} differ")
    return 1 if differing else 0


def twenty(folder: Path) -> list[Path]:
    """Twenty models: the ones in models/, filled up with random nets written to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted((ROOT / "models").glob("*/*.onnx"))
    for seed in range(GENERATED - len(found)):
        path = folder / f"random{seed}.onnx"
        path.write_bytes(random_net(seed).SerializeToString(deterministic=True))
        found.append(path)
    return found


def draw(model: Path, folder: Path) -> Path:
    """A file of inputs for ``model``."""
    path = folder / "data.npz"
    feeds = list(generated(graphopt.load(model), seed=0))
    joined: dict[str, Any] = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
    np.savez(path, **joined)
    return path


def fingerprint(python: str, seed: str, model: Path, passes: str, data: Path, folder: Path) -> str:
    """What one run writes, as a hash; what it says, where it refuses."""
    out = folder / "out.onnx"
    for old in folder.glob("out.onnx*"):
        old.unlink()
    command = [python, "-m", "graphopt", "run", str(model), "--passes", passes, "--data", str(data), "-o", str(out)]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    done = subprocess.run(  # noqa: S603 - our own command line
        [*command, "--no-timing", "--samples", "4"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"exit {done.returncode}: {' '.join(done.stderr.split())[:120]}"
    files = [path.read_bytes() for path in sorted(folder.glob("out.onnx*"))]
    return hashlib.sha256(b"".join(files)).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
