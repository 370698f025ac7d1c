"""Where weights lie: Constant nodes of every form, listed, overridable, sparse, unused, empty and shared initializers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from tests.model.real.check import suite
from tests.model.real.oracle import Real, model_of, run_of, same_outputs, text, value, weight

CHAIN = """
    chain (float[1, 3, 8, 8] x) => (float[1, 8, 8, 8] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
        n = BatchNormalization (a, scale, shift, mean, var)
        r = Relu (n)
        m = Conv (r, w2)
        y = Conv <pads = [1, 1, 1, 1]> (m, w3, b3)
    }
"""
SHAPES: dict[str, tuple[int, ...]] = {
    "w1": (16, 3, 3, 3), "b1": (16,), "scale": (16,), "shift": (16,), "mean": (16,), "w2": (16, 16, 1, 1), "w3": (8, 16, 3, 3),
    "b3": (8,),
}  # fmt: skip


def chain(opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """Two convolutions and a normalisation between that fold, 16 channels that may be pruned."""
    model = text(CHAIN, opset, ir)
    for name, shape in SHAPES.items():
        weight(model.graph, name, *shape)
    model.graph.initializer.append(numpy_helper.from_array(np.linspace(0.5, 2, 16, dtype=np.float32), "var"))
    return model


def changed(change: Callable[[onnx.GraphProto], object], ir: int = 8) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        model = chain(ir=ir)
        change(model.graph)
        return model

    return build


def as_nodes(graph: onnx.GraphProto) -> None:
    """Every initializer behind a Constant node."""
    held = list(graph.initializer)
    del graph.initializer[:]
    for index, tensor in enumerate(held):
        graph.node.insert(index, helper.make_node("Constant", [], [tensor.name], name=f"const {tensor.name}", value=tensor))


def listed(graph: onnx.GraphProto, *names: str) -> None:
    for tensor in graph.initializer:
        if not names or tensor.name in names:
            graph.input.append(value(tensor.name, tensor.data_type, tensor.dims))


def sparse(graph: onnx.GraphProto, name: str, *, coordinates: bool) -> None:
    """Store an initializer by its elements that are not zero, a third of them."""
    tensor = next(t for t in graph.initializer if t.name == name)
    graph.initializer.remove(tensor)
    dense = numpy_helper.to_array(tensor)
    places = np.arange(0, dense.size, 3)
    indices = np.stack(np.unravel_index(places, dense.shape), axis=1) if coordinates else places
    values = numpy_helper.from_array(dense.reshape(-1)[places], name)
    made = helper.make_sparse_tensor(values, numpy_helper.from_array(indices.astype(np.int64), ""), dense.shape)
    graph.sparse_initializer.append(made)


def forms() -> onnx.ModelProto:
    """Every attribute of Constant that holds numbers."""
    return text("""
        forms (float[2, 3] x) => (float[2, 3] y, int64[2] n) {
            one = Constant <value_float = 1.5> ()
            row = Constant <value_floats = [1.0, 2.0, 3.0]> ()
            two = Constant <value_int = 2> ()
            shape = Constant <value_ints = [2, 3]> ()
            whole = Constant <value = float[1] {0.5}> ()
            a = Mul (x, one)
            b = Add (a, row)
            c = Add (b, whole)
            y = Reshape (c, shape)
            n = Mul (shape, two)
        }
    """)


def sparse_constant() -> onnx.ModelProto:
    made = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([2, 3], np.float32), ""), numpy_helper.from_array(np.array([1, 2]), ""), [4]
    )
    nodes = [helper.make_node("Constant", [], ["s"], sparse_value=made), helper.make_node("Mul", ["x", "s"], ["y"])]
    return model_of(helper.make_graph(nodes, "g", [value("x", shape=[2, 4])], [value("y", shape=[2, 4])]))


def strings() -> onnx.ModelProto:
    return text("""
        words (int64[2] i) => (string[2] y, string z, string[2] w) {
            words = Constant <value_strings = ["a", "b", "\u00e4"]> ()
            same = Constant <value_strings = ["a", "b", "\u00e4"]> ()
            z = Constant <value_string = "one"> ()
            y = Gather (words, i)
            w = Gather (same, i)
        }
    """)


def everywhere_empty() -> onnx.ModelProto:
    """Tensors of no elements, also as constant operands of what could be computed."""
    model = text("""
        empty (float[2, 3] x) => (float[2, 3] y, float[0, 3] z, float[0] s) {
            y = Concat <axis = 0> (x, nothing)
            z = Relu (nothing)
            s = ReduceSum <keepdims = 0> (nothing, one)
        }
    """)
    model.graph.initializer.append(TensorProto(name="nothing", data_type=TensorProto.FLOAT, dims=[0, 3]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    return model


def scalars() -> onnx.ModelProto:
    model = text("""
        scalars (float x, float[2] v) => (float y, float[2] z, float[1] u) {
            a = Mul (x, half)
            y = Add (a, a)
            z = Add (v, half)
            u = Add (half, unit)
        }
    """)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1.0], np.float32), "unit"))
    return model


def neutral_but_for_rank() -> onnx.ModelProto:
    """A one of rank 1 (a zero of rank 3) is no neutral element for what has fewer axes."""
    model = text("""
        rank (float x, float[2] v) => (float[1] y, float[1, 1, 2] z) {
            y = Mul (x, one)
            z = Add (v, zero)
        }
    """)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1.0], np.float32), "one"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 1), np.float32), "zero"))
    return model


def shared() -> onnx.ModelProto:
    """One weight for two convolutions of which only one could be folded."""
    model = text("""
        shared (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {
            a = Conv (x, w)
            b = BatchNormalization (a, s, s, s, s)
            r = Relu (b)
            c = Conv (r, w)
            y = Add (c, r)
        }
    """)
    weight(model.graph, "w", 8, 8, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(np.linspace(0.5, 1, 8, dtype=np.float32), "s"))
    return model


def overridable(names: Sequence[str] = ("w2",)) -> onnx.ModelProto:
    model = chain()
    listed(model.graph, *names)
    return model


CASES = {
    "initializers": Real(chain, gone="BatchNormalization"),
    "Constant nodes": Real(changed(as_nodes), gone="Constant BatchNormalization"),
    "every form of Constant": Real(forms, gone="Constant"),
    "a sparse Constant": Real(sparse_constant),
    "Constants of strings": Real(strings, kept="Constant Gather"),
    "format 3, all listed as inputs": Real(changed(listed, ir=3), gone="BatchNormalization"),
    "a weight that a caller may override": Real(overridable, gone="BatchNormalization"),
    "all weights may be overridden": Real(changed(listed), kept="BatchNormalization"),
    "sparse by linear indices": Real(changed(lambda g: sparse(g, "w2", coordinates=False))),
    "sparse by coordinates": Real(changed(lambda g: sparse(g, "w1", coordinates=True))),
    "sparse vectors": Real(changed(lambda g: sparse(g, "b1", coordinates=False))),
    "unused initializers": Real(changed(lambda g: weight(g, "spare", 4, 4))),
    "unused and listed": Real(changed(lambda g: [weight(g, "spare", 4), listed(g, "spare")])),
    "empty tensors": Real(everywhere_empty),
    "scalars": Real(scalars),
    "neutral but for its rank": Real(neutral_but_for_rank, kept="Mul Add"),
    "one weight, two readers": Real(shared),
}

test_weights = suite(CASES)


@pytest.mark.parametrize("passes", ["simplify,fold", "fold,prune:ratio=0"])
def test_what_a_caller_may_override_still_can_be(passes: str) -> None:
    """The default is a value like any other: a result that had it folded in would not notice another one."""
    proto = overridable(["w2", "scale"])
    made = graphopt.run(proto, passes, timing=False).model.proto()
    random = np.random.default_rng(1)
    feed = {
        "x": random.standard_normal((1, 3, 8, 8)).astype(np.float32),
        "w2": random.standard_normal(SHAPES["w2"]).astype(np.float32),
        "scale": random.standard_normal(16).astype(np.float32),
    }
    same_outputs(proto, made, feed, run_of)
    same_outputs(proto, made, {"x": feed["x"]}, run_of)
