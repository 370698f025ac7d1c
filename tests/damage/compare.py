"""Does the result compute what the input model computes? Asked of onnxruntime itself, without graphopt.

Inputs are drawn from what the input model declares; dynamic dimensions are 2, or what else the model runs on. Outputs agree if they
differ by at most a ten-thousandth of the output's range (float16: a few of its roundings), and have NaN and infinities in the
same places. Integers, booleans and strings must be equal.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.helper import tensor_dtype_to_np_dtype

TOLERANCE = 1e-4
ROUNDINGS = 8
_SIZES = (2, 1, 4, 8, 64)
_RUNS = 2
_MOST = 2**26
"""Elements of an input that are still drawn."""

Feed = dict[str, Any]


def loads(path: Path) -> str:
    """Why the runtime does not load a model, "" if it does."""
    try:
        _session(path)
    except Exception as error:  # noqa: BLE001  onnxruntime raises many kinds
        return _line(error)
    return ""


def disagreement(before: Path, after: Path) -> str:
    """How two models differ, "" if they do not."""
    before = _distinctly_named(before)
    for how, path in (("the result", after), ("the input model, though accepted,", before)):
        why = loads(path)
        if why:
            return f"{how} does not load: {why}"
    first, second = _session(before), _session(after)
    for a, b in ((first.get_inputs(), second.get_inputs()), (first.get_outputs(), second.get_outputs())):
        if [(v.name, v.type) for v in a] != [(v.name, v.type) for v in b]:
            return f"another interface: {[(v.name, v.type) for v in a]} became {[(v.name, v.type) for v in b]}"
    failure = "there is nothing to feed it"
    for size in _SIZES:
        try:
            feeds = [_feed(first, size, seed) for seed in range(_RUNS)]
            expected = [first.run(None, feed) for feed in feeds]
        except Exception as error:  # noqa: BLE001
            failure = _line(error)
            continue
        return _outputs(first, second, feeds, expected)
    return f"the input model, though accepted, does not run: {failure}"


def _distinctly_named(path: Path) -> Path:
    """The model, or a copy beside it in which no two nodes have one name: onnxruntime refuses that, and graphopt mends it."""
    model = onnx.load(path, load_external_data=False)
    names = [node.name for node in model.graph.node]
    if len(set(names)) == len(names):
        return path
    for node in model.graph.node:
        node.name = ""
    copy = path.with_name(f"distinct-{path.name}")
    copy.write_bytes(model.SerializeToString())
    return copy


def _outputs(first: Any, second: Any, feeds: list[Feed], expected: list[list[Any]]) -> str:
    names = [value.name for value in first.get_outputs()]
    for feed, wanted in zip(feeds, expected, strict=True):
        try:
            got = second.run(None, feed)
        except Exception as error:  # noqa: BLE001
            return f"the result does not run: {_line(error)}"
        for name, a, b in zip(names, wanted, got, strict=True):
            why = _mismatch(a, b)
            if why:
                return f"output '{name[:40]}': {why}"
    return ""


def _mismatch(a: Any, b: Any) -> str:
    if isinstance(a, list):
        return "sequences of unequal length" if len(a) != len(b) else next(filter(None, map(_mismatch, a, b)), "")
    if a is None or b is None or isinstance(a, dict):
        return "" if a == b else "values differ"
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{list(a.shape)} became {b.dtype}{list(b.shape)}"
    if a.dtype.kind != "f":
        return "" if np.array_equal(a, b) else f"{np.count_nonzero(a != b)} of {a.size} differ"
    finite = np.isfinite(a)
    if not np.array_equal(np.isnan(a), np.isnan(b)) or not np.array_equal(a[np.isinf(a)], b[np.isinf(a)]):
        return "NaN or infinities in other places"
    x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
    allowed = max(TOLERANCE, ROUNDINGS * float(np.finfo(a.dtype).eps)) * float(np.abs(x).max(initial=0.0))
    worst = float(np.abs(x - y).max(initial=0.0))
    return "" if worst <= allowed else f"off by {worst:.3g}, {allowed:.3g} is allowed"


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feed(session: Any, size: int, seed: int) -> Feed:
    draw = np.random.default_rng(seed)
    return {value.name: _value(draw, value.type, value.shape, size) for value in session.get_inputs()}


def _value(draw: np.random.Generator, kind: str, shape: list[Any], size: int) -> Any:
    if kind.startswith("seq("):
        return [_value(draw, kind[4:-1], shape, size)]
    dims = [dim if isinstance(dim, int) and dim >= 0 else size for dim in shape]
    if math.prod(dims) > _MOST:
        raise ValueError("the input is too large")
    dtype = _dtype(kind)
    match dtype.kind:
        case "b":
            return np.asarray(draw.integers(0, 2, dims) == 1)
        case "i" | "u":
            return np.asarray(draw.integers(0, 2, dims)).astype(dtype)
        case "f":
            return np.asarray(draw.standard_normal(dims)).astype(dtype)
        case _:
            return np.full(dims, "1", object)


def _dtype(kind: str) -> np.dtype[Any]:
    name = {"float": "FLOAT", "double": "DOUBLE", "string": "STRING"}.get(kind[7:-1], kind[7:-1].upper())
    return np.dtype(tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(name)))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
