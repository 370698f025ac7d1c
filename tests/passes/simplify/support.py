"""What the tests of simplify share: run the pass on a model given as text, and hold the result against the original in onnxruntime.

Models are written in ONNX's textual syntax (``onnx.parser``): ``agraph (float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import parser

from graphopt.model import Model
from graphopt.passes.simplify import Simplify
from graphopt.pipeline import Context, Outcome
from graphopt.runtime import Feeds

Array = NDArray[Any]
Feed = dict[str, Array]


class NoData:
    """Simplify looks at no data."""

    def __len__(self) -> int:
        return 0

    def read(self, indices: Any) -> Any:
        return iter(())


def model_of(text: str, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    """The model of a graph in textual syntax."""
    return parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.example" : 1]> {text}')


def simplify(proto: onnx.ModelProto, **options: Any) -> tuple[onnx.ModelProto, Outcome]:
    """The simplified model and what the pass reports. The input must come out of it unharmed."""
    before = proto.SerializeToString(deterministic=True)
    model = Model.load(proto)
    outcome = Simplify(**options).run(model, Context(model, feeds=Feeds(NoData(), [], calibrated=False, name="none")))
    assert proto.SerializeToString(deterministic=True) == before
    return model.proto(), outcome


def ops(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def weights(proto: onnx.ModelProto) -> dict[str, Array]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}


def codes(outcome: Outcome) -> list[str]:
    return [refusal.code for refusal in outcome.refusals]


def infer(proto: onnx.ModelProto, feed: Feed) -> list[Any]:
    """Run as it stands: no optimizer may hide a mistake, or make the same one."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def feed_of(proto: onnx.ModelProto, seed: int = 0, dynamic: int = 3) -> Feed:
    """Seeded inputs; a dynamic dimension becomes ``dynamic``."""
    draw = np.random.default_rng(seed)
    held = {t.name for t in proto.graph.initializer}
    feed: Feed = {}
    for value in proto.graph.input:
        if value.name in held:
            continue
        kind = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else dynamic for d in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feed[value.name] = np.asarray(draw.standard_normal(shape) * 4).astype(dtype)
    return feed


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto, *, dynamic: int = 3) -> None:
    """The same interface, a valid model, and the same outputs to the last bit but for the sign of zero."""
    assert [o.SerializeToString() for o in after.graph.output] == [o.SerializeToString() for o in before.graph.output]
    onnx.checker.check_model(after, full_check=True)
    feed = feed_of(before, dynamic=dynamic)
    assert feed.keys() == feed_of(after).keys()
    for want, have in zip(infer(before, feed), infer(after, feed), strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)
