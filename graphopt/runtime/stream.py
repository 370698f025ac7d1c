"""Inner tensors of a model, computed feed by feed and handed on one at a time: nothing is kept.

The tensors are made outputs of a copy of the model that holds only the nodes they need (``prefix.py``). All outputs of
one run are in memory at once, so where they would take more than a budget (a super-resolution network at full size:
gigabytes) the tensors are divided into groups, the feeds are gone through once for each group, and the budget holds for
each.

**Batches.** With ``batch=n`` consecutive feeds of equal shape are run together, which is faster for small networks.
That is right only where the rows of a batch do not influence one another, and where the graph does not fix the batch
inside, and no declaration says so. So the first batch is also run one by one, and unless both give the same, batches
are not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from graphopt.errors import ModelError
from graphopt.model import Model
from graphopt.ops.inference import ELEMENT_TYPES, infer
from graphopt.runtime.feeds import Feeds
from graphopt.runtime.prefix import prefix
from graphopt.runtime.session import Array, Feed, Session, as_proto
from graphopt.runtime.statistics import Accumulator

_BUDGET = 2**28
_UNKNOWN_BYTES = 2**22

_SAME_ROWS = 1e-4
"""Rows of a batch and single runs agree to this share of the tensor's range: another batch, another order of summing."""


def stream(
    model: Model | onnx.ModelProto,
    tensors: Sequence[str],
    feeds: Feeds,
    consume: Callable[[str, Array], None],
    *,
    batch: int = 1,
    threads: int = 1,
    budget: int = _BUDGET,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Call ``consume(name, array)`` for every tensor and feed.

    Args:
        model: what to run.
        tensors: names of tensors of the outermost graph: inner ones, outputs, inputs.
        feeds: what to run it on.
        consume: gets each tensor's name and value.
        batch: how many feeds may be run together, where that gives the same.
        threads: threads of one operator.
        budget: bytes that the tensors of one run may take; a single tensor may be larger.
        advance: told how many feeds are done, ``len(feeds)`` in all.

    For one tensor the feeds come in order; the order of the tensors is not defined. An array is the callee's to keep or
    change.

    Raises:
        ModelError: GO030, the model does not load or run.
        ValueError: the graph has no such tensor.
    """
    wanted = list(dict.fromkeys(tensors))
    if not wanted or not len(feeds):
        return
    proto = as_proto(model)
    label = model.label if isinstance(model, Model) else "<memory>"
    inputs = {spec.name for spec in feeds.specs}
    inner = [name for name in wanted if name not in inputs]
    groups = list(tensor_groups(proto, inner, feeds.first(), budget // max(1, batch))) or [[]]
    counter = _Counter(len(feeds), len(groups), advance)
    for number, names in enumerate(groups):
        session = Session(prefix(proto, names), threads=threads, label=label) if names else None
        given = [name for name in wanted if name in inputs] if number == 0 else []
        size = batch if session is None or rows_independent(session, feeds, batch) else 1
        for feed in feeds.batches(size):
            for name in given:
                consume(name, np.array(feed[name]))
            if session is not None:
                _hand_over(session.run(feed), consume)
            counter.done(size)
        counter.next_pass()


def collect(
    model: Model | onnx.ModelProto,
    accumulators: Mapping[str, Accumulator],
    feeds: Feeds,
    *,
    batch: int = 1,
    threads: int = 1,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Fill each tensor's accumulator with the tensor over all feeds. Arguments and errors as for ``stream``."""

    def consume(name: str, array: Array) -> None:
        accumulators[name].update(array)

    stream(model, list(accumulators), feeds, consume, batch=batch, threads=threads, advance=advance)


def tensor_bytes(proto: onnx.ModelProto, feed: Feed) -> dict[str, int]:
    """The size of each tensor of the outermost graph for the shapes of ``feed``, as far as shape inference knows it."""
    graph = onnx.GraphProto(name=proto.graph.name, node=proto.graph.node, value_info=proto.graph.value_info)
    for value in proto.graph.input:
        array = feed.get(value.name)
        if isinstance(array, np.ndarray) and value.type.HasField("tensor_type"):
            elem_type = value.type.tensor_type.elem_type
            graph.input.append(onnx.helper.make_tensor_value_info(value.name, elem_type, list(array.shape)))
        else:
            graph.input.append(value)
    for output in proto.graph.output:
        graph.output.append(output)
    listed = {value.name for value in graph.input}
    for tensor in proto.graph.initializer:
        # Values matter to shape inference only where they are shapes, and those are small.
        if tensor.ByteSize() <= 1024:
            graph.initializer.append(tensor)
        elif tensor.name not in listed:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    bare = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    bare.graph.CopyFrom(graph)
    try:
        inferred = infer(bare).graph
    except Exception:  # noqa: BLE001 - inference gives up on some valid graphs in ways of its own; the sizes are then unknown
        return {}
    return {v.name: n for v in [*inferred.value_info, *inferred.output] if (n := _bytes(v.type.tensor_type)) is not None}


def _bytes(kind: onnx.TypeProto.Tensor) -> int | None:
    if not kind.HasField("shape") or kind.elem_type not in ELEMENT_TYPES:
        return None
    if not all(d.HasField("dim_value") for d in kind.shape.dim):
        return None
    size: int = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
    return math.prod(d.dim_value for d in kind.shape.dim) * size


def tensor_groups(proto: onnx.ModelProto, names: Sequence[str], feed: Feed, budget: int) -> Iterator[list[str]]:
    """The tensors, in the order of the graph, in groups of at most ``budget`` bytes for one feed."""
    order = {name: index for index, node in enumerate(proto.graph.node) for name in node.output}
    sizes = tensor_bytes(proto, feed)
    unknown = max(sizes.values(), default=_UNKNOWN_BYTES)
    group: list[str] = []
    total = 0
    for name in sorted(names, key=lambda n: order.get(n, -1)):
        size = sizes.get(name, unknown)
        if group and total + size > budget:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def _hand_over(values: dict[str, Array], consume: Callable[[str, Array], None]) -> None:
    for name in list(values):
        # Taken out, so that it can be freed before the next one is worked on.
        consume(name, values.pop(name))


def rows_independent(session: Session, feeds: Feeds, batch: int) -> bool:
    """Whether the first batch gives, row by row, what its feeds give alone."""
    if batch <= 1 or len(feeds) < 2:
        return batch <= 1
    together = next(feeds.batches(min(batch, 3)))
    single: list[Feed] = []
    rows = _rows(together)
    for feed in feeds:
        if rows <= 0:
            break
        single.append(feed)
        rows -= _rows(feed)
    if len(single) < 2:
        return False  # the second feed has another shape: nothing to learn from the first
    try:
        joint = session.run(together)
    except ModelError:
        return False
    alone = [session.run(feed) for feed in single]
    return all(_stacked(joint[name], [run[name] for run in alone]) for name in joint)


def _rows(feed: Feed) -> int:
    return int(next(iter(feed.values())).shape[0])


def _stacked(joint: Array, alone: Sequence[Array]) -> bool:
    if any(getattr(array, "ndim", 0) == 0 for array in [joint, *alone]):
        return False  # a scalar, or no array at all but a sequence
    if any(a.shape[1:] != alone[0].shape[1:] for a in alone):
        return False
    expected = np.concatenate(alone)
    if joint.shape != expected.shape or joint.dtype.kind not in "biuf":
        return False
    finite = expected[np.isfinite(expected)].astype(np.float64)
    room = _SAME_ROWS * float(np.ptp(finite)) if finite.size else 0.0
    return bool(np.allclose(joint, expected, rtol=0.0, atol=room, equal_nan=True))


class _Counter:
    """Turns several passes over the feeds into one count that ends at their number."""

    def __init__(self, total: int, passes: int, advance: Callable[[int], None] | None) -> None:
        self._total, self._passes, self._advance = total, passes, advance
        self._steps = self._pass = self._told = 0

    def done(self, feeds: int) -> None:
        self._steps = min(self._steps + feeds, self._total)
        now = (self._pass * self._total + self._steps) // self._passes
        if self._advance is not None and now > self._told:
            self._advance(now - self._told)
            self._told = now

    def next_pass(self) -> None:
        self._pass += 1
        self._steps = 0
