"""The interface: one change for each code, and the changes that are none."""

from __future__ import annotations

import pytest
from onnx import parser

from graphopt.model import Model
from graphopt.verify import check_interface


def load(inputs: str, outputs: str = "float[N,4] y", version: int = 8) -> Model:
    names = [text.split()[-1] for text in inputs.split(", ")]
    nodes = " ".join(f"{text.split()[-1]} = Identity({names[0]})" for text in outputs.split(", "))
    return Model.load(
        parser.parse_model(f'<ir_version: {version}, opset_import: ["": 17]>\ng ({inputs}) => ({outputs}) {{ {nodes} }}')
    )


X = "float[N,4] x"
CASES: list[tuple[str, tuple[str, str], tuple[str, str], list[str]]] = [
    ("the same", (X, "float[N,4] y"), (X, "float[N,4] y"), []),
    ("renamed input", (X, "float[N,4] y"), ("float[N,4] z", "float[N,4] y"), ["GO026"]),
    ("renamed output", (X, "float[N,4] y"), (X, "float[N,4] z"), ["GO026"]),
    ("new output", (X, "float[N,4] y"), (X, "float[N,4] y, float[N,4] z"), ["GO026"]),
    ("lost input", ("float[N,4] x, float[2] w", "float[N,4] y"), (X, "float[N,4] y"), ["GO026"]),
    ("another order", (X, "float[N,4] y, float[N,4] z"), (X, "float[N,4] z, float[N,4] y"), ["GO026"]),
    ("type", (X, "float[N,4] y"), (X, "float16[N,4] y"), ["GO027"]),
    ("dimension", (X, "float[N,4] y"), (X, "float[N,8] y"), ["GO028"]),
    ("rank", (X, "float[N,4] y"), (X, "float[N,4,1] y"), ["GO028"]),
    ("a name becomes a number", (X, "float[N,4] y"), ("float[1,4] x", "float[N,4] y"), ["GO028"]),
    ("another name", (X, "float[N,4] y"), ("float[M,4] x", "float[N,4] y"), ["GO028"]),
    ("unknown becomes known", (X, "float[?,4] y"), (X, "float[N,4] y"), []),
    ("no shape becomes one", (X, "float[] y"), (X, "float[] y"), []),
    ("both", (X, "float[N,4] y"), ("float16[N,4] x", "float[N,8] y"), ["GO027", "GO028"]),
]


@pytest.mark.parametrize(("before", "after", "codes"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_interface(before: tuple[str, str], after: tuple[str, str], codes: list[str]) -> None:
    assert [d.code for d in check_interface(load(*before), load(*after))] == codes


def test_a_shape_that_was_not_declared_may_become_known() -> None:
    proto = load(X).proto()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    bare = Model.load(proto)
    assert check_interface(bare, load(X)) == []
    assert [d.code for d in check_interface(load(X), bare)] == ["GO028"]


def test_sequences() -> None:
    def sequence(kind: str) -> Model:
        text = f'<ir_version: 8, opset_import: ["": 17]>\ng ({kind}[2] x) => (seq({kind}[2]) y) {{ y = SequenceConstruct(x) }}'
        return Model.load(parser.parse_model(text))

    assert check_interface(sequence("float"), sequence("float")) == []
    assert [d.code for d in check_interface(sequence("float"), sequence("int64"))] == ["GO027", "GO027"]
    assert [d.code for d in check_interface(sequence("float"), load("float[2] x", "float[2] y"))] == ["GO027"]
