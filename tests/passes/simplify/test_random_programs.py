"""Random shape programs: whatever is computed from Shape(x) and constants, simplify computes the same, with fewer nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.passes.simplify.support import infer, simplify

DIMS: tuple[int | str, ...] = (2, "N", 3, "M")
SIZES = ({"N": 5, "M": 1}, {"N": 2, "M": 7})


@dataclass
class Program:
    """Nodes so far, and the vectors (name -> length) and scalars that later nodes may use. All int64."""

    draw: Callable[[st.SearchStrategy[int]], int]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    vectors: dict[str, int] = field(default_factory=dict)
    scalars: list[str] = field(default_factory=list)

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def vector(self) -> str:
        return sorted(self.vectors)[self.number(0, len(self.vectors) - 1)]

    def scalar(self) -> str:
        return self.scalars[self.number(0, len(self.scalars) - 1)]

    def constant(self, *values: int, scalar: bool = False) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values[0] if scalar else values, np.int64), name))
        return name

    def add(self, op: str, *inputs: str, length: int | None, **attributes: int) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        if length is None:
            self.scalars.append(name)
        else:
            self.vectors[name] = length

    def step(self) -> None:
        STEPS[self.number(0, len(STEPS) - 1)](self)


def _gather(p: Program) -> None:
    source = p.vector()
    size = p.vectors[source]
    if size:
        p.add("Gather", source, p.constant(p.number(-size, size - 1), scalar=True), length=None, axis=0)


def _gather_many(p: Program) -> None:
    source = p.vector()
    size = p.vectors[source]
    if size:
        picked = [p.number(-size, size - 1) for _ in range(p.number(0, 3))]
        p.add("Gather", source, p.constant(*picked), length=len(picked), axis=0)


def _slice(p: Program) -> None:
    source = p.vector()
    start, end = p.number(-6, 6), p.number(-6, 6)
    step = (1, 2, -1, -2)[p.number(0, 3)]
    axis = p.number(-1, 0)
    bounds = [p.constant(v) for v in (start, end, axis, step)]
    length = len(_taken(start, end, step, p.vectors[source]))
    p.add("Slice", source, *bounds, length=length)


def _taken(start: int, end: int, step: int, size: int) -> list[int]:
    """By the words of the operator's specification, one position after the other."""
    position = max(0, start + size) if start < 0 else min(start, size if step > 0 else size - 1)
    end = end + size if end < 0 else end
    taken: list[int] = []
    while 0 <= position < size and (position < end if step > 0 else position > end):
        taken.append(position)
        position += step
    return taken


def _concat(p: Program) -> None:
    parts = [p.vector() for _ in range(p.number(1, 3))]
    p.add("Concat", *parts, length=sum(p.vectors[v] for v in parts), axis=0)


def _unsqueeze(p: Program) -> None:
    if p.scalars:
        p.add("Unsqueeze", p.scalar(), p.constant(0), length=1)


def _squeeze(p: Program) -> None:
    source = p.vector()
    if p.vectors[source] == 1:
        p.add("Squeeze", source, p.constant(0), length=None)


def _arithmetic(p: Program) -> None:
    op = ("Add", "Sub", "Mul", "Div")[p.number(0, 3)]
    source = p.vector()
    other = p.constant(p.number(1, 4), scalar=True)
    if p.scalars and op != "Div" and p.number(0, 1):
        other = p.scalar()
    p.add(op, source, other, length=p.vectors[source])


def _cast(p: Program) -> None:
    source = p.vector()
    p.add("Cast", source, length=p.vectors[source], to=TensorProto.INT64)


def _literal(p: Program) -> None:
    values = [p.number(-3, 9) for _ in range(p.number(0, 3))]
    p.vectors[p.constant(*values)] = len(values)


STEPS: tuple[Callable[[Program], None], ...] = (
    _gather, _gather_many, _slice, _concat, _unsqueeze, _squeeze, _arithmetic, _cast, _literal,
)  # fmt: skip


@st.composite
def programs(draw: st.DrawFn) -> onnx.ModelProto:
    program = Program(draw)
    program.add("Shape", "x", length=len(DIMS))
    for _ in range(draw(st.integers(1, 12))):
        program.step()
    made = [name for name in [*program.vectors, *program.scalars] if name.startswith("t")]
    results = [made[draw(st.integers(0, len(made) - 1))], made[-1]]
    outputs = []
    for index, name in enumerate(dict.fromkeys(results)):
        program.nodes.append(helper.make_node("Neg", [name], [f"y{index}"]))
        shape = [] if name in program.scalars else [program.vectors[name]]
        outputs.append(helper.make_tensor_value_info(f"y{index}", TensorProto.INT64, shape))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(DIMS))
    graph = helper.make_graph(program.nodes, "program", [x], outputs, program.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def check(before: onnx.ModelProto) -> None:
    after, _ = simplify(before)
    onnx.checker.check_model(after)
    assert len(after.graph.node) <= len(before.graph.node)
    for sizes in SIZES:
        feed = {"x": np.zeros([d if isinstance(d, int) else sizes[d] for d in DIMS], np.float32)}
        for want, have in zip(infer(before, feed), infer(after, feed), strict=True):
            np.testing.assert_array_equal(have, want)
            assert have.dtype == want.dtype


@settings(max_examples=60, deadline=None, derandomize=True)
@given(programs())
def test_shape_programs(before: onnx.ModelProto) -> None:
    check(before)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, derandomize=True)
@given(programs())
def test_many_shape_programs(before: onnx.ModelProto) -> None:
    check(before)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_reshapes_to_computed_shapes(data: st.DataObject) -> None:
    """Reshape to a permutation of the input's own dimensions, some of them multiplied together, some written as numbers."""
    order = data.draw(st.permutations(range(4)))
    parts = data.draw(st.lists(st.integers(0, 3), max_size=2, unique=True).map(sorted))
    nodes = [helper.make_node("Shape", ["x"], ["s"])]
    held = [numpy_helper.from_array(np.array([i], np.int64), f"i{i}") for i in range(4)]
    pieces: list[str] = []
    for place, axis in enumerate(order):
        nodes.append(helper.make_node("Gather", ["s", f"i{axis}"], [f"d{place}"], axis=0))
        if place in parts and pieces:
            nodes.append(helper.make_node("Mul", [pieces[-1], f"d{place}"], [f"m{place}"]))
            pieces[-1] = f"m{place}"
        else:
            pieces.append(f"d{place}")
    nodes += [
        helper.make_node("Concat", pieces, ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(DIMS))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"o{i}" for i in range(len(pieces))])
    graph = helper.make_graph(nodes, "reshape", [x], [y], held)
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after, _ = simplify(before)
    for sizes in (*SIZES, {"N": 0, "M": 3}):
        shape = [d if isinstance(d, int) else sizes[d] for d in DIMS]
        feed = {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}
        try:
            want = infer(before, feed)[0]
        except Exception:  # noqa: BLE001  a computed 0 means "copy" to Reshape, and then the sizes may not fit: no model to hold to
            assert 0 in shape
            continue
        np.testing.assert_array_equal(infer(after, feed)[0], want)
