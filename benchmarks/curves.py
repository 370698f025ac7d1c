"""The task's own figure against the share of multiply-accumulates that pruning leaves, without training.

    python -m benchmarks.curves cifar_rep --data build/cifar10 --keep 0.9 0.8 0.7 0.6 0.5 0.4
    python -m benchmarks.curves sr_x3 --data build/sr_x3 --keep 0.75
    python -m benchmarks.curves depth --keep 0.6 --scenes 200
    python -m benchmarks.curves MODEL.onnx --data PHOTOS --preprocess imagenet --keep 0.9 0.8

The networks of ``models/`` are calibrated with inputs of their training data (512 images, 128 patches, 64 scenes), unlabelled, and
judged as ``models.evaluate`` does. A file is taken as an image classifier, ``--data`` as photographs whose file name is their class
index: those divisible by 4 calibrate, the others judge. The budget is of the folded model. ``--options`` goes to the pass.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphopt
from graphopt.analysis import Analyses, Cost
from graphopt.pipeline import Context
from graphopt.runtime import Session, open_data

Array = NDArray[Any]
Judge = Callable[[graphopt.Model], float]
Task = tuple[Path, list[dict[str, Array]], Judge]
"""A model's file, samples to calibrate with, and what its figure is."""


def cifar(args: argparse.Namespace) -> Task:
    """Top-1 of the 10,000 test images, in per cent; of either network for them."""
    from models.cifar_bottleneck.evaluate import MODEL as BOTTLENECK
    from models.cifar_rep import data, evaluate

    data.fetch(args.data)
    images, _ = data.load(args.data, "train")
    feeds = [{"image": data.to_input(images[k : k + 1])} for k in range(args.samples or data.CALIBRATION_IMAGES)]
    path = BOTTLENECK if args.model == "cifar_bottleneck" else evaluate.MODEL
    return path, feeds, lambda model: 100 * _saved(model, lambda path: evaluate.accuracy(path, args.data))


def sr(args: argparse.Namespace) -> Task:
    """PSNR of five photographs, in dB."""
    from models.sr_x3 import data, evaluate

    small, _ = data.Patches(args.data, patch=64, seed=0).batch(128)
    feeds = [{"image": x[None].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)} for x in small]
    judged = data.fetch_judged(args.data / "scikit-image")

    def judge(model: graphopt.Model) -> float:
        return _saved(model, lambda path: float(np.mean([n for n, _ in evaluate.figures(path, judged).values()])))

    return Path(evaluate.__file__).with_name("sr_x3.torchscript.onnx"), feeds, judge


def depth(args: argparse.Namespace) -> Task:
    """Scale-invariant error of held-out scenes, times 1000."""
    from models.depth import evaluate, render
    from models.depth.scene import draw

    feeds = [{"image": evaluate.to_input(render.render(draw(k), render.FULL)[0])} for k in range(64)]
    scenes = [render.render(draw(render.HELD_OUT + k), render.FULL) for k in range(args.scenes)]

    def judge(model: graphopt.Model) -> float:
        session = Session(model)
        predicted = (next(iter(session.run({"image": evaluate.to_input(image)}).values()))[0, 0] for image, _ in scenes)
        return 1e3 * float(np.mean([evaluate.scene_error(p, true)[0] for p, (_, true) in zip(predicted, scenes, strict=True)]))

    return evaluate.MODEL, feeds, judge


def photos(args: argparse.Namespace) -> Task:
    """Top-1 of the photographs that did not calibrate, in per cent."""
    path = Path(args.model)
    names = sorted(int(p.stem) for p in args.data.glob("*.jpg"))
    samples = list(open_data(str(args.data), graphopt.load(path), args.preprocess))
    judged = [(s, n) for s, n in zip(samples, names, strict=True) if n % 4]

    def judge(model: graphopt.Model) -> float:
        session = Session(model, threads=2)
        return 100 * float(np.mean([int(np.argmax(next(iter(session.run(s).values())))) == n for s, n in judged]))

    return path, [s for s, n in zip(samples, names, strict=True) if n % 4 == 0][: args.samples], judge


def task(name: str, args: argparse.Namespace) -> Task:
    """The task of a network of ``models/``, or of the file of an image classifier. ``args``: data, preprocess, samples, scenes."""
    args.model = name
    named: dict[str, Callable[[argparse.Namespace], Task]] = {
        "cifar_rep": cifar,
        "cifar_bottleneck": cifar,
        "sr_x3": sr,
        "depth": depth,
    }
    return named.get(name, photos)(args)


def macs(model: graphopt.Model) -> int:
    """Multiply-accumulates of a model, dynamic sizes as in generated inputs."""
    return int(Analyses(model).get(Cost(Context(model).input_shapes())).macs)


def _sqnr(record: Any) -> float:
    return min((o.sqnr_db for o in record.drift.outputs if o.sqnr_db is not None), default=float("nan")) if record.drift else 0.0


def _saved(model: graphopt.Model, figure: Callable[[Path], float]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.save(path)
        return figure(path)


def main() -> None:
    """Parse, measure, print one line a budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="cifar_rep, cifar_bottleneck, sr_x3, depth, or the file of an image classifier")
    parser.add_argument("--data", type=Path, default=Path("build"))
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.8])
    parser.add_argument("--options", nargs="+", default=["multiple=8"], help="sets of options of the pass, each tried")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--samples", type=int, default=None, help="calibrate with so many photographs or images only")
    args = parser.parse_args()
    path, feeds, judge = task(args.model, args)
    folded = graphopt.run(path, "fold", data=feeds, timing=False).model
    before = judge(folded)
    print(f"{path.name}: {before:.2f}, {len(feeds)} samples calibrate", flush=True)
    for keep in args.keep:
        for options in args.options:
            start, work = time.perf_counter(), time.process_time()
            result = graphopt.run(folded, f"prune:macs={keep}:{options}", data=feeds, timing=False)
            seconds, work = time.perf_counter() - start, time.process_time() - work
            after, record = judge(result.model), result.report.passes[-1]
            share = record.figures.macs / max(result.report.figures.macs, 1)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"  macs={keep}:{options:24} {after:7.2f} ({after - before:+.2f}), {share:.1%} of the MACs, "
                f"SQNR {_sqnr(record):.1f} dB, "
                f"{seconds:.0f} s ({work:.0f} s of the processor), peak {peak:.1f} GiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
