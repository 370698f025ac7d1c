"""Whether a pruned graph is exactly the masked original, in float64, asking neither the pruner nor its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from tests.nets import feed_for
from tests.pruning.gone import Facts, Gone, gone_in, masked
from tests.pruning.nets import constants_of, values_of

Array = NDArray[Any]

EXACT = 1e-10
"""Of an output's range, in float64: sums run over fewer zeros, nothing else differs."""


@dataclass(frozen=True)
class Verdict:
    """The largest deviation of an output over its range, what is gone, and the shapes of the original."""

    deviation: float
    gone: Gone
    shapes: dict[str, tuple[int, ...]]

    def channels(self, tensor: str) -> NDArray[np.int64]:
        """The channels of a tensor that are gone: along the axis on which some are and some are not."""
        lost = self.gone.tensors.get(tensor, np.zeros((), bool))
        for axis in range(lost.ndim):
            every = lost.all(axis=tuple(k for k in range(lost.ndim) if k != axis))
            if every.any() and not every.all():
                return np.flatnonzero(every)
        return np.zeros(0, np.int64)

    def some(self, tensor: str) -> bool:
        """Whether anything of a tensor is gone."""
        return bool(self.gone.tensors.get(tensor, np.zeros((), bool)).any())


def facts_of(proto: onnx.ModelProto, values: dict[str, Array]) -> Facts:
    numbers = {k: v for k, v in values.items() if v.dtype.kind in "iub"}
    return Facts(
        proto.graph.node,
        {k: v.shape for k, v in values.items()},
        constants_of(proto),
        numbers,
        [o.name for o in proto.graph.output],
    )


def compare(original: onnx.ModelProto, pruned: onnx.ModelProto, seed: int = 0, dynamic: int = 7) -> Verdict:
    """Hold ``pruned`` against the masked ``original``. Raises if they do not have the same interface."""
    feed = feed_for(original, seed, dynamic)
    values = values_of(original, feed)
    after = Facts(pruned.graph.node, {}, constants_of(pruned), {})
    before = facts_of(original, values)
    gone = gone_in(before, after)
    reference = masked(original, gone, lambda _: TensorProto.DOUBLE)
    expected, found = values_of(reference, feed), values_of(pruned, feed)
    worst = 0.0
    assert [o.name for o in original.graph.output] == [o.name for o in pruned.graph.output]
    for output in (o.name for o in original.graph.output):
        a, b = expected[output], found[output]
        assert a.shape == b.shape, f"output '{output}' of {a.shape} became {b.shape}"
        assert not gone.tensors.get(output, np.zeros((), bool)).any(), f"output '{output}' would lose channels"
        worst = max(worst, distance(a, b))
    return Verdict(worst, gone, dict(before.shapes))


def distance(expected: Array, found: Array) -> float:
    """The largest difference, over the range of what is expected; NaN against NaN is none."""
    a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    if not a.size:
        return 0.0
    apart = np.atleast_1d(np.abs(a - b))
    apart[np.atleast_1d(np.isnan(a) & np.isnan(b))] = 0.0
    span = float(np.nanmax(a) - np.nanmin(a)) or float(np.nanmax(np.abs(a))) or 1.0
    return float(np.nan_to_num(apart.max(), nan=np.inf)) / span
