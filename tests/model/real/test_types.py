"""Element types: halves, doubles, the 8-, 4- and 2-bit ones, strings, complex numbers, booleans; as weights and as activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.model.real.check import suite
from tests.model.real.oracle import Real, model_of, text, value

NARROW = {
    name: getattr(TensorProto, name)
    for name in (
        "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0", "FLOAT4E2M1", "INT4", "UINT4",
        "INT2", "UINT2", "FLOAT6E2M3", "FLOAT6E3M2",
    )
    if hasattr(TensorProto, name)
}  # fmt: skip


def network(elem_type: int, opset: int = 22) -> Callable[[], onnx.ModelProto]:
    """Two convolutions and a normalisation in one float type, and shape arithmetic that is none of its business."""

    def build() -> onnx.ModelProto:
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
            helper.make_node("BatchNormalization", ["a", "s", "s", "s", "s"], ["b"]),
            helper.make_node("Relu", ["b"], ["r"]),
            helper.make_node("Mul", ["r", "one"], ["m"]),
            helper.make_node("Add", ["zero", "m"], ["n"]),
            helper.make_node("Conv", ["n", "w2"], ["c"]),
            helper.make_node("Identity", ["c"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "g", [value("x", elem_type, [1, 4, 6, 6])], [value("y", elem_type, [1, 4, 6, 6])])
        random = np.random.default_rng(3)
        given: dict[str, Any] = {
            "w1": random.uniform(-1, 1, (16, 4, 3, 3)), "w2": random.uniform(-1, 1, (4, 16, 1, 1)), "s": np.linspace(0.5, 1, 16),
            "one": np.ones(1), "zero": np.zeros(()),
        }  # fmt: skip
        graph.initializer.extend(numpy_helper.from_array(np.asarray(v).astype(dtype), n) for n, v in given.items())
        return model_of(graph, opset, 10)

    return build


def stored(elem_type: int, *, as_node: bool) -> Callable[[], onnx.ModelProto]:
    """A weight in a type of few bits behind a Cast, as a Constant node or an initializer; and twice the same."""

    def build() -> onnx.ModelProto:
        tensors = [helper.make_tensor(n, elem_type, [2, 3], [1, 0, 1, 1, 0, 1]) for n in "wv"]
        nodes = [
            helper.make_node("Cast", ["w"], ["wf"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["v"], ["vf"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["wf", "vf"], ["k"]),
            helper.make_node("Mul", ["x", "k"], ["y"]),
        ]
        if as_node:
            nodes[:0] = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
        graph = helper.make_graph(nodes, "g", [value("x", shape=[2, 3])], [value("y", shape=[2, 3])])
        if not as_node:
            graph.initializer.extend(tensors)
        return model_of(graph, *(25, 12) if name_of(elem_type) in STORED_RUNS else (28, 14))

    return build


def name_of(elem_type: int) -> str:
    return str(TensorProto.DataType.Name(elem_type))


def dequantized(elem_type: int) -> Callable[[], onnx.ModelProto]:
    """A block-quantized weight: how language models come."""

    def build() -> onnx.ModelProto:
        weight = helper.make_tensor("w", elem_type, [8, 4], [i % 7 for i in range(32)])
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s"], ["wf"], axis=0, block_size=4),
            helper.make_node("MatMul", ["x", "wf"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "g", [value("x", shape=[2, 8])], [value("y", shape=[2, 4])], [weight])
        graph.initializer.append(numpy_helper.from_array(np.full((2, 4), 0.5, np.float32), "s"))
        return model_of(graph, 21, 10)

    return build


def saturating_casts() -> onnx.ModelProto:
    """Floats outside of a float8's range, saturated and not."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT8E4M3FN, saturate=1),
        helper.make_node("Cast", ["a"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["big"], ["b"], to=TensorProto.FLOAT8E4M3FN, saturate=0),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["c", "x"], ["z"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", shape=[3])], [value("y", shape=[3]), value("z", shape=[3])])
    graph.initializer.append(numpy_helper.from_array(np.array([1e6, -1e6, 1.1], np.float32), "big"))
    return model_of(graph, 21, 10)


def complex_numbers() -> onnx.ModelProto:
    """A transform to the frequencies and a complex weight that is handed on."""
    nodes = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["d"], ["y"])]
    graph = helper.make_graph(nodes, "g", [], [value("y", TensorProto.COMPLEX64, [2])])
    graph.initializer.append(numpy_helper.from_array(np.array([1 + 2j, 3j], np.complex64), "c"))
    return model_of(graph)


BOOLEANS = """
    masks (float[2, 4] x, bool[2, 4] m) => (float[2, 4] y, bool[2, 4] n, bool[2, 4] k) {
        kept = And (m, yes)
        a = Or (no, kept)
        n = Xor (a, yes)
        once = Not (n)
        twice = Not (once)
        k = Xor (twice, yes)
        zero = Constant <value_float = 0.0> ()
        y = Where (k, x, zero)
    }
"""

STRINGS = """
    strings (string[3] s) => (string[3] y, bool[3] e, string[3] j) {
        same = Identity (s)
        y = StringConcat (same, tail)
        e = Equal (same, tail)
        j = StringConcat (tail, tail)
    }
"""

MIXED = """
    mixed (float[2, 4] x) => (float[2, 4] y, int64[2, 4] i, uint8[2, 4] u) {
        d = Cast <to = 11> (x)
        e = Cast <to = 11> (d)
        f = Mul (d, e)
        y = Cast <to = 1> (f)
        i = Cast <to = 7> (x)
        q = CastLike (i, byte)
        u = CastLike (q, byte)
    }
"""

WRAPPED = """
    wrapped (uint8[3] x) => (uint8[3] y, int32[3] z, uint8[3] s) {
        y = Add (x, sum)
        sum = Add (a, b)
        s = Sub (a, b)
        quotient = Div (c, d)
        k = Cast <to = 6> (x)
        z = Mul (k, quotient)
    }
"""
"""Integers that wrap around, and a quotient of other signs."""

SIGNS = """
    signs (float[4] x) => (float[4] y, float[4] z, float[4] n) {
        y = Add (x, minus)
        a = Mul (x, minus)
        z = Div (one, a)
        b = Sub (minus, zero)
        n = Div (one, b)
    }
"""
"""Zeros with a sign: 1 / -0 is another infinity than 1 / 0. x + (-0) is x."""


def built(body: str, **constants: Any) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        model = text(body, 20, 9)
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items())
        return model

    return build


def words() -> dict[str, Any]:
    return {"s": np.array(["a", "\u00e4\u00df", ""], object)}


NORMAL_TYPES = {"float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE, "bfloat16": TensorProto.BFLOAT16}
RUNS = {"float16"}
"""onnxruntime's CPU provider convolves these."""

STORED_RUNS = {"FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "INT4", "UINT4"}
"""And casts these."""

CASES = {
    **{f"a network in {n}": Real(network(t), runs=n in RUNS, reference=True, gone="Identity") for n, t in NORMAL_TYPES.items()},
    **{
        f"{name} as {'a Constant node' if node else 'an initializer'}": Real(stored(kind, as_node=node), runs=name in STORED_RUNS)
        for name, kind in NARROW.items()
        for node in (False, True)
    },
    "a weight in blocks of int4": Real(dequantized(TensorProto.INT4), kept="DequantizeLinear", told="quantized-constant"),
    "a weight in blocks of uint4": Real(dequantized(TensorProto.UINT4), kept="DequantizeLinear", told="quantized-constant"),
    "casts that saturate": Real(saturating_casts),
    "complex numbers": Real(complex_numbers, runs=False, reference=True),
    "booleans": Real(built(BOOLEANS, yes=np.array(True), no=np.zeros((1, 4), bool)), gone="And Or"),
    "strings": Real(built(STRINGS, tail=np.array(["x"], object)), feed=words, gone="Identity"),
    "types and back": Real(built(MIXED, byte=np.uint8(0))),
    "integers that wrap": Real(
        built(
            WRAPPED,
            a=np.array([250, 1, 3], np.uint8), b=np.array([10, 2, 4], np.uint8), c=np.array([-7, 7, -8], np.int32),
            d=np.array([2, -2, 3], np.int32),
        )
    ),
    "zeros with a sign": Real(
        built(SIGNS, minus=np.array([-0.0], np.float32), zero=np.zeros(1, np.float32), one=np.ones((4,), np.float32)),
        feed=lambda: {"x": np.array([0.0, -0.0, 1.0, np.finfo(np.float32).tiny], np.float32)},
    ),
}  # fmt: skip

test_types = suite(CASES)
