"""Sessions: values against the reference evaluator, extra outputs, types that numpy lacks, and errors as one line."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from graphopt.errors import ModelError
from graphopt.model import Model
from graphopt.runtime import Session, kernel_counts, optimized_graph
from graphopt.runtime import session as session_module
from graphopt.runtime.faults import explain

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'
NET = HEAD + "g (float[N,2] x) => (float[N,2] y) <float[2] w = {1.0, -2.0}> { a = Mul(x, w) s = Shape(a) y = Relu(a) }"


def proto(text: str) -> onnx.ModelProto:
    return parser.parse_model(text)


def test_outputs_are_the_reference_evaluators() -> None:
    x = np.array([[1.0, 2.0], [-3.0, -4.0]], np.float32)
    net = proto(NET)
    evaluator: Any = ReferenceEvaluator(net)
    expected = evaluator.run(None, {"x": x})[0]
    np.testing.assert_allclose(Session(Model.load(net)).run({"x": x})["y"], expected)


@pytest.mark.parametrize("optimize", [True, False])
def test_extra_outputs_of_any_type_come_after_the_graphs(optimize: bool) -> None:
    x = np.array([[1.0, 2.0]], np.float32)
    net = proto(NET)
    session = Session(net, extra_outputs=["a", "s", "y", "w", "x"], optimize=optimize)
    result = session.run({"x": x})
    assert list(result) == ["y", "a", "s", "w", "x"]
    np.testing.assert_array_equal(result["a"], [[1.0, -4.0]])
    np.testing.assert_array_equal(result["s"], [1, 2])
    assert [o.name for o in net.graph.output] == ["y"], "the given proto was changed"


def test_chosen_outputs_only() -> None:
    assert list(Session(proto(NET), extra_outputs=["a"]).run({"x": np.zeros((1, 2), np.float32)}, ["a"])) == ["a"]


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float16])
def test_types_that_numpy_lacks_come_back_bit_for_bit(dtype: Any) -> None:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [onnx.helper.make_tensor_value_info(n, kind, [2, 2]) for n in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    net = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9)
    x = np.array([[1.0, -2.0], [0.5, 0.0]]).astype(dtype)
    y = Session(net).run({"x": x})["y"]
    assert y.dtype == x.dtype
    assert y.tobytes() == x.tobytes()


def test_sequences_are_lists() -> None:
    net = proto(HEAD + "g (float[2] x, float[2] z) => (seq(float[2]) y) { y = SequenceConstruct(x, z) }")
    y = Session(net).run({"x": np.zeros(2, np.float32), "z": np.ones(2, np.float32)})["y"]
    assert isinstance(y, list)
    assert [list(part) for part in y] == [[0, 0], [1, 1]]


LOAD_ERRORS = [
    ("g (float[2] x) => (float[2] y) { y = NoSuchOp(x) }", "NoSuchOp", "opset"),
    ("g (float[2] x) => (int64[2] y) { y = Relu(x) }", "type", "types"),
    ("g (float[2] x) => (float[2] y) { y = Relu(q) }", "q", "nothing produces"),
]


@pytest.mark.parametrize(("text", "why", "hint"), LOAD_ERRORS)
def test_what_does_not_load(text: str, why: str, hint: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError) as caught:
        Session(proto(HEAD + text))
    diagnostic = caught.value.diagnostic
    assert diagnostic.code == "GO030"
    assert why.lower() in f"{diagnostic.where} {diagnostic.why}".lower()
    assert hint in diagnostic.hint
    assert "\n" not in diagnostic.why
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("raw", [b"", b"not a model", proto(NET).SerializeToString()[:40]])
def test_bytes_that_are_no_model(raw: bytes) -> None:
    with pytest.raises(ModelError, match="GO030"):
        Session(raw)
    with pytest.raises(ModelError, match="GO030"):
        Session(raw or b"x", extra_outputs=["a"])


RESHAPE = HEAD + "g (float[N,6] x) => (float[4,M] y) <int64[2] c = {4, -1}> { a = Relu(x) y = Reshape(a, c) }"


def test_a_node_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    net = proto(RESHAPE)
    net.graph.node[1].name = "cut"
    with pytest.raises(ModelError) as caught:
        Session(Model.load(net)).run({"x": np.zeros((1, 6), np.float32)})
    diagnostic = caught.value.diagnostic
    assert diagnostic.where == "<memory>: Reshape 'cut'"
    assert "/onnxruntime" not in diagnostic.why
    assert "::" not in diagnostic.why
    assert capfd.readouterr() == ("", "")


BAD_FEEDS: list[tuple[dict[str, Any], str]] = [
    ({}, "every input"),
    ({"x": np.zeros((1, 3), np.float32)}, "shape"),
    ({"x": np.zeros((1, 2))}, "type"),
    ({"x": np.zeros((1, 2), np.float32), "z": np.zeros(1)}, "only inputs"),
]


@pytest.mark.parametrize(("feed", "hint"), BAD_FEEDS)
def test_a_feed_that_does_not_fit(feed: dict[str, Any], hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        Session(proto(NET)).run(feed)
    assert hint in caught.value.diagnostic.hint


MESSAGES = [
    (
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'r' Status Message: "
        "/onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:91 onnxruntime::ReshapeHelper::ReshapeHelper("
        "const onnxruntime::TensorShape&, bool) input_shape_size == requested was false. The input tensor cannot be reshaped",
        "Reshape 'r'",
        "the input tensor cannot be reshaped",
    ),
    (
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running If node. Name:'outer' Status Message: "
        "Non-zero status code returned while running Gather node. Name:'inner' Status Message: GatherElements op: wrong",
        "Gather 'inner'",
        "GatherElements op: wrong",
    ),
    (
        "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Add(6) node with name 'a'",
        "Add 'a'",
        "there is no kernel for Add of version 6",
    ),
    ("something else\nin two lines", "", "something else in two lines"),
    ("", "", "failed without a reason"),
]


@pytest.mark.parametrize(("text", "node", "why"), MESSAGES)
def test_messages_are_read(text: str, node: str, why: str) -> None:
    fault = explain(text)
    assert (fault.node, fault.why) == (node, why)


def test_long_messages_are_cut() -> None:
    assert len(explain("word " * 1000).why) <= 300


def test_a_model_that_protobuf_cannot_serialise_goes_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    net = proto(NET)
    net.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((1000, 2), np.float32), "w"))
    before = net.SerializeToString()
    monkeypatch.setattr(session_module, "PROTO_LIMIT", 100)
    assert Session(net).run({"x": np.ones((1, 2), np.float32)})["y"].shape == (1000, 2)
    assert net.SerializeToString() == before


def test_importing_is_cheap() -> None:
    code = "import sys, graphopt.runtime, graphopt.verify; print([m for m in ('onnxruntime', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_optimized_graph_is_what_runs() -> None:
    net = proto(
        HEAD + "g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,2,1,1] w = {1.0,2.0,3.0,4.0}> { a = Conv(x, w) y = Relu(a) }"
    )
    counts = kernel_counts(Model.load(net))
    assert counts.get("FusedConv", 0) + counts.get("Conv", 0) == 1
    assert "Relu" not in counts
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(Session(optimized_graph(net)).run({"x": x})["y"], Session(net).run({"x": x})["y"], rtol=1e-5)
