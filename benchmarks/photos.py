"""Top-1 of an image classifier before and after pipelines, on photographs whose file name is their class index.

    python -m benchmarks.photos MODEL --photos FOLDER --preprocess imagenet --passes fold --passes fold,quant

Photographs with a class index divisible by 4 calibrate (unlabelled); the others judge. Time is the interleaved ratio of the input
model's latency to the result's, one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphopt
from graphopt.runtime import Session, compare_time, feeds_from, open_data


def main() -> None:
    """Parse, measure, print one line a pipeline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--passes", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    model = graphopt.load(args.model)
    names = sorted(int(p.stem) for p in args.photos.glob("*.jpg"))
    samples = list(open_data(str(args.photos), model, args.preprocess))
    calibration = [s for s, n in zip(samples, names, strict=True) if n % 4 == 0]
    judged = [(s, n) for s, n in zip(samples, names, strict=True) if n % 4]
    labels = np.asarray([n for _, n in judged])
    before = _answers(model, [s for s, _ in judged])
    print(f"{args.model.name}: {len(calibration)} photographs calibrate, {len(judged)} judge")
    print(f"  {'float':44} top-1 {(before == labels).sum()}")
    for passes in args.passes:
        start = time.perf_counter()
        result = graphopt.run(model, passes, data=feeds_from(calibration, model), timing=False)
        seconds = time.perf_counter() - start
        after = _answers(result.model, [s for s, _ in judged])
        timing = compare_time(model, result.model, judged[0][0], repeats=2000, seconds=args.seconds)
        last = result.report.passes[-1]
        print(
            f"  {passes:44} top-1 {(after == labels).sum()}, agreement {(after == before).sum()}, "
            f"{timing.ratio:.2f} times as fast ({timing.a_ms:.2f} to {timing.b_ms:.2f} ms), "
            f"{last.figures.macs / 1e6:.1f} M MACs, {seconds:.0f} s"
        )


def _answers(model: graphopt.Model, samples: list[dict[str, Any]]) -> NDArray[np.int64]:
    session = Session(model, threads=2)
    return np.asarray([int(np.argmax(next(iter(session.run(s).values())))) for s in samples], np.int64)


if __name__ == "__main__":
    main()
