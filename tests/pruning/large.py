"""The same comparison for networks of real size: shapes and results come from onnxruntime, in the type of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.nets import feed_for
from tests.pruning.check import Verdict, distance
from tests.pruning.gone import Facts, gone_in, masked
from tests.pruning.nets import captured, constants_of, fits_a_message, plain_session

Array = NDArray[Any]

KEPT = 1e-4
"""Of an output's range, in float32."""


def outputs_of(proto: onnx.ModelProto, feed: dict[str, Array]) -> list[Array]:
    return [np.asarray(y) for y in plain_session(proto).run(None, feed)]


def facts_of(proto: onnx.ModelProto, feed: dict[str, Array]) -> Facts:
    """Shapes of all tensors and the values of those that hold whole numbers, from one run of a graph that returns just these."""
    constants = constants_of(proto)
    kinds = _kinds(proto)
    asked = onnx.ModelProto()
    asked.CopyFrom(proto)
    del asked.graph.output[:]
    names = [n for node in proto.graph.node for n in node.output if n and n not in constants]
    names += [v.name for v in proto.graph.input if v.name not in constants]
    for k, name in enumerate(names):
        asked.graph.node.append(helper.make_node("Shape", [name], [f"shape of {k}"]))
        asked.graph.output.append(helper.make_tensor_value_info(f"shape of {k}", TensorProto.INT64, None))
    numbers = [n for n in names if kinds.get(n) in (TensorProto.INT64, TensorProto.INT32) and n not in feed]
    asked.graph.output.extend(helper.make_tensor_value_info(n, kinds[n], None) for n in numbers)
    found = outputs_of(asked, feed)
    shapes = {n: tuple(int(s) for s in v) for n, v in zip(names, found, strict=False)}
    shapes.update({n: v.shape for n, v in constants.items()})
    integers = dict(zip(numbers, found[len(names) :], strict=True))
    return Facts(proto.graph.node, shapes, constants, integers, [o.name for o in proto.graph.output])


def _kinds(proto: onnx.ModelProto) -> dict[str, int]:
    """Element types, by inference on a copy without the bytes of large weights."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    inferred = onnx.shape_inference.infer_shapes(bare) if fits_a_message(proto) else bare
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    return {v.name: v.type.tensor_type.elem_type for v in values}


def compare(original: onnx.ModelProto, pruned: onnx.ModelProto, seed: int = 0, dynamic: int = 7) -> Verdict:
    """Hold ``pruned`` against the masked ``original``."""
    if any(True for node in original.graph.node for _ in captured(node)):
        raise NotImplementedError("bodies that capture")
    feed = feed_for(original, seed, dynamic)
    before = facts_of(original, feed)
    gone = gone_in(before, Facts(pruned.graph.node, {}, constants_of(pruned), {}))
    kinds = _kinds(original)
    expected = outputs_of(masked(original, gone, lambda name: kinds.get(name) or TensorProto.FLOAT), feed)
    found = outputs_of(pruned, feed)
    worst = 0.0
    for output, a, b in zip(original.graph.output, expected, found, strict=True):
        if a.shape != b.shape or gone.tensors.get(output.name, np.zeros((), bool)).any():
            raise AssertionError(f"output '{output.name}' of {a.shape} became {b.shape}")
        worst = max(worst, distance(a, b))
    return Verdict(worst, gone, dict(before.shapes))


def load(path: Path) -> onnx.ModelProto:
    """A model whose weights all count: vectors and matrices of equal elements get different ones.

    Untrained exports have heads of zeros and layer scales of 1e-6, behind which no deviation would show.
    """
    proto, rng = onnx.load(path), np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE) or np.prod(tensor.dims) < 2:
            continue
        value = numpy_helper.to_array(tensor)
        if (value == value.flat[0]).all():
            spread = rng.uniform(0.5, 1.5, value.shape) if value.flat[0] else rng.normal(0, 0.02, value.shape)
            tensor.CopyFrom(numpy_helper.from_array(spread.astype(value.dtype), tensor.name))
    return proto
