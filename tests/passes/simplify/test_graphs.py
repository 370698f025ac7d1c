"""Whole graphs: dead nodes, duplicates, branches with a constant condition, bodies that read from outside, old and odd models."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.simplify import Simplify
from graphopt.pipeline import Context
from graphopt.runtime import Feeds
from tests.passes.simplify.support import NoData, assert_same, codes, infer, model_of, ops, simplify, weights

CASES = {
    "dead nodes": ("(float[2] x) => (float[2] y) { a = Exp(x) b = Neg(a) y = Relu(x) }", ["Relu"]),
    "dead second output": (
        "(float[4] x) => (float[2] y) <int64[2] s = {2, 2}> { a, b = Split(x, s) c = Exp(b) y = Relu(a) }",
        ["Split", "Relu"],
    ),
    "equal nodes": (
        "(float[2] x) => (float[2] y) { a = Exp(x) b = Exp(x) c = Neg(a) d = Neg(b) y = Add(c, d) }",
        ["Exp", "Neg", "Add"],
    ),
    "equal but for an attribute": (
        "(float[2,2] x) => (float[2,2] y) { a = Softmax <axis = 0> (x) b = Softmax <axis = 1> (x) y = Add(a, b) }",
        ["Softmax", "Softmax", "Add"],
    ),
    "equal, both outputs": ("(float[2] x) => (float[2] y, float[2] z) { y = Exp(x) z = Exp(x) }", ["Exp", "Exp"]),
    "equal quantizers": (
        "(float[2] x) => (float[2] y) <float s = {0.1}, uint8 z = {3}>"
        "{ q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z) b = DequantizeLinear(q, s, z) y = Add(a, b) }",
        ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Add"],
    ),
    "if, always": (
        "(float[2] x) => (float[2] y) <bool c = {1}>"
        "{ a = Neg(x) y = If (c) <then_branch = t () => (float[2] r) { q = Exp(a) r = Relu(q) }, "
        "else_branch = e () => (float[2] r) { r = Abs(x) }> }",
        ["Neg", "Exp", "Relu"],
    ),
    "if, never": (
        "(float[2] x) => (float[2] y) <bool c = {0}>"
        "{ a = Neg(x) y = If (c) <then_branch = t () => (float[2] r) { q = Exp(a) r = Relu(q) }, "
        "else_branch = e () => (float[2] r) { r = Abs(x) }> }",
        ["Abs"],
    ),
    "if in an if, the same names in both": (
        "(float[2] x) => (float[2] y, float[2] z) <bool c = {1}> {"
        "y = If (c) <then_branch = t () => (float[2] r) { q = Exp(x) "
        "r = If (c) <then_branch = tt () => (float[2] s) { s = Relu(q) }, else_branch = te () => (float[2] s) { s = Neg(q) }> }, "
        "else_branch = e () => (float[2] r) { r = Abs(x) }>"
        "z = If (c) <then_branch = t () => (float[2] r) { q = Neg(x) r = Abs(q) }, "
        "else_branch = e () => (float[2] r) { r = Abs(x) }> }",
        ["Exp", "Relu", "Neg", "Abs"],
    ),
    "if that hands on": (
        "(float[2] x) => (float[2] y, float[2] z) <bool c = {1}> { a = Exp(x)"
        "y, z = If (c) <then_branch = t () => (float[2] r, float[2] s) { r = Identity(a) s = Neg(r) }, "
        "else_branch = e () => (float[2] r, float[2] s) { r = Abs(x) s = Abs(x) }> }",
        ["Exp", "Neg"],
    ),
    "captured": (
        "(float[2] x, bool c) => (float[2] y) { a = Exp(x) b = Identity(a)"
        "y = If (c) <then_branch = t () => (float[2] r) { r = Neg(b) }, else_branch = e () => (float[2] r) { r = Abs(b) }> }",
        ["Exp", "If"],
    ),
    "captured constant": (
        "(float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> { a = Exp(w)"
        "y = If (c) <then_branch = t () => (float[2] r) { r = Add(x, a) }, else_branch = e () => (float[2] r) { r = Sub(x, a) }> }",
        ["If"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_graph(name: str) -> None:
    text, expected = CASES[name]
    before = model_of(f"agraph {text}")
    after, _ = simplify(before)
    assert ops(after) == expected
    assert_same(before, after)


def test_a_branch_with_constants_of_its_own() -> None:
    """They move with it, under fresh names: the other graph has a tensor of that name too."""

    def branch(op: str, value: float) -> onnx.GraphProto:
        result = helper.make_tensor_value_info("r", TensorProto.FLOAT, [1])
        return helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["r"])],
            op,
            [],
            [result],
            [numpy_helper.from_array(np.array([value], np.float32), "w")],
        )

    def made(condition: bool) -> onnx.ModelProto:
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
        z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
        always = helper.make_node("If", ["c"], ["y"], then_branch=branch("Add", 1), else_branch=branch("Sub", 2))
        open_ = helper.make_node("If", ["d"], ["z"], then_branch=branch("Add", 3), else_branch=branch("Sub", 4))
        held = [numpy_helper.from_array(np.array(condition), "c")]
        d = helper.make_tensor_value_info("d", TensorProto.BOOL, [])
        graph = helper.make_graph([always, open_], "g", [x, d], [y, z], held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    for condition, op in ((True, "Add"), (False, "Sub")):
        before = made(condition)
        after, _ = simplify(before)
        assert ops(after) == [op, "If"]
        assert_same(before, after)


def test_duplicate_constants() -> None:
    text = (
        "agraph (float[2] x) => (float[2] y) <int64[1] a = {1}, int64[1] b = {1}, float[2] c = {1, 2}, float[2] d = {1, 2}>"
        "{ e = Unsqueeze(x, a) f = Squeeze(e, b) g = Add(f, c) h = Neg(e)"
        "i = ReduceSum <keepdims = 0> (h, b) j = Mul(g, d) y = Add(j, i) }"
    )
    apart = weights(simplify(model_of(text))[0])
    assert sorted(apart) == ["a", "c", "d"], "indices merge, short float vectors do not"
    merged, _ = simplify(model_of(text), min_bytes=8)
    assert sorted(weights(merged)) == ["a", "c"]
    assert_same(model_of(text), merged)


def test_equal_bytes_of_other_types_are_not_equal() -> None:
    before = model_of(
        "agraph (float[1] x, int32[1] n) => (float[1] y, int32[1] m) <float[1] a = {0}, int32[1] b = {0}>"
        "{ y = Max(x, a) m = Max(n, b) }"
    )
    after, _ = simplify(before, min_bytes=0)
    assert sorted(weights(after)) == ["a", "b"]


def test_unused_initializers_go() -> None:
    after, _ = simplify(model_of("agraph (float[2] x) => (float[2] y) <float[2] unused = {1, 2}> { a = Identity(x) y = Relu(a) }"))
    assert weights(after) == {}


def test_stale_value_info_goes() -> None:
    before = model_of("agraph (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }")
    before.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [2]))
    after, _ = simplify(before)
    assert list(after.graph.value_info) == []


def test_a_stale_shape_is_not_believed() -> None:
    """A declared inner shape that is wrong: the Reshape is not neutral, whatever the file says."""
    before = model_of("agraph (float[2,3] x) => (float[6] y) <int64[1] s = {6}> { a = Relu(x) b = Reshape(a, s) y = Neg(b) }")
    before.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [6]))
    after, _ = simplify(before)
    assert ops(after) == ["Relu", "Reshape", "Neg"]


OVERRIDABLE = {
    "reshape": "(float[2,3] x, int64[2] s) => (float[A,B] y) <int64[2] s = {2, 3}> { a = Reshape(x, s) y = Relu(a) }",
    "shape": "(float[2,3] x, int64[2] s) => (int64[A] y) <int64[2] s = {2, 3}> { a = Reshape(x, s) b = Shape(a) y = Neg(b) }",
    "constant of shape": "(int64[2] s) => (int64[A] y) <int64[2] s = {2, 3}> { a = ConstantOfShape(s) b = Shape(a) y = Neg(b) }",
    "expand": "(float[1,3] x, int64[2] s) => (float[A,B] y) <int64[2] s = {1, 1}> { a = Expand(x, s) y = Relu(a) }",
}


@pytest.mark.parametrize("name", OVERRIDABLE)
def test_a_default_is_not_believed(name: str) -> None:
    """The caller may override it, so no shape that follows from it is known."""
    before = model_of(f"agraph {OVERRIDABLE[name]}")
    after, _ = simplify(before)
    assert ops(after)[0] == ops(before)[0]
    feed = {"x": np.ones((2, 3), np.float32), "s": np.array([3, 2])}
    if name == "expand":
        feed = {"x": np.ones((1, 3), np.float32), "s": np.array([4, 3])}
    if name == "constant of shape":
        del feed["x"]
    np.testing.assert_array_equal(infer(after, feed)[0], infer(before, feed)[0])


def test_growth_is_told() -> None:
    before = model_of(
        "agraph (float[100,100] x) => (float[100,100] y) <int64[2] s = {100, 100}>"
        "{ c = ConstantOfShape <value = float[1] {2}> (s) y = Add(x, c) }"
    )
    assert simplify(before)[1].notes == [
        "computed constants make the model 0.0 MiB larger; `simplify:max_bytes=0` leaves them to the runtime"
    ]
    assert simplify(before, max_bytes=0)[1].notes == []


def test_shape_vectors_that_double() -> None:
    """Inference that follows values through these would need a billion of them."""
    doubling = " ".join(f"a{i + 1} = Concat <axis = 0> (a{i}, a{i})" for i in range(30))
    before = model_of(
        f"agraph (float[2,3] x) => (int64[1] y) <int64[1] i = {{5}}> {{ a0 = Shape(x) {doubling} y = Gather(a30, i) }}"
    )
    after, outcome = simplify(before, max_bytes=10_000)
    assert "result-too-large" in codes(outcome)
    assert after.ByteSize() < 100_000


def test_vectors_of_any_length() -> None:
    before = model_of("agraph (float[4611686018427387904] x) => (float[4611686018427387904] y) { a = Identity(x) y = Mul(a, a) }")
    assert ops(simplify(before)[0]) == ["Mul"]


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(UsageError, match="GO913"):
        simplify(model_of("agraph (float[2] x) => (float[2] y) { y = Relu(x) }"), max_bytes=-1)


def test_nothing_to_do_changes_nothing() -> None:
    before = model_of("agraph (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { a = Add(x, c) y = Relu(a) }")
    after, outcome = simplify(before)
    assert not outcome.changed
    assert outcome.rewrites == []
    assert after == before


def test_twice_is_once() -> None:
    for text, _ in CASES.values():
        once, _ = simplify(model_of(f"agraph {text}"))
        again, outcome = simplify(once)
        assert again == once
        assert outcome.rewrites == []


def test_unsorted_nodes_are_sorted() -> None:
    before = model_of("agraph (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { a = Exp(c) b = Add(x, a) y = Relu(b) }")
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(before)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(reversed(before.graph.node))
    after, _ = simplify(shuffled)
    assert ops(after) == ["Add", "Relu"]
    assert_same(before, after)


def test_functions_of_the_model_are_opaque() -> None:
    """A local function may have any name: here one called Identity that is none."""
    text = """
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        agraph (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { a = local.Identity(x) b = local.Identity(c) y = Add(a, b) }
        <domain: "local", opset_import: ["" : 17]> Identity (v) => (w) { w = Neg(v) }
    """
    before = onnx.parser.parse_model(text)
    after, _ = simplify(before)
    assert ops(after) == ["Identity", "Identity", "Add"]
    assert_same(before, after)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 21])
def test_every_opset(opset: int) -> None:
    before = model_of(
        "agraph (float[2,3] x) => (float[3,2] y) <int64[2] s = {3, 2}>"
        "{ a = Identity(x) d = Dropout(a) b = Relu(d) y = Reshape(b, s) }",
        opset,
        ir_version=3 if opset < 9 else 8,
    )
    if opset < 9:
        before.graph.input.append(helper.make_tensor_value_info("s", TensorProto.INT64, [2]))
    after, _ = simplify(before)
    assert ops(after) == ["Relu", "Reshape"]
    assert_same(before, after)


def _chain(length: int) -> onnx.ModelProto:
    """Everything at once, ``length`` times in a row: constants, identities, duplicates, a shape program."""
    nodes: list[onnx.NodeProto] = []
    last = "x"
    for i in range(length):
        nodes += [
            helper.make_node("Exp", ["c"], [f"e{i}"]),
            helper.make_node("Identity", [last], [f"i{i}"]),
            helper.make_node("Shape", [f"i{i}"], [f"s{i}"]),
            helper.make_node("Reshape", [f"i{i}", f"s{i}"], [f"r{i}"]),
            helper.make_node("Add", [f"r{i}", f"e{i}"], [f"a{i}"]),
            helper.make_node("Relu", [f"a{i}"], [f"y{i}"]),
        ]
        last = f"y{i}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, [2])
    graph = helper.make_graph(nodes, "chain", [x], [y], [numpy_helper.from_array(np.array([0.5, 1], np.float32), "c")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_growth_is_linear() -> None:
    """Four times the nodes take about four times as long; a quadratic step would take sixteen times as long."""
    seconds: dict[int, float] = {}
    for length in (250, 1000):
        best = []
        for _ in range(2):
            model = Model.load(_chain(length))
            ctx = Context(model, feeds=Feeds(NoData(), [], calibrated=False, name="none"))
            start = time.process_time()
            Simplify().run(model, ctx)
            best.append(time.process_time() - start)
        assert len(model.graph.nodes) == 2 * length
        seconds[length] = min(best)
    assert seconds[1000] < 8 * seconds[250]
