"""Shapes and names: open, symbolic and no dimensions, wrong descriptions, odd names, outputs that are also something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.model.real.check import suite
from tests.model.real.oracle import Real, text, value
from tests.model.real.test_weights import chain

Change = Callable[[onnx.ModelProto], object]


def changed(*changes: Change) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        model = chain()
        for change in changes:
            change(model)
        return model

    return build


def built(body: str, opset: int = 17, **constants: Any) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        model = text(body, opset)
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items())
        return model

    return build


def renamed(names: dict[str, str]) -> Change:
    """Give tensors other names, wherever they stand."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        for node in graph.node:
            for side in (node.input, node.output):
                side[:] = [names.get(name, name) for name in side]
        for entry in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
            entry.name = names.get(entry.name, entry.name)

    return change


def nodes_named(names: Callable[[int], str]) -> Change:
    return lambda m: [setattr(node, "name", names(i)) for i, node in enumerate(m.graph.node)]


def described(name: str, elem_type: int, shape: Any) -> Change:
    return lambda m: m.graph.value_info.append(value(name, elem_type, shape))


def also_output(name: str, elem_type: int = TensorProto.FLOAT, shape: Any = None) -> Change:
    return lambda m: m.graph.output.append(value(name, elem_type, shape))


def reversed_nodes(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def resized(*dims: Any) -> Change:
    """Declare other dimensions of the input and the output of the chain."""

    def change(model: onnx.ModelProto) -> None:
        for entry, channels in ((model.graph.input[0], 3), (model.graph.output[0], 8)):
            shape = list(dims)
            if len(shape) > 1:
                shape[1] = channels
            entry.CopyFrom(value(entry.name, TensorProto.FLOAT, shape))

    return change


def rankless(model: onnx.ModelProto) -> None:
    for entry in (model.graph.input[0], model.graph.output[0]):
        entry.CopyFrom(value(entry.name, TensorProto.FLOAT, None))


def image() -> dict[str, Any]:
    return {"x": np.random.default_rng(5).standard_normal((2, 3, 9, 7)).astype(np.float32)}


TWICE = """
    twice (float[N, N] x, float[N, "2*N"] z) => (float[N, N] y, float[N, "2*N"] w, int64[2] s) {
        s = Shape (x)
        f = Shape (z)
        a = Reshape (x, s)
        y = Identity (a)
        b = Reshape (z, f)
        w = Relu (b)
    }
"""

PROGRAM = """
    program (float[batch, 4, 6] x) => (float[batch, 24] y, float[batch, seq, 6] z) {
        s = Shape (x)
        n = Gather <axis = 0> (s, first)
        m = Unsqueeze (n, front)
        rest = Constant <value_ints = [-1]> ()
        t = Concat <axis = 0> (m, rest)
        y = Reshape (x, t)
        six = Constant <value_ints = [4, 6]> ()
        u = Concat <axis = 0> (m, six)
        v = Reshape (y, u)
        z = Relu (v)
    }
"""

EMPTY_BATCH = """
    none (float[0, 4] x, float[2, 0] e) => (float[0, 4] y, float[2] s, float[2, 1] z) {
        y = Mul (x, one)
        s = ReduceSum <keepdims = 0> (e, axis)
        z = Concat <axis = 1> (e, column)
    }
"""

SCALAR = """
    scalar (float x, int64 i) => (float y, int64 j, float[1] v, int64[0] r) {
        a = Identity (x)
        y = Mul (a, one)
        j = Add (i, none)
        v = Unsqueeze (x, front)
        r = Shape (x)
    }
"""

BROADCAST = """
    broadcast (float[N, 1, 5] x, float[1, 4, 1] z) => (float[N, 4, 5] y, float[N, 1, 5] w, float[N, 4, 5] v) {
        y = Add (x, z)
        w = Mul (x, ones)
        v = Mul (x, column)
    }
"""
"""Ones that are neutral, and ones that stretch."""

LEFT_OUT = """
    left (float[4, 6] x) => (float[4, 6] y, float[4, 3] v, int64[4, 3] i) {
        a = Clip (x, , high)
        b = Clip (a, low)
        y, m = Dropout (b, , no)
        v, i = TopK (y, k)
    }
"""

OUTPUTS_LEFT_OUT = """
    outputs (float[3, 1, 2] x) => (float[1, 1, 4] c, float[3, 1, 1, 4] y) {
        h, m = LSTM <hidden_size = 4> (x, w, r)
        y, n = LSTM <hidden_size = 4> (x, w, r, , , , c)
    }
"""


def outputs_left_out() -> onnx.ModelProto:
    """Of the three outputs of an LSTM the first two, and the second."""
    random = np.random.default_rng(2)
    weights = {name: random.uniform(-1, 1, (1, 16, width)).astype(np.float32) for name, width in (("w", 2), ("r", 4))}
    model = built(OUTPUTS_LEFT_OUT, **weights)()
    model.graph.node[0].output[:] = ["", "", "c"]
    model.graph.node[1].output[:] = ["y", "", "rest"]
    return model


def passes_on() -> onnx.ModelProto:
    """Inputs and weights that are outputs, and an output that is listed twice in the file's own way: under two names."""
    return built("""
        handed (float[2, 3] x, float[2, 3] z) => (float[2, 3] x, float[3] w, float[2, 3] a, float[2, 3] b, float[2, 3] c) {
            a = Relu (x)
            b = Identity (a)
            c = Identity (z)
        }
    """, w=np.arange(3, dtype=np.float32))()  # fmt: skip


def all_constant() -> onnx.ModelProto:
    """No input at all, and everything can be computed."""
    return built("""
        constant () => (float[2, 3] y, int64[2] s) {
            a = Mul (w, w)
            y = Neg (a)
            s = Shape (a)
        }
    """, w=np.arange(6, dtype=np.float32).reshape(2, 3))()  # fmt: skip


def annotated() -> onnx.ModelProto:
    """Everything that a file says beside its graph."""
    model = chain()
    model.producer_name, model.domain, model.model_version, model.doc_string = "somebody", "org.example", 3, "a model"
    model.metadata_props.add(key="classes", value="a,b")
    model.graph.doc_string = "a graph"
    model.graph.metadata_props.add(key="k", value="v")
    model.training_info.add().algorithm.CopyFrom(helper.make_graph([], "step", [], []))
    for node in model.graph.node:
        node.metadata_props.add(key="source", value="line 1")
    return model


LONG = "n" * 20_000
ODD = {
    "spaces": {"a": "the first one", "y": "the last one", "w2": " w 2 "},
    "slashes and colons": {"a": "/model/conv:0", "w1": "model/conv/kernel:0", "y": "a/b\\c"},
    "unicode": {"a": "\u00e4\u4e2d\U0001f600", "x": "\u00e9", "y": "e\u0301", "w1": "\u202eevil"},
    "control characters": {"a": "a\x1b[31m\r\n", "x": "x\t", "y": "y\x7f", "w1": "w\x00"},
    "very long": {"a": LONG, "x": LONG + "x", "y": LONG + "y", "w1": LONG + "w"},
    "names that fresh ones might take": {"a": "m.weight", "n": "m.bias", "w3": "n.weight", "m": "m.weight_1"},
    "quotes and markup": {"a": 'a"]; b [', "x": "[bold]x", "y": "<y>&", "w1": "{w}"},
}

CASES = {
    "a dynamic batch": Real(changed(resized("N", 0, 8, 8))),
    "all open but the channels": Real(changed(resized("N", 0, "H", "W")), feed=image),
    "dimensions without names": Real(changed(resized(None, 0, None, None)), feed=image),
    "expressions for dimensions": Real(changed(resized("batch*beams", 0, "H/2", "floor(W/2)+1")), feed=image),
    "a rank that is not known": Real(changed(rankless), feed=image),
    "one symbol twice": Real(built(TWICE), feed=lambda: {"x": np.eye(3, dtype=np.float32), "z": np.ones((3, 6), np.float32)}),
    "a shape program": Real(built(PROGRAM, first=np.array(0), front=np.array([0])), gone="Concat Gather"),
    "dimensions of zero": Real(
        built(EMPTY_BATCH, one=np.ones(1, np.float32), axis=np.array([1]), column=np.ones((2, 1), np.float32))
    ),
    "scalars": Real(built(SCALAR, one=np.float32(1), none=np.int64(0), front=np.array([0]))),
    "broadcasting": Real(
        built(BROADCAST, ones=np.ones((1, 1, 5), np.float32), column=np.ones((4, 1), np.float32)),
        feed=lambda: {"x": np.ones((2, 1, 5), np.float32), "z": np.ones((1, 4, 1), np.float32)},
        kept="Add Mul",
    ),
    "inputs left out in the middle": Real(
        built(LEFT_OUT, high=np.float32(1), low=np.float32(-1), no=np.array(False), k=np.array([3])), gone="Dropout"
    ),
    "outputs left out in the middle": Real(outputs_left_out),
    "nodes of one name": Real(changed(nodes_named(lambda i: "same")), twin=changed(nodes_named(str))),
    "nodes of one name, unverified": Real(changed(nodes_named(lambda i: "same")), runs=False, loads=True),
    "nodes without names": Real(changed(nodes_named(lambda i: ""))),
    "nodes named like tensors": Real(changed(nodes_named("yamrn".__getitem__))),
    "nodes out of order": Real(changed(reversed_nodes), gone="BatchNormalization"),
    "a wrong value_info": Real(changed(described("a", TensorProto.FLOAT, [1, 16, 7, 7])), gone="BatchNormalization"),
    "a value_info of another rank": Real(changed(described("n", TensorProto.FLOAT, [16])), gone="BatchNormalization"),
    "a value_info of another type": Real(changed(described("a", TensorProto.INT64, [1, 16, 8, 8])), runs=False, loads=True),
    "value_info of nothing": Real(changed(described("gone", TensorProto.FLOAT, [1]))),
    "an inner tensor as output": Real(changed(also_output("a", shape=[1, 16, 8, 8])), kept="BatchNormalization"),
    "an output twice": Real(changed(also_output("y", shape=[1, 8, 8, 8])), runs=False),
    "an output without a shape": Real(changed(lambda m: m.graph.output[0].type.tensor_type.ClearField("shape"))),
    "inputs and weights as outputs": Real(passes_on),
    "nothing but constants": Real(all_constant),
    "documentation and metadata": Real(annotated),
    **{f"names: {name}": Real(changed(renamed(names)), gone="BatchNormalization") for name, names in ODD.items()},
}

test_values = suite(CASES)
