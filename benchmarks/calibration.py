"""What calibration costs: time beside onnxruntime's ``quantize_static``, and memory as samples grow.

    python -m benchmarks.calibration MODEL... --data FOLDER [--preprocess P] [--samples 8,64,512] [--repeats 2]

MODEL is a float model, FOLDER holds images or arrays; samples beyond its files begin anew. A row each for

    ranges           one pass over the samples for least and greatest values, as ``quant:ranges=minmax`` makes it
    quant, plain     the whole pass with these ranges, to the nearest, nothing chosen by measurement
    quant            the whole pass as it is by default
    quantize_static  onnxruntime's, MinMax, uint8 activations, int8 weights a channel, files written and read again

each in a process of its own on one thread, in turns: the least seconds on the clock and the greatest peak of memory (MiB) of the
repeats, imports left out of the time and not of the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import onnx

import graphopt
from graphopt.passes.quant.ranges import observe
from graphopt.runtime import Feed, Feeds, open_data

PLAIN = "quant:ranges=minmax:rounding=nearest:bias=keep:equalize=off:allow-slower"
ROWS = ("ranges", "quant, plain", "quant", "quantize_static")


def repeated(folder: Path, count: int, into: Path) -> Path:
    """A folder of so many links to the files of ``folder``, which begin anew when they are through."""
    files = sorted(f for f in folder.iterdir() if f.is_file())
    for i in range(count):
        source = files[i % len(files)]
        (into / f"{i:06}{source.suffix}").symlink_to(source.resolve())
    return into


def static(path: Path, feeds: Feeds, result: Path) -> None:
    """``quantize_static`` at the settings of ``benchmarks.quant``."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    class Reader:
        def __init__(self, feeds: Iterable[Feed]) -> None:
            self.left = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self.left, None)

    kinds: dict[str, Any] = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    quantize_static(str(path), str(result), Reader(feeds), quant_format=QuantFormat.QDQ, **kinds)


def measure(row: str, path: Path, data: str, preprocess: str | None) -> dict[str, float]:
    """One row, in this process."""
    model = graphopt.load(path)
    feeds = open_data(data, model, preprocess)
    spent = 0.0

    def timed(*args: Any, **options: Any) -> Any:
        nonlocal spent
        start = time.perf_counter()
        found = observe(*args, **options)
        spent += time.perf_counter() - start
        return found

    start = time.perf_counter()
    if row == "quantize_static":
        with tempfile.TemporaryDirectory() as folder:
            static(path, feeds, Path(folder) / "result.onnx")
    else:
        with mock.patch("graphopt.passes.quant.quant.observe", timed):
            graphopt.run(model, "quant:allow-slower" if row == "quant" else PLAIN, data=feeds, timing=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": spent if row == "ranges" else seconds, "MiB": peak}


def main() -> None:
    """Parse, measure in turns, print a table a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preprocess")
    parser.add_argument("--samples", default="8,64,512")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rows", default=";".join(ROWS), help="separated by semicolons")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.models[0], str(args.data), args.preprocess)))
        return
    for path in args.models:
        table(path, args)


def table(path: Path, args: argparse.Namespace) -> None:
    """One model."""
    counts = [int(n) for n in args.samples.split(",")]
    print(f"{path.name:24}" + "".join(f"{f'{n} samples':>24}" for n in counts))
    print(" " * 24 + f"{'s':>14}{'MiB':>10}" * len(counts), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "float.onnx"  # the peer wants shapes, and what fold leaves is what users quantize
        onnx.save(onnx.shape_inference.infer_shapes(graphopt.run(path, "fold", timing=False).model.proto()), ready)
        data = [repeated(args.data, n, Path(tempfile.mkdtemp(dir=folder))) for n in counts]
        found: dict[tuple[str, int], dict[str, float]] = {}
        for _ in range(args.repeats):
            for row in args.rows.split(";"):
                for n, where in zip(counts, data, strict=True):
                    one = spawn(row, ready, where, args.preprocess)
                    before = found.get((row, n), one)
                    found[row, n] = {"seconds": min(one["seconds"], before["seconds"]), "MiB": max(one["MiB"], before["MiB"])}
        for row in args.rows.split(";"):
            figures = "".join(f"{found[row, n]['seconds']:14.2f}{found[row, n]['MiB']:10.0f}" for n in counts)
            print(f"{row:24}{figures}", flush=True)


def spawn(row: str, path: Path, data: Path, preprocess: str | None) -> dict[str, float]:
    """``measure`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.calibration", str(path), "--data", str(data), "--measure", row]
    command += ["--preprocess", preprocess] if preprocess else []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
