"""A graph that is inferred in pieces is inferred as in one. Oracle: onnx's inference of the whole."""

from __future__ import annotations

import onnx
import pytest
from onnx import parser
from onnx.shape_inference import InferenceError, infer_shapes

from graphopt.ops import pieces
from graphopt.ops.pieces import infer_in_pieces, is_long

HEAD = '<ir_version: {ir}, opset_import: ["": 17]>\n'
MODELS = {
    "captures, in bodies and in bodies of bodies": (
        HEAD
        + """g (float[2,3] x, bool ok) => (float[N,M] y, s) <float[3,5] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}> {
            a = MatMul(x, w)
            b = If (ok) <then_branch = t () => (c) { c = Relu(a) }, else_branch = e () => (d) { d = Add(a, a) }>
            f = Transpose(b)
            h = If (ok) <
                then_branch = t () => (i) {
                    i = If (ok) <then_branch = t2 () => (j) { j = MatMul(a, f) }, else_branch = e2 () => (k) { k = MatMul(a, f) }>
                },
                else_branch = e () => (l) { l = MatMul(a, f) }
            >
            s = Shape(h)
            y = If (ok) <then_branch = t () => (m) { m = Neg(h) }, else_branch = e () => (n) { n = Abs(h) }>
        }"""
    ),
    "names of bodies that are names outside": (
        HEAD
        + """g (float[4] x, bool ok) => (y) {
            c = Cast<to = 7>(x)
            a = If (ok) <then_branch = t () => (r) { r = Relu(x) }, else_branch = e () => (r) { r = Neg(x) }>
            r = Concat<axis = 0>(a, a)
            b = If (ok) <then_branch = t () => (q) { q = Relu(r) }, else_branch = e () => (q) { q = Neg(r) }>
            z = Loop (, ok, b) <body = l (int64 i, bool go, float[8] v) => (go2, v2) { go2 = Identity(go) v2 = Add(v, r) }>
            y = Cast<to = 1>(c)
        }"""
    ),
    "constants and dimensions without a name": (
        HEAD
        + """g (float[N,3] x, bool ok) => (y, z, v) {
            axes = Constant <value_ints = [1]> ()
            a = If (ok) <then_branch = t () => (r) { r = Relu(x) }, else_branch = e () => (r) { r = Neg(x) }>
            y = NonZero(a)
            b = If (ok) <then_branch = t () => (r) { r = Relu(a) }, else_branch = e () => (r) { r = Neg(a) }>
            z = NonZero(b)
            c = If (ok) <then_branch = t () => (r) { r = Relu(b) }, else_branch = e () => (r) { r = Neg(b) }>
            v = Unsqueeze(c, axes)
        }"""
    ),
    "a type that is declared, one that is not known": (
        HEAD
        + """g (x, bool ok) => (float[7] y) <float[7] u> {
            u = Unknown(x)
            v = If (ok) <then_branch = t () => (p) { p = Relu(u) }, else_branch = e () => (p) { p = Neg(u) }>
            w = Relu(x)
            y = If (ok) <then_branch = t () => (p) { p = Relu(v) }, else_branch = e () => (p) { p = Neg(v) }>
        }"""
    ),
}


def model(name: str, ir: int = 8) -> onnx.ModelProto:
    return parser.parse_model(MODELS[name].replace("{ir}", str(ir)))


def types(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """By name; dimensions that inference made up are numbered anew."""
    numbers: dict[str, str] = {}
    values = (*proto.graph.input, *proto.graph.value_info, *proto.graph.output)
    found = {v.name: v.type for v in values if v.type.WhichOneof("value")}
    for name in sorted(found):
        for dim in found[name].tensor_type.shape.dim:
            if dim.dim_param.startswith("unk__"):
                dim.dim_param = numbers.setdefault(dim.dim_param, f"made{len(numbers)}")
    return found


@pytest.mark.parametrize("bodies", [1, 2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_as_in_one(name: str, bodies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BODIES", bodies)
    proto = model(name)
    before = proto.SerializeToString(deterministic=True)
    whole, found = infer_shapes(proto), infer_in_pieces(proto, infer_shapes)
    assert proto.SerializeToString(deterministic=True) == before
    assert types(found) == types(whole)
    assert [n.SerializeToString(deterministic=True) for n in found.graph.node] == [
        n.SerializeToString(deterministic=True) for n in whole.graph.node
    ]
    assert list(found.graph.initializer) == list(whole.graph.initializer)
    assert [v.name for v in found.graph.output] == [v.name for v in whole.graph.output]


def test_what_contradicts_itself_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BODIES", 1)
    proto = model("names of bodies that are names outside")
    proto.graph.node[-1].op_type = "MatMul"
    proto.graph.node[-1].input.append("r")
    del proto.graph.node[-1].attribute[:]
    with pytest.raises(InferenceError):
        infer_in_pieces(proto, lambda p: infer_shapes(p, strict_mode=True, check_type=True))


def test_only_the_very_long() -> None:
    assert not any(is_long(model(name)) for name in MODELS)
