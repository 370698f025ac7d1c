"""What is not a plain function of tensors: sequences, optionals and maps, random numbers, training mode, Einsum and its like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.model.real.check import suite
from tests.model.real.oracle import Real, model_of, text, value, weight


def built(body: str, opset: int = 17, **constants: Any) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        model = text(body, opset)
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items())
        return model

    return build


SEQUENCES = """
    sequences (float[2, 3] x, float[2, 3] z) => (float[2, 3] y, int64 n, float[4, 3] all) {
        i = Identity (x)
        s = SequenceConstruct (i, z)
        t = SequenceInsert (s, i)
        y = SequenceAt (t, last)
        n = SequenceLength (t)
        u = SequenceErase (t, last)
        all = ConcatFromSequence <axis = 0> (u)
    }
"""
SPLIT = """
    split (float[4, 3] x) => (float[2, 3] y, seq(float[2, 3]) s) {
        s = SplitToSequence <axis = 0> (x, two)
        same = Identity (s)
        y = SequenceAt (same, one)
    }
"""
LOOP = """
    loop (float[2, 3] x, int64 n) => (float[K, 3] y) {
        none = SequenceEmpty <dtype = 1> ()
        start = SequenceInsert (none, x)
        s = Loop (n, go, start) <
            body = step (int64 i, bool on, seq(float[2, 3]) held) => (bool still, seq(float[2, 3]) more) {
                still = Identity (on)
                f = Cast <to = 1> (i)
                e = Add (x, f)
                more = SequenceInsert (held, e)
            }
        >
        y = ConcatFromSequence <axis = 0> (s)
    }
"""
NOTHING = """
    nothing (float[2, 3] x) => (float[2, 3] y, bool h) {
        o = Optional (x)
        h = OptionalHasElement (o)
        y = OptionalGetElement (o)
    }
"""
CONSTANT_SEQUENCE = """
    constant (float[2] x) => (float[2] y, int64 n) {
        s = SequenceConstruct (w, w)
        n = SequenceLength (s)
        a = SequenceAt (s, zero)
        y = Add (x, a)
    }
"""
"""A sequence of constants: of the things that are not computed here."""

DRAWS = """
    draws (float[2, 3] x) => (float[2, 3] y, int64[2] s) {
        a = RandomNormal <shape = [2, 3]> ()
        b = RandomNormal <shape = [2, 3]> ()
        c = RandomUniformLike (w)
        d = Bernoulli (half)
        e = Sub (a, b)
        f = Add (c, d)
        g = Add (e, f)
        y = Add (x, g)
        s = Shape (y)
    }
"""
"""Drawn numbers: no two draws are one, and none is a constant."""

SEEDED = """
    seeded (float[2, 3] x) => (float[2, 3] y) {
        a = RandomNormal <shape = [2, 3], seed = 1.0> ()
        b = RandomNormal <shape = [2, 3], seed = 1.0> ()
        e = Sub (a, b)
        y = Add (x, e)
    }
"""
UNREAD = """
    unread (float[2, 3] x) => (float[2, 3] y) {
        a = RandomNormalLike (x)
        z = Constant <value_float = 0.0> ()
        y = Relu (x)
    }
"""
MASKED = """
    masked (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
        y, m = Dropout (x, half)
        n = Cast <to = 1> (m)
        z = Mul (n, y)
    }
"""
TRAINING_DROPOUT = """
    training (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
        y = Dropout (x, half, yes)
        z = Dropout (x, half, yes)
    }
"""
UNDECIDED = """
    undecided (float[2, 3] x, bool training) => (float[2, 3] y) {
        y = Dropout (x, half, training)
    }
"""
EINSUMS = """
    einsums (float[2, 3, 4] x, float[2, 4, 5] z) => (float[2, 3, 5] y, float[3, 4] d, float[3, 4] t) {
        y = Einsum <equation = "bij,bjk->bik"> (x, z)
        k = Einsum <equation = "ij,ij->ij"> (w, w)
        t = Einsum <equation = "bij->ij"> (x)
        d = Mul (t, k)
    }
"""
DATA_DEPENDENT = """
    dependent (float[2, 3] x) => (int64[2, K] n, float[U] u, float[M, 3] c) {
        n = NonZero (x)
        u = Unique <sorted = 1> (x)
        c = Compress <axis = 0> (x, mask)
    }
"""
DEAD = """
    dead (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) {
        z = Conv (x, rows)
        a, m = Dropout (z)
        n = Cast <to = 1> (m)
        b = Conv (n, ones)
        y = Relu (b)
    }
"""
"""A second output that is not zero where the first one is: the last filter is all zeros, its mask is all ones."""

PLACES = """
    places (float[1, 4, 6, 6] x) => (float[1, 4, 5, 5] y) {
        z = Conv (x, rows)
        a, i = MaxPool <kernel_shape = [2, 2]> (z)
        n = Cast <to = 1> (i)
        y = Conv (n, ones)
    }
"""


def training_norm(opset: int) -> Callable[[], onnx.ModelProto]:
    """BatchNormalization as training writes it: new statistics as further outputs, in opset 14 and later with a mode."""

    def build() -> onnx.ModelProto:
        names = ["n", "m", "v"] if opset >= 14 else ["n", "m", "v", "sm", "sv"]
        mode = {"training_mode": 1} if opset >= 14 else {}
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["a"]),
            helper.make_node("BatchNormalization", ["a", "s", "s", "s", "s"], names, **mode),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node("Conv", ["r", "w2"], ["y"]),
        ]
        outputs = [value("y", shape=[1, 4, 6, 6]), value("m", shape=[16]), value("v", shape=[16])]
        graph = helper.make_graph(nodes, "g", [value("x", shape=[1, 4, 6, 6])], outputs)
        weight(graph, "w1", 16, 4, 1, 1)
        weight(graph, "w2", 4, 16, 1, 1)
        graph.initializer.append(numpy_helper.from_array(np.linspace(0.5, 1, 16, dtype=np.float32), "s"))
        return model_of(graph, opset)

    return build


def optional_input() -> onnx.ModelProto:
    """An input that may be absent."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    nodes = [helper.make_node("OptionalHasElement", ["o"], ["h"]), helper.make_node("Identity", ["x"], ["y"])]
    inputs = [helper.make_value_info("o", kind), value("x", shape=[2])]
    graph = helper.make_graph(nodes, "g", inputs, [value("h", TensorProto.BOOL, []), value("y", shape=[2])])
    return model_of(graph, 18)


def sequence_input() -> onnx.ModelProto:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"]))
    nodes = [helper.make_node("Identity", ["s"], ["t"]), helper.make_node("ConcatFromSequence", ["t"], ["y"], axis=0)]
    graph = helper.make_graph(nodes, "g", [helper.make_value_info("s", kind)], [value("y", shape=["M"])])
    return model_of(graph)


def steps(count: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"x": np.ones((2, 3), np.float32), "n": np.asarray(count, np.int64)}


HALF = np.float32(0.5)

CASES = {
    "sequences": Real(built(SEQUENCES, last=np.int64(-1)), kept="SequenceConstruct"),
    "a tensor split into a sequence": Real(built(SPLIT, two=np.int64(2), one=np.int64(1)), kept="SplitToSequence"),
    "a loop over a sequence": Real(built(LOOP, go=np.array(True)), feed=steps(2), kept="Loop SequenceEmpty"),
    "optionals": Real(built(NOTHING, 18), kept="Optional"),
    "a sequence of constants": Real(
        built(CONSTANT_SEQUENCE, w=np.ones(2, np.float32), zero=np.int64(0)), kept="SequenceAt", told="not-evaluated"
    ),
    "an optional input": Real(optional_input, feed=lambda: {"o": np.ones(2, np.float32), "x": np.ones(2, np.float32)}),
    "a sequence as input": Real(sequence_input, feed=lambda: {"s": [np.ones(2, np.float32), np.zeros(3, np.float32)]}),
    "random numbers": Real(built(DRAWS, w=np.ones((2, 3), np.float32), half=np.full((2, 3), 0.5, np.float32)), refused="GO032"),
    "random numbers, unverified": Real(
        built(DRAWS, w=np.ones((2, 3), np.float32), half=np.full((2, 3), 0.5, np.float32)),
        runs=False, kept="RandomNormal RandomUniformLike Bernoulli Sub", told="not-deterministic",
    ),
    "random numbers with a seed": Real(built(SEEDED), kept="RandomNormal Sub"),
    "random numbers that nothing reads": Real(built(UNREAD), gone="RandomNormalLike Constant"),
    "a Dropout whose mask is used": Real(built(MASKED, half=HALF), kept="Dropout"),
    "a Dropout in training": Real(built(TRAINING_DROPOUT, half=HALF, yes=np.array(True)), refused="GO030 GO032"),
    "a Dropout in training, unverified": Real(
        built(TRAINING_DROPOUT, half=HALF, yes=np.array(True)), runs=False, kept="Dropout"
    ),
    "a Dropout whose mode is an input": Real(
        built(UNDECIDED, half=HALF), kept="Dropout", feed=lambda: {"x": np.ones((2, 3), np.float32), "training": np.array(False)}
    ),
    "a mask where the data is zero": Real(
        built(DEAD, ones=np.ones((4, 4, 1, 1), np.float32), rows=np.eye(4, k=1, dtype=np.float32)[..., None, None]), kept="Dropout"
    ),
    "indices where the data is zero": Real(
        built(PLACES, ones=np.ones((4, 4, 1, 1), np.float32), rows=np.eye(4, k=1, dtype=np.float32)[..., None, None])
    ),
    "statistics of training, opset 9": Real(training_norm(9), runs=False, kept="BatchNormalization", told="graph-output"),
    "statistics of training, opset 15": Real(
        training_norm(15), runs=False, reference=True, kept="BatchNormalization", told="batch-norm-training"
    ),
    "Einsum": Real(built(EINSUMS, w=np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)), kept="Einsum"),
    "sizes that depend on data": Real(
        built(DATA_DEPENDENT, mask=np.array([True, False])), kept="NonZero Unique Compress"
    ),
}  # fmt: skip

test_unpredictable = suite(CASES)
