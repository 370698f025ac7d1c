"""Inner tensors, feed by feed: against a session with extra outputs; batches; bounded memory; what is not computed."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt.errors import ModelError
from graphopt.model import Model
from graphopt.runtime import MinMax, Session, collect, feeds_from, stream
from graphopt.runtime.prefix import prefix
from graphopt.runtime.stream import rows_independent, tensor_bytes, tensor_groups
from tests.nets import Net

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'
CHAIN = (
    HEAD
    + """g (float[N,3,8,8] x) => (float[N,3,8,8] y)
{ a = Relu(x) s = Shape(a) b = Sigmoid(a) c = Add(a, b) d = ReduceMax <keepdims = 0> (c) y = Tanh(c) }"""
)
FIXED = HEAD + """g (float[N,4] x) => (float[1,M] y) <int64[2] r = {1, -1}> { a = Relu(x) y = Reshape(a, r) }"""
CROSS = HEAD + """g (float[N,4] x) => (float[N,4] y) { m = ReduceMean <axes = [0], keepdims = 1> (x) y = Sub(x, m) }"""
BRANCH = (
    HEAD
    + """g (float[N,2] x) => (float[N,2] y) {
  a = Relu(x) b = Neg(x) z = Exp(x) m = ReduceMax <keepdims = 0> (x) zero = Constant <value = float {0.0}> () c = Greater(m, zero)
  y = If (c) <then_branch = t () => (float[N,2] p) { p = Identity(a) }, else_branch = e () => (float[N,2] q) { q = Identity(b) }>
}"""
)


def load(text: str) -> Model:
    return Model.load(parser.parse_model(text))


def data(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def streamed(model: Model, names: list[str], feeds: Any, **options: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in names}
    stream(model, names, feeds, lambda name, array: found[name].append(array), **options)
    return found


NAMES = ["x", "a", "s", "b", "c", "d", "y"]


@pytest.mark.parametrize("budget", [2**28, 1, 2000])
def test_each_tensor_of_each_feed_in_order(budget: int) -> None:
    model = load(CHAIN)
    feeds = feeds_from(data(5, 3, 8, 8), model)
    found = streamed(model, NAMES, feeds, budget=budget)
    session = Session(model, extra_outputs=NAMES)
    for index, feed in enumerate(feeds):
        for name, expected in session.run(feed).items():
            np.testing.assert_allclose(found[name][index], expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("batch", [2, 3, 4, 100])
def test_batches_join_what_is_independent(batch: int) -> None:
    model = load(CHAIN)
    feeds = feeds_from(data(7, 3, 8, 8), model)
    single, joined = streamed(model, ["a", "y"], feeds), streamed(model, ["a", "y"], feeds, batch=batch)
    assert len(joined["a"]) == -(-7 // batch)
    for name in ("a", "y"):
        np.testing.assert_allclose(np.concatenate(joined[name]), np.concatenate(single[name]), rtol=1e-6)


@pytest.mark.parametrize(("text", "name"), [(FIXED, "y"), (CROSS, "y"), (CHAIN, "d"), (CHAIN, "s")])
def test_batches_are_not_used_where_rows_depend_on_one_another(text: str, name: str) -> None:
    model = load(text)
    feeds = feeds_from(data(6, 4) if "4] x" in text else data(6, 3, 8, 8), model)
    found = streamed(model, [name], feeds, batch=3)
    assert len(found[name]) == 6
    for got, expected in zip(found[name], streamed(model, [name], feeds)[name], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_rows_that_are_not_finite_are_rows() -> None:
    net = Net()
    model = Model.load(net.model(net.op("Log", net.input("n", 4))))
    assert rows_independent(Session(model), feeds_from(np.full((8, 4), -1, np.float32), model), 4)


def test_feeds_of_different_shapes_are_not_joined() -> None:
    model = load(HEAD + "g (float[N,C] x) => (float[N,C] y) { y = Relu(x) }")
    feeds = feeds_from([data(1, 4), data(1, 4), data(1, 5), data(1, 4)], model)
    assert [a.shape for a in streamed(model, ["y"], feeds, batch=8)["y"]] == [(2, 4), (1, 5), (1, 4)]


def test_only_what_is_needed_is_computed() -> None:
    model = load(BRANCH)
    cut = prefix(model.proto(), ["z"])
    assert [node.op_type for node in cut.graph.node] == ["Exp"]
    whole = prefix(model.proto(), ["y"])
    assert {node.op_type for node in whole.graph.node} == {"Relu", "Neg", "ReduceMax", "Constant", "Greater", "If"}
    feeds = feeds_from(data(3, 2), model)
    np.testing.assert_array_equal(streamed(model, ["y"], feeds)["y"][0], Session(model).run(feeds.first())["y"])


def test_initializers_that_are_not_needed_are_left_out() -> None:
    text = (
        HEAD + "g (float[2] x) => (float[2] y) <float[2] v = {1.0, 2.0}, float[2] w = {3.0, 4.0}> { a = Add(x, v) y = Mul(a, w) }"
    )
    assert [t.name for t in prefix(parser.parse_model(text), ["a"]).graph.initializer] == ["v"]


def test_unknown_tensors_are_the_callers_mistake() -> None:
    model = load(CHAIN)
    with pytest.raises(ValueError, match="no tensor 'nosuch'"):
        streamed(model, ["nosuch"], feeds_from(data(1, 3, 8, 8), model))


def test_a_model_that_does_not_run() -> None:
    model = load(HEAD + "g (float[N,4] x) => (float[M] y) <int64[1] r = {3}> { y = Reshape(x, r) }")
    with pytest.raises(ModelError, match="GO030"):
        streamed(model, ["y"], feeds_from(data(2, 4), model))


@pytest.mark.parametrize(("budget", "batch"), [(2**28, 1), (1, 1), (1, 4), (2**28, 3)])
def test_progress_ends_at_the_number_of_feeds(budget: int, batch: int) -> None:
    model = load(CHAIN)
    feeds = feeds_from(data(10, 3, 8, 8), model)
    steps: list[int] = []
    streamed(model, ["a", "b", "y"], feeds, budget=budget, batch=batch, advance=steps.append)
    assert sum(steps) == 10


def test_sizes_come_from_the_feed() -> None:
    model = load(CHAIN)
    sizes = tensor_bytes(model.proto(), {"x": data(2, 3, 8, 8)})
    assert sizes["a"] == 2 * 3 * 8 * 8 * 4
    assert sizes["s"] == 4 * 8
    groups = list(tensor_groups(model.proto(), ["y", "a", "b", "c"], {"x": data(1, 3, 8, 8)}, 2 * 3 * 8 * 8 * 4))
    assert groups == [["a", "b"], ["c", "y"]]


def test_collect_fills_accumulators() -> None:
    model = load(CHAIN)
    x = data(6, 3, 8, 8)
    found = {"a": MinMax(), "x": MinMax(axis=1)}
    collect(model, found, feeds_from(x, model), batch=4)
    assert found["a"].range == (0.0, float(x.max()))
    np.testing.assert_array_equal(found["x"].high, x.max(axis=(0, 2, 3)))


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    model = load(HEAD + "g (float[N,8,64,64] x) => (float[N,8,64,64] y) { a = Relu(x) y = Tanh(a) }")

    def peak(count: int) -> int:
        from graphopt.runtime import generated

        feeds = generated(model, count)
        tracemalloc.start()
        collect(model, {"a": MinMax(), "y": MinMax()}, feeds)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)
    one_feed = 8 * 64 * 64 * 4
    assert peak(40) < peak(4) + one_feed


def test_a_proto_will_do() -> None:
    net: onnx.ModelProto = parser.parse_model(CHAIN)
    feeds = feeds_from(data(2, 3, 8, 8), Model.load(net))
    names: list[str] = []
    stream(net, ["b"], feeds, lambda name, _: names.append(name))
    assert names == ["b", "b"]
