"""The checks on one backend case. Each gives a verdict and runs in a worker process.

- ``roundtrip``: load and write without a pass: the same message, default-valued presence bits aside, and the source untouched.
- ``decorated``: the same after the model was filled with everything that ONNX allows and that tools lose (``decorate``).
- ``outputs``: ``simplify`` and ``fold``, then both models in onnxruntime on the supplied inputs: the same interface, valid by
  onnx's checker if it was before, and outputs within 1e-3 relative. A model that onnxruntime does not run as it came is *skipped*:
  there is nothing to compare with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from tests.differential.cases import Case
from tests.differential.decorate import decorated
from tests.differential.protos import differences, same

RELATIVE = 1e-3
ABSOLUTE = 1e-7


@dataclass(frozen=True)
class Verdict:
    """``kind``: "same", "skipped" (nothing to compare), "refused" (a clean error of ours), or what went wrong."""

    kind: str
    why: str = ""
    rewrites: int = 0

    @property
    def ok(self) -> bool:
        return self.kind in ("same", "skipped")


def roundtrip(case: Case, dress: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None) -> Verdict:
    from graphopt.errors import GraphoptError
    from graphopt.model import Model

    proto = case.model() if dress is None else dress(case.model())
    before = proto.SerializeToString(deterministic=True)
    try:
        after = Model.load(proto).proto()
    except GraphoptError as error:
        return Verdict("refused", str(error).splitlines()[0])
    if proto.SerializeToString(deterministic=True) != before:
        return Verdict("source changed", "; ".join(differences(onnx.ModelProto.FromString(before), proto)))
    if not same(proto, after):
        return Verdict("different", "; ".join(differences(proto, after)))
    return Verdict("same")


def outputs(case: Case, passes: Sequence[str] = ("simplify", "fold")) -> Verdict:
    proto = case.model()
    feeds = case.feeds()
    if not feeds:
        return Verdict("skipped", "no inputs are supplied")
    try:
        expected = [_infer(proto, feed) for feed in feeds]
    except Exception as error:  # noqa: BLE001  onnxruntime raises many kinds
        return Verdict("skipped", f"onnxruntime does not run it: {_line(error)}")
    return _compare(proto, feeds, expected, passes)


def _compare(proto: onnx.ModelProto, feeds: list[Any], expected: list[Any], passes: Sequence[str]) -> Verdict:
    from graphopt.errors import GraphoptError

    try:
        after, rewrites = rewritten(proto, feeds, passes)
    except GraphoptError as error:
        return Verdict("refused", str(error).splitlines()[0])
    if interface(after) != interface(proto):
        return Verdict("interface", f"{interface(proto)} became {interface(after)}", rewrites)
    if not _complaint(proto) and _complaint(after):
        return Verdict("invalid", _complaint(after), rewrites)
    try:
        got = [_infer(after, feed) for feed in feeds]
    except Exception as error:  # noqa: BLE001
        return Verdict("does not run", _line(error), rewrites)
    for index, (want, have) in enumerate(zip(expected, got, strict=True)):
        for output, a, b in zip(proto.graph.output, want, have, strict=True):
            why = mismatch(a, b)
            if why:
                return Verdict("outputs", f"data set {index}, '{output.name}': {why}", rewrites)
    return Verdict("same", rewrites=rewrites)


def rewritten(proto: onnx.ModelProto, feeds: Sequence[dict[str, Any]], passes: Sequence[str]) -> tuple[onnx.ModelProto, int]:
    """The model after ``passes``, without the manager's own verification (this is the verification), and how much was done."""
    from graphopt.model import Model
    from graphopt.pipeline import Context
    from graphopt.pipeline.registry import find
    from graphopt.runtime import Feeds

    model = Model.load(proto)
    ctx = Context(model.copy(), feeds=Feeds(Supplied(feeds), [], calibrated=True, name="supplied"))
    count = 0
    for name in passes:
        outcome = find(name)().run(model, ctx)
        count += len(outcome.rewrites)
    return model.proto(), count


class Supplied:
    """The supplied inputs as data for a pass: just the arrays of them."""

    def __init__(self, feeds: Sequence[dict[str, Any]]) -> None:
        self._feeds = [{n: v for n, v in feed.items() if isinstance(v, np.ndarray)} for feed in feeds]

    def __len__(self) -> int:
        return len(self._feeds)

    def read(self, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
        return (self._feeds[i] for i in indices)


def interface(proto: onnx.ModelProto) -> tuple[Any, ...]:
    """Names and types of inputs (initializers that old files also list are none) and outputs, and the defaults of inputs."""
    weights = {t.name for t in proto.graph.initializer} if proto.ir_version < 4 else set()
    fixed = [(v.name, v.type.SerializeToString(deterministic=True)) for v in proto.graph.input if v.name not in weights]
    given = [(v.name, v.type.SerializeToString(deterministic=True)) for v in proto.graph.output]
    return fixed, given


def mismatch(a: Any, b: Any) -> str:
    """Why two outputs are not the same within the tolerance; empty if they are."""
    if a is None or b is None:
        return "" if a is b else "one is None"
    if isinstance(a, (list, tuple)):
        if not isinstance(b, (list, tuple)) or len(a) != len(b):
            return "not the same kind or length of sequence"
        return next(filter(None, (mismatch(x, y) for x, y in zip(a, b, strict=True))), "")
    if isinstance(a, dict):
        return "" if a == b else "maps differ"
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{a.shape} became {b.dtype}{b.shape}"
    if a.dtype.kind in "OUSb":
        return "" if np.array_equal(a, b) else "values differ"
    relative = RELATIVE if a.dtype.kind in "biufc" else max(RELATIVE, 2 * _unit(a.dtype))
    x, y = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    close = np.isclose(y, x, rtol=relative, atol=ABSOLUTE, equal_nan=True)
    if close.all():
        return ""
    worst = np.abs(y - x)[~close]
    return f"{np.count_nonzero(~close)} of {x.size} differ, by up to {worst.max():.3g}"


def _unit(dtype: np.dtype[Any]) -> float:
    """Distance from 1 to the next number: of bfloat16 and the small floats it is far above the tolerance."""
    return float(ml_dtypes.finfo(dtype).eps)


def _infer(proto: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    from graphopt.runtime import Session

    session = Session(proto)
    results = session.run({name: value for name, value in feed.items() if name in session.input_names})
    return [results[output.name] for output in proto.graph.output]


def _complaint(proto: onnx.ModelProto) -> str:
    """What onnx's own checker has against the model."""
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        return _line(error)
    return ""


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


CHECKS: dict[str, Callable[[Case], Verdict]] = {
    "roundtrip": roundtrip,
    "decorated": functools.partial(roundtrip, dress=decorated),
    "outputs": outputs,
    "simplify": functools.partial(outputs, passes=("simplify",)),
    "fold": functools.partial(outputs, passes=("fold",)),
}
