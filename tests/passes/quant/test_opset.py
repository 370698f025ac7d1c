"""Raising the opset in place: the raised model computes what the old one did, or the raise is refused and nothing is edited."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.model import Model
from graphopt.passes.quant.opset import raise_opset
from tests.nets import feed_for, outputs_of

IMAGE = (2, 3, 4, 6)


def single(op: str, opset: int, *constants: Any, outputs: int = 1, shape: tuple[int, ...] = IMAGE, **attrs: Any) -> onnx.ModelProto:
    names = [f"c{i}" for i in range(len(constants))]
    node = helper.make_node(op, ["x", *names], [f"y{i}" for i in range(outputs)], name="n", **attrs)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.UNDEFINED, None) for i in range(outputs)],
        [numpy_helper.from_array(np.asarray(c), n) for c, n in zip(constants, names, strict=True)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    proto.metadata_props.add(key="k", value="v")
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y0", TensorProto.FLOAT, None))
    for index in range(1, outputs):
        kind = TensorProto.INT64 if op == "TopK" else TensorProto.FLOAT
        proto.graph.output[index].CopyFrom(helper.make_tensor_value_info(f"y{index}", kind, None))
    inferred = onnx.shape_inference.infer_shapes(proto)
    for index, output in enumerate(inferred.graph.output):
        proto.graph.output[index].CopyFrom(output)
    return proto


def run(proto: onnx.ModelProto) -> list[np.ndarray]:
    return outputs_of(proto, feed_for(proto))


TWICE = np.asarray([1, 1, 2, 2], np.float32)
CASES: dict[str, onnx.ModelProto] = {
    "Slice 9": single("Slice", 9, starts=[1, 0], ends=[3, 2], axes=[1, 3]),
    "Slice 9 without axes": single("Slice", 9, starts=[0, 1], ends=[2, 3]),
    "Clip 8": single("Clip", 8, min=-0.5, max=0.5),
    "Clip 10 with one bound": single("Clip", 10, max=0.5),
    "Pad 8": single("Pad", 8, pads=[0, 0, 1, 1, 0, 0, 1, 2], value=0.5),
    "Pad 10 reflect": single("Pad", 10, pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"),
    "Dropout 10": single("Dropout", 10, ratio=0.3),
    "Squeeze 11": single("Squeeze", 11, shape=(2, 1, 4), axes=[1]),
    "Unsqueeze 11": single("Unsqueeze", 11, axes=[0, 2]),
    "Split 11": single("Split", 11, outputs=2, axis=3, split=[2, 4]),
    "ReduceSum 11": single("ReduceSum", 11, axes=[1, 2], keepdims=0),
    "ReduceMean 11": single("ReduceMean", 11, axes=[1, 2], keepdims=0),
    "TopK 9": single("TopK", 9, outputs=2, k=2, axis=-1),
    "Upsample 9 nearest": single("Upsample", 9, TWICE, mode="nearest"),
    "Upsample 8 linear": single("Upsample", 8, mode="linear", scales=[1.0, 1.0, 2.0, 2.0]),
    "Resize 10 nearest": single("Resize", 10, TWICE, mode="nearest"),
    "Softmax 11 of a matrix": single("Softmax", 11, shape=(3, 5)),
    "Softmax 11 of an image": single("Softmax", 11),
    "Softmax 9 over axis 2": single("Softmax", 9, axis=2),
    "LogSoftmax 11 over the last axis": single("LogSoftmax", 11, axis=3),
    "Relu 8": single("Relu", 8),
}


@pytest.mark.parametrize("name", CASES)
def test_raised_and_equal(name: str) -> None:
    model = Model.load(CASES[name])
    before = run(CASES[name])
    assert raise_opset(model, 13) is None
    result = model.proto()
    assert model.opset == 13 and model.metadata == {"k": "v"}
    onnx.checker.check_model(result)
    for old, new in zip(before, run(result), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-7)


def test_nothing_to_raise() -> None:
    model = Model.load(single("Relu", 17))
    assert raise_opset(model, 13) is None and model.opset == 17


REFUSED = {
    "an old opset": single("Relu", 6),
    "an operator that is gone": single("Scatter", 10, np.zeros(IMAGE, np.int64), np.zeros(IMAGE, np.float32)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    model = Model.load(REFUSED[name])
    assert raise_opset(model, 13)
    assert model.proto().SerializeToString() == REFUSED[name].SerializeToString()
