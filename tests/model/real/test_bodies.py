"""Bodies of If, Loop and Scan: what they capture, what they define, and what a pass would like to take from under them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from tests.model.real.check import suite
from tests.model.real.oracle import Real, text, value, weight


def constant(graph: onnx.GraphProto, name: str, content: object, dtype: object = np.float32) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(content, dtype), name))  # type: ignore[call-overload]


def built(body: str, *weights: tuple[str, tuple[int, ...]], opset: int = 17, **constants: object) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        model = text(body, opset)
        for name, shape in weights:
            weight(model.graph, name, *shape)
        for name, content in constants.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(content), name))
        return model

    return build


CAPTURES = """
    captures (float[1, 4, 6, 6] x, bool c) => (float[1, 4, 6, 6] y) {
        a = Conv (x, w)
        b = BatchNormalization (a, s, s, s, s)
        d = Relu (b)
        y = If (c) <
            then_branch = t () => (float[1, 4, 6, 6] r) { p = Mul (a, k) r = Add (p, x) },
            else_branch = e () => (float[1, 4, 6, 6] r) { p = Sub (d, x) r = Mul (p, k) }
        >
    }
"""
"""An input, two inner tensors and a scalar are captured; both branches use the same names; fold would remove ``a``."""

SLICED = """
    sliced (float[1, 4, 6, 6] x, bool c) => (float[1, 4, 6, 6] y) {
        a = Conv (x, w1)
        r = Relu (a)
        m = Conv (r, w2)
        y = If (c) <
            then_branch = t () => (float[1, 4, 6, 6] q) { i = Conv (x, w1) j = Relu (i) q = Conv (j, w2) },
            else_branch = e () => (float[1, 4, 6, 6] q) { q = Identity (m) }
        >
    }
"""
"""Both weights of a prunable pair are captured by a branch that needs all of them."""

CHANNELS = """
    channels (float[1, 4, 6, 6] x, bool c) => (float[1, 4, 6, 6] y) {
        a = Conv (x, w1)
        r = Relu (a)
        m = Conv (r, w2)
        n = If (c) <
            then_branch = t () => (float[1, 16, 6, 6] q) { q = Neg (r) },
            else_branch = e () => (float[1, 16, 6, 6] q) { q = Identity (r) }
        >
        o = Conv (n, w2)
        y = Add (m, o)
    }
"""
"""The channels themselves are captured."""

NESTED = """
    nested (float[2, 3] x, bool c, bool d) => (float[2, 3] y) {
        a = Add (x, one)
        y = If (c) <
            then_branch = t () => (float[2, 3] r) {
                inner = Mul (a, two)
                r = If (d) <
                    then_branch = tt () => (float[2, 3] q) { q = Add (inner, one) },
                    else_branch = te () => (float[2, 3] q) <float[3] own = {1, 2, 3}> { u = Sub (inner, own) q = Mul (u, x) }
                >
            },
            else_branch = e () => (float[2, 3] r) <float[3] own = {4, 5, 6}> { r = Add (a, own) }
        >
    }
"""
"""A body inside a body reads the body around it, the graph around that, and constants of all three."""

LOOP = """
    loop (float[2, 3] x, int64 n) => (float[2, 3] y, float[K, 2, 3] all) {
        k = Add (w, w)
        y, all = Loop (n, go, x) <
            body = step (int64 i, bool on, float[2, 3] s) => (bool still, float[2, 3] t, float[2, 3] seen) {
                still = Identity (on)
                u = Add (s, k)
                f = Cast <to = 1> (i)
                t = Mul (u, f)
                seen = Identity (t)
            }
        >
    }
"""

SCAN = """
    scan (float[2] start, float[5, 2] xs) => (float[2] last, float[5, 2] sums) {
        k = Mul (w, w)
        last, sums = Scan <num_scan_inputs = 1, body = step (float[2] s, float[2] e) => (float[2] t, float[2] o) {
            a = Add (s, e)
            t = Mul (a, k)
            o = Identity (t)
        }> (start, xs)
    }
"""

ONLY_INSIDE = """
    inside (float[2, 3] x, bool c) => (float[2, 3] y) {
        y = If (c) <
            then_branch = t () => (float[2, 3] r) { v = Constant <value_float = 2.0> () p = Mul (x, v) r = Add (p, w) },
            else_branch = e () => (float[2, 3] r) { v = Constant <value_float = 3.0> () r = Mul (x, v) }
        >
    }
"""

EQUAL = """
    equal (float[2, 3] x, bool c) => (float[2, 3] y, float[2, 3] z) {
        z = Gather (x, first)
        y = If (c) <
            then_branch = t () => (float[2, 3] r) { r = Gather (x, second) },
            else_branch = e () => (float[2, 3] r) { r = Identity (x) }
        >
    }
"""
"""Two equal index vectors are merged; the second has its only reader in a branch."""

NO_CAPTURE = """
    free (bool c) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] r) { r = Constant <value_floats = [1.0, 2.0]> () },
            else_branch = e () => (float[2] r) <float[2] own = {3, 4}> { r = Identity (own) }
        >
    }
"""

REMOVED = """
    removed (float[2, 3] x, bool c) => (float[2, 3] y, float[2, 3] z) {
        i = Identity (x)
        j = Identity (i)
        q = Relu (x)
        z = Identity (q)
        y = If (c) <
            then_branch = t () => (float[2, 3] r) { r = Add (j, q) },
            else_branch = e () => (float[2, 3] r) { k = Identity (z) r = Mul (k, i) }
        >
    }
"""
"""Identities whose results are captured, one of them under the name of an output."""

TAKEN = """
    taken (float[2, 3] x, bool c) => (float[2, 3] y, float[2, 3] z, float[2, 3] w) {
        y, z, w = If (yes) <
            then_branch = t () => (float[2, 3] r, float[2, 3] r, float[2, 3] s) { r = Relu (x) s = Neg (r) },
            else_branch = e () => (float[2, 3] r, float[2, 3] q, float[2, 3] s) { r = Neg (x) q = Neg (r) s = Abs (q) }
        >
    }
"""
"""The condition is constant, and the branch gives one result twice."""

TAKEN_NESTED = """
    taken (float[2, 3] x, bool c) => (float[2, 3] y, float[2, 3] z) {
        y = If (yes) <
            then_branch = t () => (float[2, 3] y0) <float[3] own = {1, 2, 3}> {
                a = Add (x, own)
                y0 = If (c) <
                    then_branch = tt () => (float[2, 3] q) <float[3] deep = {4, 5, 6}> { b = Add (a, own) q = Mul (b, deep) },
                    else_branch = te () => (float[2, 3] q) { q = Identity (a) }
                >
            },
            else_branch = e () => (float[2, 3] r) { r = Identity (x) }
        >
        z = If (c) <
            then_branch = u () => (float[2, 3] a) <float[3] own = {7, 8, 9}> { a = Mul (x, own) },
            else_branch = v () => (float[2, 3] a) { a = Identity (x) }
        >
    }
"""
"""What moves out of a branch has names that another branch uses too."""

RANDOM_INSIDE = """
    random (float[2, 3] x, bool c) => (float[2, 3] y) {
        y = If (yes) <
            then_branch = t () => (float[2, 3] r) { a, m = Dropout (x) b = Not (m) f = Cast <to = 1> (b) r = Add (a, f) },
            else_branch = e () => (float[2, 3] r) { r = Identity (x) }
        >
    }
"""

HANDED_ON = """
    handed (float[2, 3] x, bool c) => (float[2, 3] y) {
        a = Relu (x)
        b = Neg (a)
        y = If (c) <
            then_branch = t () => (float[2, 3] b) { },
            else_branch = e () => (float[2, 3] r) { r = Identity (x) }
        >
    }
"""
"""A body whose result is a tensor of the graph around it: onnx forbids it, and exporters have written it."""

SHADOWED = """
    shadowed (float[2, 3] x, bool c) => (float[2, 3] z, float[2, 3] y, float[2, 3] w) {
        q = Relu (x)
        p = Neg (x)
        y = If (c) <
            then_branch = t () => (float[2, 3] r) { z = Neg (q) r = Mul (z, q) },
            else_branch = e () => (float[2, 3] w) { w = Abs (p) }
        >
        z = Identity (q)
        w = Identity (p)
    }
"""
"""Outputs of the main graph, made after the If, have names that its branches use for themselves."""

SIZES = """
    sizes (float[1, 4, 6, 6] x, bool c) => (float[1, 4, 6, 6] y) {
        a = Conv (x, w1)
        s = Shape (a)
        r = Relu (a)
        m = Conv (r, w2)
        y = If (c) <
            then_branch = t () => (float[1, 4, 6, 6] q) { i = ReduceProd (s) f = Cast <to = 1> (i) q = Add (m, f) },
            else_branch = e () => (float[1, 4, 6, 6] q) { q = Identity (m) }
        >
    }
"""
"""A branch computes with the number of channels."""

SIZE_OUT = """
    sizes (float[1, 4, N, N] x) => (float[1, 4, N, N] y, int64[4] s) {
        a = Conv (x, w1)
        s = Shape (a)
        r = Relu (a)
        y = Conv (r, w2)
    }
"""

PAIR = (("w1", (16, 4, 1, 1)), ("w2", (4, 16, 1, 1)))
NORMS = np.linspace(0.5, 1, 4, dtype=np.float32)
ONE, TWO = np.array([1], np.float32), np.array([2], np.float32)


def loop_feed(count: int) -> Callable[[], dict[str, object]]:
    return lambda: {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "n": np.asarray(count, np.int64)}


def unsorted_capture() -> onnx.ModelProto:
    """The node that a body captures from stands after the If in the file."""
    model = built(CAPTURES, ("w", (4, 4, 1, 1)), s=NORMS, k=TWO)()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[3], *nodes[:3]])
    return model


def described() -> onnx.ModelProto:
    """Bodies with value_info, documentation and metadata of their own."""
    model = built(NESTED, one=ONE, two=TWO)()
    for body in (a.g for a in model.graph.node[-1].attribute):
        body.doc_string = "a body"
        body.metadata_props.add(key="k", value="v")
        body.value_info.append(value("inner" if body.name == "t" else "nothing", shape=[2, 3]))
    return model


def named_alike() -> onnx.ModelProto:
    """Nodes of a branch that is taken, of another branch and of the main graph under one name."""
    model = built(TAKEN_NESTED, yes=np.array(True))()
    for node in [*model.graph.node, *(n for a in model.graph.node[0].attribute for n in a.g.node)]:
        node.name = f"the {node.op_type}"
    model.graph.node[1].name = "the Add"
    return model


CASES = {
    "captures of inputs, inner tensors and constants": Real(built(CAPTURES, ("w", (4, 4, 1, 1)), s=NORMS, k=TWO)),
    "a captured tensor made later in the file": Real(unsorted_capture, runs=True),
    "captured weights": Real(built(SLICED, *PAIR), kept="If"),
    "captured channels": Real(built(CHANNELS, *PAIR), kept="If"),
    "bodies in bodies": Real(built(NESTED, one=ONE, two=TWO)),
    "bodies with documentation": Real(described),
    "a loop": Real(built(LOOP, w=ONE, go=np.array(True)), feed=loop_feed(3), kept="Loop"),
    "a loop that never runs": Real(built(LOOP, w=ONE, go=np.array(True)), feed=loop_feed(0), kept="Loop"),
    "a scan": Real(built(SCAN, w=np.array([0.5, 2], np.float32)), kept="Scan"),
    "a constant that only a body reads": Real(built(ONLY_INSIDE, w=ONE)),
    "equal constants, one read in a body": Real(built(EQUAL, first=np.array([1, 0]), second=np.array([1, 0]))),
    "no captures at all": Real(built(NO_CAPTURE)),
    "identities that are captured": Real(built(REMOVED)),
    "a branch that is always taken, a result given twice": Real(
        built(TAKEN, yes=np.array(True)), gone="If", runs=False, reference=True
    ),
    "names of a branch that is taken": Real(built(TAKEN_NESTED, yes=np.array(True)), kept="If"),
    "names of a branch that outputs have too": Real(built(SHADOWED), runs=False, reference=True),
    "a branch that computes with a size": Real(built(SIZES, *PAIR)),
    "a size as output": Real(built(SIZE_OUT, *PAIR)),
    "nodes of a branch that is taken, named like others": Real(named_alike, kept="If"),
    "a mask used in a branch that is taken": Real(built(RANDOM_INSIDE, yes=np.array(True)), gone="If", kept="Dropout"),
    "a tensor handed on": Real(built(HANDED_ON), runs=False, kept="Neg"),
}

test_bodies = suite(CASES)
