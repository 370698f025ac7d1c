"""One network in every opset from 7 to the newest, as each demands it: what are attributes in one are inputs in another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphopt.model import Model
from graphopt.passes.quant.opset import raise_opset
from tests.model.real.check import suite
from tests.model.real.oracle import Real, run_of, same_outputs, value, weight

NEWEST = onnx.defs.onnx_opset_version()
RUNTIME = 26
"""The newest opset that onnxruntime is known to run; beyond it nothing can be compared."""

FORMAT = 10


class Versioned:
    """Nodes of one opset. A method writes an operator in the form of its version."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, content: object) -> str:
        name = f"k{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(content), name))
        return name

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, **attrs: object) -> str:
        name = f"t{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attrs))
        return name

    def conv(self, x: str, *shape: int, **attrs: object) -> str:
        drawn = np.random.default_rng(len(self.nodes)).uniform(-1, 1, shape).astype(np.float32)
        return self.node("Conv", [x, self.constant(drawn)], **attrs)

    def norm(self, x: str, channels: int) -> str:
        positive = self.constant(np.linspace(0.5, 1.5, channels, dtype=np.float32))
        return self.node("BatchNormalization", [x, *[positive] * 4], **({"spatial": 1} if self.opset < 9 else {}))

    def dropout(self, x: str) -> str:
        if self.opset < 12:
            return self.node("Dropout", [x], outputs=2, ratio=0.25)
        return self.node("Dropout", [x, self.constant(np.float32(0.25))], outputs=2)

    def clip(self, x: str) -> str:
        if self.opset < 11:
            return self.node("Clip", [x], min=0.0, max=6.0)
        return self.node("Clip", [x, self.constant(np.float32(0)), self.constant(np.float32(6))])

    def pad(self, x: str) -> str:
        pads = [0, 0, 1, 1, 0, 0, 1, 1]
        if self.opset < 11:
            return self.node("Pad", [x], pads=pads, mode="constant", value=0.0)
        return self.node("Pad", [x, self.ints(*pads)], mode="constant")

    def enlarged(self, x: str) -> str:
        """Twice as high and wide, by the nearest."""
        scales = np.array([1, 1, 2, 2], np.float32)
        if self.opset < 9:
            return self.node("Upsample", [x], scales=scales.tolist(), mode="nearest")
        if self.opset < 10:
            return self.node("Upsample", [x, self.constant(scales)], mode="nearest")
        if self.opset < 11:
            return self.node("Resize", [x, self.constant(scales)], mode="nearest")
        inputs = [x, "" if self.opset >= 13 else self.constant(np.zeros(0, np.float32)), self.constant(scales)]
        return self.node("Resize", inputs, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def axes(self, op: str, x: str, *axes: int, since: int = 13, **attrs: object) -> str:
        if self.opset < since:
            return self.node(op, [x], axes=list(axes), **attrs)
        return self.node(op, [x, self.ints(*axes)], **attrs)

    def slice(self, x: str) -> str:
        if self.opset < 10:
            return self.node("Slice", [x], starts=[0], ends=[4], axes=[1])
        return self.node("Slice", [x, *(self.ints(v) for v in (0, 4, 1))])

    def split(self, x: str, *sizes: int) -> str:
        if self.opset < 13:
            return self.node("Split", [x], outputs=len(sizes), axis=1, split=list(sizes))
        return self.node("Split", [x, self.ints(*sizes)], outputs=len(sizes), axis=1)

    def top(self, x: str) -> str:
        if self.opset < 10:
            return self.node("TopK", [x], outputs=2, k=3, axis=1)
        return self.node("TopK", [x, self.ints(3)], outputs=2, axis=1)

    def model(self, inputs: Sequence[onnx.ValueInfoProto], *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "net", inputs, [value(o) for o in outputs], self.weights)
        ir = 3 if self.opset < 9 else 8 if self.opset < 20 else FORMAT
        if ir == 3:
            graph.input.extend(value(t.name, t.data_type, t.dims) for t in self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir)


def network(opset: int) -> onnx.ModelProto:
    """Two convolutions and a normalisation that fold, and everything whose form has changed."""
    net = Versioned(opset)
    a = net.clip(net.norm(net.conv(net.pad("x"), 8, 3, 3, 3), 8))
    b = net.enlarged(net.dropout(a))
    first = net.split(net.conv(b, 8, 8, 1, 1), 4, 4)
    c = net.slice(net.node("Concat", [first, f"{first}_1"], axis=1))
    d = net.axes("ReduceMean", c, 2, since=18, keepdims=1)
    e = net.axes("Squeeze", d, 2)
    f = net.axes("ReduceSum", e, 2, keepdims=0)
    g = net.axes("Squeeze", net.axes("Unsqueeze", f, 1, 3), 1, 3)
    last = net.node("Softmax", [g], axis=1)
    return net.model([value("x", shape=[1, 3, 6, 6])], c, last, net.top(last))


def softmax(opset: int, axis: int, rank: int, op: str = "Softmax", *, stale: bool = False) -> Callable[[], onnx.ModelProto]:
    """Over an axis that is not the last: a flattened matrix before opset 13, one axis since. Behind a convolution for quant."""

    def build() -> onnx.ModelProto:
        net = Versioned(opset)
        a = net.conv("x", 8, 3, 1, 1)
        b = net.node("Relu", [a if rank == 4 else net.node("Reshape", [a, net.ints(1, 8, 36)])])
        made = net.model([value("x", shape=[1, 3, 6, 6])], net.node(op, [b], axis=axis))
        if stale:
            made.graph.value_info.append(value(b, shape=[1, 8 * 36]))
        return made

    return build


def resized(scale: float, mode: str = "nearest") -> Callable[[], onnx.ModelProto]:
    """Resize of opset 10, which said nothing of rounding. onnxruntime rounds down to enlarge and up to shrink."""

    def build() -> onnx.ModelProto:
        net = Versioned(10)
        scales = net.constant(np.array([1, 1, scale, scale], np.float32))
        a = net.node("Resize", [net.conv("x", 8, 3, 1, 1), scales], mode=mode)
        return net.model([value("x", shape=[1, 3, 7, 7])], net.node("Relu", [a]))

    return build


def wide(opset: int) -> Callable[[], onnx.ModelProto]:
    """The fill of a Pad in double, beside float convolutions."""

    def build() -> onnx.ModelProto:
        net = Versioned(opset)
        a = net.conv("x", 16, 3, 3, 3)
        b = net.node("Cast", [net.conv(a, 8, 16, 1, 1)], to=11)
        c = net.node("Pad", [b], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5)
        return net.model([value("x", shape=[1, 3, 12, 12])], net.node("Cast", [c], to=1))

    return build


def old_norm(opset: int) -> onnx.ModelProto:
    """A normalisation with all five outputs declared, as training left it; they are empty but for the first."""
    net = Versioned(opset)
    net.norm(net.conv("x", 16, 3, 3, 3), 16)
    net.nodes[-1].output.extend(["", "", "", ""] if opset < 14 else ["", ""])
    return net.model([value("x", shape=[1, 3, 12, 12])], net.conv(net.nodes[-1].output[0], 8, 16, 3, 3))


def dropped_axes() -> onnx.ModelProto:
    """Reductions of opset 18 and later whose empty axes mean nothing at all, or everything."""
    net = Versioned(18)
    empty = net.constant(np.zeros(0, np.int64))
    outputs = [net.node("ReduceMax", ["x", empty], noop_with_empty_axes=flag, keepdims=0) for flag in (0, 1)]
    outputs.append(net.node("ReduceSum", ["x"], noop_with_empty_axes=1, keepdims=0))
    return net.model([value("x", shape=[2, 3])], *outputs)


def broadcast_before_seven() -> onnx.ModelProto:
    """Opset 6: operands broadcast only where an attribute says so, along an axis that it names."""
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], broadcast=1, axis=1),
        helper.make_node("Mul", ["a", "o"], ["y"], broadcast=1),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", shape=[2, 3, 4])], [value("y", shape=[2, 3, 4])])
    weight(graph, "b", 3)
    graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "o"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=8)


EVERY = {
    f"opset {opset}": Real(
        lambda opset=opset: network(opset), runs=opset <= RUNTIME, reference=opset > RUNTIME, gone="BatchNormalization Dropout Pad"
    )
    for opset in range(7, NEWEST + 1)
}

CASES = {
    **EVERY,
    **{
        f"{op} of opset {opset} over axis {axis} of {rank}": Real(softmax(opset, axis, rank, op))
        for op, opset, axis, rank in (
            ("Softmax", 11, 1, 4), ("Softmax", 11, 2, 3), ("Softmax", 12, -1, 4), ("Softmax", 11, -2, 4), ("LogSoftmax", 9, 2, 4),
            ("Hardmax", 11, 1, 3), ("Softmax", 13, 1, 4), ("Softmax", 11, 0, 4),
        )
    },
    "Softmax of opset 11 with a wrong value_info": Real(softmax(11, 1, 4, stale=True)),
    "Resize of opset 10, larger": Real(resized(1.7)),
    "Resize of opset 10, smaller": Real(resized(0.7)),
    "Resize of opset 10, linear": Real(resized(1.7, "linear")),
    "a fill in double in opset 8": Real(wide(8)),
    "a fill in double in opset 10": Real(wide(10)),
    "BatchNormalization, four outputs left out": Real(lambda: old_norm(9), runs=False, gone="BatchNormalization"),
    "BatchNormalization, two outputs left out": Real(lambda: old_norm(15), runs=False),
    "reductions over no axes": Real(dropped_axes),
    "broadcasting before opset 7": Real(broadcast_before_seven, runs=False, kept="Add Mul"),
}  # fmt: skip

test_opsets = suite(CASES)


OLD = {name: case for name, case in CASES.items() if case.runs and case.build().opset_import[0].version < 13}


@pytest.mark.parametrize("name", OLD)
def test_a_raised_model_computes_the_same(name: str) -> None:
    """What quant does before anything else, to a network of any size."""
    case = OLD[name]
    proto = case.build()
    model = Model.load(proto)
    assert raise_opset(model, 13) is None
    made = model.proto()
    assert made.opset_import[0].version == 13
    same_outputs(proto, made, case.inputs(proto), run_of)


@pytest.mark.parametrize("scales", [(1.5, 0.5), None], ids=["mixed", "not constant"])
def test_a_resize_without_a_rounding_to_stand_for_it_is_not_raised(scales: tuple[float, float] | None) -> None:
    net = Versioned(10)
    inputs = [value("x", shape=[1, 3, 7, 7])]
    if scales is None:
        inputs.append(value("s", shape=[4]))
    given = "s" if scales is None else net.constant(np.array([1, 1, *scales], np.float32))
    model = Model.load(net.model(inputs, net.node("Resize", ["x", given], mode="nearest")))
    assert "nearest" in (raise_opset(model, 13) or "")
