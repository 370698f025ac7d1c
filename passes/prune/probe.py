"""Measuring a latency table on the machine at hand, with nothing but the runtime.

For each shape of a model's convolutions and matrix products a small model holds it at several widths, and the runtime's own profile
gives the time of each operator alone: not of the copies into and out of the layout of its kernels, which a whole model makes once.
The lower quartile of the repetitions counts, for on a busy machine the others measure the neighbours. The step comes first: the
widths of outputs between which a 1x1 convolution takes no more time.
"""

from __future__ import annotations

import json
import math
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from graphopt.analysis import Analyses, Shapes
from graphopt.model import Model, node_key
from graphopt.ops.kernels import KERNELS
from graphopt.passes.prune.latency import Sized, others, predicted, sized
from graphopt.pipeline import InputShapes
from graphopt.runtime import Feed, measure_time
from graphopt.runtime.session import onnxruntime, session_options
from graphopt.target.latency import LatencyTable, ShapeKey, Staircase

Array = NDArray[Any]
Point = tuple[int, int]

STEPS = (16, 8, 4)
"""Steps that kernels have, the largest first."""

_FLAT = 1.1
"""Times within this factor are the same."""

_POINTS = 5
"""Widths of a grid along one axis, at most."""

_RUNS, _SECONDS = 25, 0.2
_REPEATS = 5
_BYTES = 2**27
"""Of the outputs of one small model."""


def probe(model: Model, feed: Feed, shapes: InputShapes, advance: Callable[[], None], threads: int = 1) -> LatencyTable:
    """The latency table of a model's shapes; ``advance`` is called for each."""
    step, align = measured_step(threads)
    facts = Analyses(model).get(Shapes(shapes))
    found = list(sized(model, facts))
    by_key: dict[ShapeKey, list[Sized]] = {}
    for one in found:
        by_key.setdefault(one.key, []).append(one)
    stairs: dict[ShapeKey, Staircase] = {}
    for key, several in by_key.items():
        stairs[key] = _staircase(key, several, step, align, threads)
        advance()
    table = LatencyTable(step, align, 1.0, 0.0, stairs)
    rest = sum(count for _, count in others(model, facts, {node_key(s.node) for s in found}))
    spent = _profile(model.proto(), feed, threads)
    other = sum(t for (op, _), t in spent.items() if op.removeprefix("Fused") not in KERNELS)
    table = replace(table, rest=1e3 * other / max(rest, 1))
    whole = measure_time(model, feed, repeats=50, seconds=3.0, threads=threads)
    return replace(table, scale=whole / max(predicted(model, table, shapes).ms, 1e-9))


def source() -> str:
    """Where a table comes from, in words."""
    return f"onnxruntime {onnxruntime().__version__} on {platform.machine()}, one thread, lower quartile of its own profile"


def _staircase(key: ShapeKey, several: Sequence[Sized], step: int, align: int, threads: int) -> Staircase:
    outputs = _grid([s.outputs for s in several], step, key.groups)
    if key.grouping == "depthwise":
        times = _times(key, [(w, w) for w in outputs], threads)
        return _odd(Staircase(key, (), tuple(outputs), (tuple(times[w, w] for w in outputs),)), step, align, threads)
    inputs = _grid([s.inputs for s in several], step, key.groups)
    grid: dict[Point, float] = {}
    for width in inputs:
        grid.update(_times(key, [(width, w) for w in outputs], threads))
    stair = Staircase(key, tuple(inputs), tuple(outputs), tuple(tuple(grid[i, o] for o in outputs) for i in inputs))
    return _odd(stair, step, align, threads)


def _odd(stair: Staircase, step: int, align: int, threads: int) -> Staircase:
    """``stair`` with the factor for widths that are not aligned."""
    key, outputs = stair.key, stair.outputs[-1]
    inputs = stair.inputs[-1] if stair.inputs else outputs
    if align == 1 or min(inputs, outputs) <= step or key.groups > 1 or key.op != "Conv":
        return stair
    alone = _times(key, [(inputs - 1, outputs - 1)], threads)[inputs - 1, outputs - 1]
    return replace(stair, odd=max(1.0, alone / max(stair.time(inputs, outputs, step, align), 1e-9)))


def _grid(widths: Sequence[int], step: int, groups: int) -> list[int]:
    """Widths to measure: of each width four shares, on steps (those below a step as they are), thinned out."""
    unit = math.lcm(step, groups)
    found = {w if w < unit else max(unit, round(w * share / 4 / unit) * unit) for w in widths for share in (1, 2, 3, 4)}
    found |= {w if w < unit else -(-w // unit) * unit for w in widths}
    ordered = sorted(found)
    if len(ordered) <= _POINTS:
        return ordered
    return [ordered[round(k * (len(ordered) - 1) / (_POINTS - 1))] for k in range(_POINTS)]


def measured_step(threads: int = 1) -> tuple[int, int]:
    """The step of widths, and what they must be a multiple of for the layout that is fast."""
    key = ShapeKey("Conv", (1, 1), (1, 1), (1, 1), size=(28, 28))
    times = _times(key, [(96, w) for w in range(32, 65)], threads)
    step = next((s for s in STEPS if all(times[96, 32 + k + 1] * _FLAT > times[96, 32 + k + s] for k in range(0, 32, s))), 1)
    aligned = 1
    if step > 1:
        key = ShapeKey("Conv", (3, 3), (1, 1), (1, 1), "depthwise", size=(28, 28))
        widths = (96, *(96 - a for a in (1, 2, 4, 8)))
        # One disturbed time among these would put the whole table off: the least of a few is undisturbed.
        near = {w: min(_times(key, [(w, w)], threads)[w, w] for _ in range(_REPEATS)) for w in widths}
        fast = [a for a in (1, 2, 4, 8) if near[96 - a] < 1.15 * near[96]]
        aligned = min(fast, default=step)
    return step, aligned


def _times(key: ShapeKey, several: Sequence[Point], threads: int) -> dict[Point, float]:
    """Microseconds of one shape at several widths."""
    each = 4 * int(key.pixels * max(o for _, o in several))
    most = max(1, _BYTES // max(each, 1))
    found: dict[Point, float] = {}
    for start in range(0, len(several), most):
        part = several[start : start + most]
        proto, feed = _model(key, part)
        spent = _profile(proto, feed, threads)
        for inputs, outputs in part:
            found[inputs, outputs] = sum(t for (_, name), t in spent.items() if name.startswith(f"p_{inputs}_{outputs}_"))
    return found


def _model(key: ShapeKey, several: Sequence[Point]) -> tuple[onnx.ModelProto, Feed]:
    rng = np.random.default_rng(0)
    feed: dict[str, Array] = {}
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    for inputs, outputs in several:
        name = f"p_{inputs}_{outputs}_"
        groups = inputs if key.grouping == "depthwise" else key.groups
        if key.op in ("Gemm", "MatMul"):
            data: tuple[int, ...] = (*key.size, inputs)
            shape: tuple[int, ...] = (inputs, outputs)
        else:
            data = (1, inputs, *key.size)
            shape = (*((outputs, inputs // groups) if key.op == "Conv" else (inputs, outputs // groups)), *key.kernel)
        feed.setdefault(f"x{inputs}", rng.standard_normal(data).astype(np.float32))
        weights.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), f"w{name}"))
        nodes.append(helper.make_node(key.op, [f"x{inputs}", f"w{name}"], [name], name=name, **_attributes(key, groups)))
    ins = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, v.shape) for n, v in feed.items()]
    outs = [helper.make_tensor_value_info(n.output[0], onnx.TensorProto.FLOAT, None) for n in nodes]
    graph = helper.make_graph(nodes, "shapes", ins, outs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), feed


def _attributes(key: ShapeKey, groups: int) -> dict[str, Any]:
    if key.op in ("Gemm", "MatMul"):
        return {}
    pads = [d * (k - 1) // 2 for k, d in zip(key.kernel, key.dilations, strict=True)]
    if key.op == "ConvTranspose":
        pads = [0] * len(pads)
    return {"strides": list(key.strides), "dilations": list(key.dilations), "group": groups, "pads": pads * 2}


def _profile(proto: onnx.ModelProto, feed: Feed, threads: int) -> Mapping[tuple[str, str], float]:
    """The lower quartile of microseconds of each operator, by its type and name."""
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        options = session_options(threads=threads, optimize=True)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime().InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        end = time.perf_counter() + _SECONDS
        for run in range(_RUNS):
            session.run(None, dict(feed))
            if run >= 4 and time.perf_counter() > end:
                break
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            name = str(event["name"]).removesuffix("_kernel_time")
            spent.setdefault((str(event["args"]["op_name"]), name), []).append(float(event["dur"]))
    return {key: float(np.quantile(values, 0.25)) for key, values in spent.items()}
