"""int8 beside int8: this pass, onnxruntime's ``quantize_static`` and NNCF on the same 64 samples, in one run, one thread.

    python -m benchmarks.quant --models FOLDER --photos FOLDER [TASK...] [--passes fold,quant] [--peers ort-minmax,ort-entropy,nncf]

Every peer gets the model as ``fold`` leaves it, so that what is compared is quantization alone, and is then written at its best
settings: uint8 activations, int8 weights a channel. Time is the ratio of one model's to folded float's, sessions
and runs in turns (``graphopt.runtime.ratio``). NNCF runs in the interpreter that ``--nncf`` names, since its requirements are
others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import graphopt
from benchmarks.quant_tasks import TASKS, Feed, Places, Task
from graphopt.runtime import feeds_from
from graphopt.runtime.ratio import time_ratio

Figures = dict[str, float]


class _Reader:
    """What ``quantize_static`` reads from."""

    def __init__(self, feeds: list[Feed]) -> None:
        self.left: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self.left, None)


def onnxruntime_static(task: Task, model: bytes, method: str) -> bytes:
    """``quantize_static`` with its own preprocessing, opset 13 or later."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, ready, result = (Path(folder) / f"{name}.onnx" for name in ("source", "ready", "result"))
        proto = onnx.ModelProto.FromString(model)
        if proto.opset_import[0].version < 13:
            proto = onnx.version_converter.convert_version(proto, 13)
        onnx.save(proto, str(source))
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(result),
            _Reader(task.calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
        )
        return result.read_bytes()


NNCF = """
import sys, numpy as np, onnx, nncf
source, data, result = sys.argv[1:]
arrays = np.load(data)
names = sorted({k.split("/", 1)[1] for k in arrays.files})
count = len(arrays.files) // len(names)
feeds = [{n: arrays[f"{i:04}/{n}"] for n in names} for i in range(count)]
onnx.save(nncf.quantize(onnx.load(source), nncf.Dataset(feeds), subset_size=count), result)
"""


def nncf(task: Task, model: bytes, python: str) -> bytes:
    """``nncf.quantize`` with its default preset."""
    with tempfile.TemporaryDirectory() as folder:
        source, data, result = (Path(folder) / name for name in ("source.onnx", "data.npz", "result.onnx"))
        source.write_bytes(model)
        arrays: dict[str, Any] = {f"{i:04}/{n}": v for i, feed in enumerate(task.calibration) for n, v in feed.items()}
        np.savez(data, **arrays)
        done = subprocess.run([python, "-c", NNCF, source, data, result], check=False, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return result.read_bytes()


def ours(task: Task, passes: str) -> bytes:
    """A pipeline of this package."""
    model = graphopt.load(task.path)
    result = graphopt.run(model, passes, data=feeds_from(task.calibration, model), timing=False)
    return result.model.proto().SerializeToString()


def main() -> None:
    """Parse, measure, print a table a task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument("--models", type=Path, required=True, help="folder of trained models")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs named by their class")
    parser.add_argument("--passes", action="append", default=[])
    parser.add_argument("--peers", default="ort-minmax,ort-entropy", help="of ort-minmax, ort-entropy, ort-percentile, nncf")
    parser.add_argument("--nncf", default="python3", help="an interpreter that has nncf")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to time a model")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    places = Places(args.models, args.photos)
    found: dict[str, dict[str, Figures]] = {}
    for name in args.tasks:
        task = TASKS[name](places)
        folded = ours(task, "fold")
        makers: dict[str, Callable[[], bytes]] = {"float": task.path.read_bytes, "folded": partial(bytes, folded)}
        for peer in filter(None, args.peers.split(",")):
            makers[peer] = partial(_peer, task, folded, peer, args.nncf)
        for passes in args.passes or ["fold,quant"]:
            makers[passes] = partial(ours, task, passes)
        print(f"{name}: {len(task.calibration)} samples calibrate", flush=True)
        found[name] = {label: row for label, make in makers.items() if (row := _measure(task, folded, label, make, args.seconds))}
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _peer(task: Task, model: bytes, name: str, python: str) -> bytes:
    if name == "nncf":
        return nncf(task, model, python)
    methods = {"ort-minmax": "MinMax", "ort-entropy": "Entropy", "ort-percentile": "Percentile"}
    return onnxruntime_static(task, model, methods[name])


def _measure(task: Task, folded: bytes, label: str, make: Callable[[], bytes], seconds: float) -> Figures | None:
    start = time.perf_counter()
    try:
        model = make()
    except Exception as error:  # noqa: BLE001  the others are still to come
        print(f"  {label:40} failed: {str(error).splitlines()[0][:120]}", flush=True)
        return None
    took = time.perf_counter() - start
    row = task.judge(model)
    if seconds > 0:
        ratio = time_ratio(model, folded, task.timed, seconds=seconds)
        row |= {"time": ratio.median, "time low": ratio.low, "time high": ratio.high}
    row |= {"KiB": len(model) / 1024, "seconds": took}
    print(f"  {label:40} " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    return row


if __name__ == "__main__":
    main()
