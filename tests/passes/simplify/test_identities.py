"""Operators that change nothing go, and those that only look like it stay; operators in a row merge."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.passes.simplify.support import assert_same, codes, infer, model_of, ops, simplify

GONE = {
    "identity": "(float[2,3] x) => (float[2,3] y) { a = Identity(x) y = Relu(a) }",
    "identities in a row": "(float[2,3] x) => (float[2,3] y) { a = Identity(x) b = Identity(a) c = Identity(b) y = Relu(c) }",
    "identity before an output": "(float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Identity(a) }",
    "identity before an output, read elsewhere too": (
        "(float[2,3] x) => (float[2,3] y, float[2,3] z) { a = Relu(x) y = Identity(a) z = Relu(a) }",
        ["Relu"] * 2,
    ),
    "dropout": "(float[2,3] x) => (float[2,3] y) { a = Dropout(x) y = Relu(a) }",
    "dropout with ratio": "(float[2,3] x) => (float[2,3] y) <float r = {0.5}> { a = Dropout(x, r) y = Relu(a) }",
    "dropout, mask unread": "(float[2,3] x) => (float[2,3] y) { a, m = Dropout(x) y = Relu(a) }",
    "dropout, not training": (
        "(float[2,3] x) => (float[2,3] y) <float r = {0.5}, bool t = {0}> { a = Dropout(x, r, t) y = Relu(a) }"
    ),
    "cast to the same type": "(float[2,3] x) => (float[2,3] y) { a = Cast <to = 1> (x) y = Relu(a) }",
    "cast like the same type": "(float[2,3] x, float[1] l) => (float[2,3] y) { a = CastLike(x, l) y = Relu(a) }",
    "transpose, identity": "(float[2,3] x) => (float[2,3] y) { a = Transpose <perm = [0, 1]> (x) y = Relu(a) }",
    "transpose of dimensions of one": ("(float[1,1,3] x) => (float[1,1,3] y) { a = Transpose <perm = [1, 0, 2]> (x) y = Relu(a) }"),
    "transposes that cancel": (
        "(float[2,3,4] x) => (float[2,3,4] y)"
        "{ a = Transpose <perm = [1, 2, 0]> (x) b = Transpose <perm = [2, 0, 1]> (a) y = Relu(b) }"
    ),
    "reshape to the same shape": "(float[2,3] x) => (float[2,3] y) <int64[2] s = {2, 3}> { a = Reshape(x, s) y = Relu(a) }",
    "reshape, dimensions copied": "(float[N,3] x) => (float[N,3] y) <int64[2] s = {0, -1}> { a = Reshape(x, s) y = Relu(a) }",
    "reshape, batch inferred": "(float[N,3] x) => (float[N,3] y) <int64[2] s = {-1, 3}> { a = Reshape(x, s) y = Relu(a) }",
    "reshapes that cancel": (
        "(float[2,3] x) => (float[2,3] y) <int64[1] s = {6}, int64[2] t = {2, 3}>"
        "{ a = Reshape(x, s) b = Reshape(a, t) y = Relu(b) }"
    ),
    "flatten of a matrix": "(float[N,M] x) => (float[N,M] y) { a = Flatten(x) y = Relu(a) }",
    "expand to ones": "(float[N,3] x) => (float[N,3] y) <int64[2] s = {1, 1}> { a = Expand(x, s) y = Relu(a) }",
    "expand to the same": "(float[2,3] x) => (float[2,3] y) <int64[2] s = {2, 1}> { a = Expand(x, s) y = Relu(a) }",
    "tile once": "(float[N,3] x) => (float[N,3] y) <int64[2] s = {1, 1}> { a = Tile(x, s) y = Relu(a) }",
    "slice of everything": (
        "(float[N,3] x) => (float[N,3] y) <int64[2] b = {0, -3}, int64[2] e = {9223372036854775807, 3}>"
        "{ a = Slice(x, b, e) y = Relu(a) }"
    ),
    "pad by nothing": "(float[2,3] x) => (float[2,3] y) <int64[4] p = {0, 0, 0, 0}> { a = Pad(x, p) y = Relu(a) }",
    "gather of everything": (
        "(float[N,3] x) => (float[N,3] y) <int64[3] i = {0, 1, 2}> { a = Gather <axis = -1> (x, i) y = Relu(a) }"
    ),
    "depth to space by one": "(float[1,4,2,2] x) => (float[1,4,2,2] y) { a = DepthToSpace <blocksize = 1> (x) y = Relu(a) }",
    "resize by one": (
        '(float[1,4,2,2] x) => (float[1,4,2,2] y) <float[4] s = {1, 1, 1, 1}> { a = Resize <mode = "linear"> (x, , s) y = Relu(a) }'
    ),
    "concat of one": "(float[2,3] x) => (float[2,3] y) { a = Concat <axis = 0> (x) y = Relu(a) }",
    "sum of one": "(float[2,3] x) => (float[2,3] y) { a = Sum(x) y = Relu(a) }",
    "split into one": "(float[2,3] x) => (float[2,3] y) <int64[1] s = {2}> { a = Split(x, s) y = Relu(a) }",
    "reduction over ones": "(float[2,1] x) => (float[2,1] y) { a = ReduceMax <axes = [1]> (x) y = Relu(a) }",
    "add zero": "(float[2,3] x) => (float[2,3] y) <float[3] z = {0, 0, 0}> { a = Add(x, z) y = Relu(a) }",
    "zero add": "(float[N,3] x) => (float[N,3] y) <float z = {0}> { a = Add(z, x) y = Relu(a) }",
    "subtract zero": "(float[2,3] x) => (float[2,3] y) <float z = {0}> { a = Sub(x, z) y = Relu(a) }",
    "multiply by one": "(float[2,3] x) => (float[2,3] y) <float[2,1] o = {1, 1}> { a = Mul(o, x) y = Relu(a) }",
    "divide by one": "(float[2,3] x) => (float[2,3] y) <float o = {1}> { a = Div(x, o) y = Relu(a) }",
    "power of one": "(float[2,3] x) => (float[2,3] y) <float o = {1}> { a = Pow(x, o) y = Relu(a) }",
    "not not": ("(bool[2,3] x) => (bool[2,3] y) { a = Not(x) b = Not(a) c = Not(b) y = Identity(c) }", ["Not"]),
    "or false": ("(bool[2] x, bool[2] v) => (bool[2] y) <bool f = {0}> { a = Or(x, f) y = And(a, v) }", ["And"]),
    "relu relu": "(float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Relu(a) }",
    "unsqueeze, squeeze": (
        "(float[2,3] x) => (float[2,3] y) <int64[1] i = {1}, int64[1] j = {-2}>"
        "{ a = Unsqueeze(x, i) b = Squeeze(a, j) y = Relu(b) }"
    ),
    "squeeze, unsqueeze": (
        "(float[2,1,3] x) => (float[2,1,3] y) <int64[1] i = {1}> { a = Squeeze(x, i) b = Unsqueeze(a, i) y = Relu(b) }"
    ),
    "where, always": "(float[2,3] x, float v) => (float[2,3] y) <bool t = {1}> { a = Where(t, x, v) y = Relu(a) }",
    "integer clip without bounds": ("(int32[2] x) => (int32[2] y) { a = Clip(x) y = Neg(a) }", ["Neg"]),
}


@pytest.mark.parametrize("name", GONE)
def test_gone(name: str) -> None:
    case = GONE[name]
    text, expected = (case, ["Relu"]) if isinstance(case, str) else case
    before = model_of(f"agraph {text}")
    after, outcome = simplify(before)
    assert ops(after) == expected
    assert outcome.changed
    assert outcome.rewrites
    assert_same(before, after)


MERGED = {
    "transposes": (
        "(float[2,3,4] x) => (float[4,2,3] y)"
        "{ a = Transpose <perm = [1, 0, 2]> (x) b = Transpose <perm = [2, 0, 1]> (a) y = Transpose <perm = [0, 2, 1]> (b) }",
        ["Transpose"],
    ),
    "reshapes": (
        "(float[2,3,4] x) => (float[6,4] y) <int64[1] s = {-1}, int64[2] t = {6, 4}> { a = Reshape(x, s) y = Reshape(a, t) }",
        ["Reshape"],
    ),
    "flatten, reshape": (
        "(float[N,3,4] x) => (float[M,4] y) <int64[2] t = {-1, 4}> { a = Flatten(x) y = Reshape(a, t) }",
        ["Reshape"],
    ),
    "the first is read elsewhere": (
        "(float[2,3] x) => (float[6] y, float[6] z) <int64[1] s = {6}, int64[2] t = {3, 2}, int64[1] u = {-1}>"
        "{ a = Reshape(x, t) y = Reshape(a, s) b = Reshape(a, u) z = Relu(b) }",
        ["Reshape", "Reshape", "Relu"],
    ),
}


@pytest.mark.parametrize("name", MERGED)
def test_merged(name: str) -> None:
    text, expected = MERGED[name]
    before = model_of(f"agraph {text}")
    after, _ = simplify(before)
    assert ops(after) == expected
    assert_same(before, after)


KEPT = {
    "input as output": "(float[2,3] x) => (float[2,3] y) { y = Identity(x) }",
    "two names for one tensor": "(float[2,3] x) => (float[2,3] y, float[2,3] z) { y = Relu(x) z = Identity(y) }",
    "dropout, mask read": "(float[2,3] x) => (float[2,3] y, bool[2,3] m) { a, m = Dropout(x) y = Relu(a) }",
    "float clip without bounds": "(float[2,3] x) => (float[2,3] y) { a = Clip(x) y = Relu(a) }",
    "transpose of a square": "(float[3,3] x) => (float[3,3] y) { a = Transpose <perm = [1, 0]> (x) y = Relu(a) }",
    "reshape of unknown rank": "(float[N,M] x) => (float[K,3] y) <int64[2] s = {-1, 3}> { a = Reshape(x, s) y = Relu(a) }",
    "reshapes, a dimension copied from between": (
        "(float[2,6] x) => (float[3,4] y) <int64[2] s = {3, 4}, int64[2] t = {0, 2}>"
        "{ a = Reshape(x, s) b = Relu(a) c = Reshape(b, s) y = Neg(c) }",
        ["Reshape", "Relu", "Neg"],
    ),
    "slice of some": (
        "(float[N,3] x) => (float[M,3] y) <int64[1] b = {0}, int64[1] e = {3}, int64[1] i = {0}>"
        "{ a = Slice(x, b, e, i) y = Relu(a) }"
    ),
    "add zero, broadcast": "(float[3] x) => (float[2,3] y) <float[2,1] z = {0, 0}> { a = Add(x, z) y = Relu(a) }",
    "multiply by one, other rank": "(float[3] x) => (float[1,3] y) <float[1,1] o = {1}> { a = Mul(x, o) y = Relu(a) }",
    "zero minus": "(float[3] x) => (float[3] y) <float z = {0}> { a = Sub(z, x) y = Relu(a) }",
    "one over": "(float[3] x) => (float[3] y) <float o = {1}> { a = Div(o, x) y = Relu(a) }",
    "gather backwards": "(float[3] x) => (float[3] y) <int64[3] i = {2, 1, 0}> { a = Gather(x, i) y = Relu(a) }",
    "overridable zero": "(float[3] x, float z) => (float[3] y) <float z = {0}> { a = Add(x, z) y = Relu(a) }",
    "an operator of another domain": "(float[3] x) => (float[3] y) { a = com.example.Identity(x) y = Relu(a) }",
}


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    case = KEPT[name]
    text, expected = (case, None) if isinstance(case, str) else case
    before = model_of(f"agraph {text}")
    after, _ = simplify(before)
    assert ops(after) == (expected or ops(before))
    if "other domain" not in name and "another domain" not in name:
        assert_same(before, after)


def test_what_keeps_an_output_name_is_told() -> None:
    _, outcome = simplify(model_of("agraph (float[2] x) => (float[2] y) { y = Identity(x) }"))
    assert codes(outcome) == ["keeps-output-name"]
    assert not outcome.changed


def _sign_model(op: str, constant: float) -> onnx.ModelProto:
    """1 / (x op c): infinity or minus infinity, by the sign of a zero."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "c"], ["a"]), helper.make_node("Reciprocal", ["a"], ["y"])],
        "signs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array(constant, np.float32), "c")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("op", "constant", "kept"), [("Add", 0.0, True), ("Add", -0.0, False), ("Sub", 0.0, False), ("Sub", -0.0, True)]
)
def test_signs_of_zero(op: str, constant: float, kept: bool) -> None:
    before = _sign_model(op, constant)
    after, _ = simplify(before, signed_zeros=True)
    assert (ops(after) == [op, "Reciprocal"]) is kept
    feed = {"x": np.array([0.0, -0.0], np.float32)}
    np.testing.assert_array_equal(infer(after, feed)[0], infer(before, feed)[0])
    assert ops(simplify(before)[0]) == ["Reciprocal"]


SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -3.4e38], np.float32)


@pytest.mark.parametrize(("op", "constant"), [("Mul", 1), ("Div", 1), ("Pow", 1), ("Sub", 0), ("Add", -0.0)])
def test_special_values_pass_unchanged(op: str, constant: float) -> None:
    """What the table says about NaN, infinities and subnormals is what the runtime does, to the bit (but for NaN's payload)."""
    before = model_of(f"agraph (float[7] x) => (float[7] y) <float c = {{{constant}}}> {{ a = {op}(x, c) y = Identity(a) }}")
    after, _ = simplify(before)
    assert ops(after) in (["Identity"], [op])
    got = infer(before, {"x": SPECIAL})[0]
    np.testing.assert_array_equal(np.signbit(got)[~np.isnan(got)], np.signbit(SPECIAL)[~np.isnan(SPECIAL)])
    np.testing.assert_array_equal(got, SPECIAL)
