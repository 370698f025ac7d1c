"""For each rule a model that it finds something in, and a near twin that it does not: one function, called with True and False.

A function gives a ModelProto, or a ``Given`` where more is needed: bytes or further files, a reference, a target, a limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphopt.model.source import DEEPEST
from tests.model.test_limits import deep
from tests.nets import Net

FLOAT = TensorProto.FLOAT


@dataclass
class Given:
    """A model and what it is checked with. ``write`` puts files into a folder and returns the model's path."""

    model: onnx.ModelProto | bytes | None = None
    write: Callable[[Path], Path] | None = None
    against: onnx.ModelProto | None = None
    target: str = "ort-x86-vnni"
    target_text: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    memory: int | None = None
    seconds: float | None = None

    def path(self, folder: Path) -> Path:
        if self.write is not None:
            return self.write(folder)
        path = folder / "model.onnx"
        raw = self.model if isinstance(self.model, bytes) else self.model.SerializeToString()  # type: ignore[union-attr]
        path.write_bytes(raw)
        return path


Make = Callable[[bool], Any]
CASES: dict[str, list[Make]] = {}


def case(*codes: str) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        for code in codes:
            CASES.setdefault(code, []).append(make)
        return make

    return register


def given(code: str, index: int, bad: bool) -> Given:
    made = CASES[code][index](bad)
    return made if isinstance(made, Given) else Given(made)


def small(**options: Any) -> onnx.ModelProto:
    net = Net(**options)
    return net.model(net.op("Relu", net.conv(net.input(1, 3, 8, 8), 16, pad=1)))


def damaged(damage: Callable[[onnx.ModelProto], object]) -> Make:
    def make(bad: bool) -> onnx.ModelProto:
        proto = small()
        if bad:
            damage(proto)
        return proto

    return make


def raw(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], weights: Any = (), **options: Any) -> onnx.ModelProto:
    """A model as it is, unchecked."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    opset = options.pop("opset", 17)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), *options.pop("domains", ())], ir_version=9, **options
    )


def value(name: str, *shape: int | str, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


# -- the file ---------------------------------------------------------------------------------------------------------------------


@case("GO001")
def a_folder(bad: bool) -> Given:
    def write(folder: Path) -> Path:
        path = folder / "model.onnx"
        if bad:
            path.mkdir()
        else:
            onnx.save(small(), path)
        return path

    return Given(write=write)


@case("GO002")
def truncated(bad: bool) -> Given:
    whole = small().SerializeToString()
    return Given(b"version https://git-lfs.github.com/spec/v1\n" if bad else whole)


case("GO003")(damaged(lambda m: m.graph.node[0].input.__setitem__(0, m.graph.node[1].output[0])))
case("GO004")(damaged(lambda m: m.graph.initializer.append(m.graph.initializer[0])))
case("GO005")(damaged(lambda m: m.graph.node[0].input.__setitem__(1, "nowhere")))
case("GO006")(damaged(lambda m: m.ClearField("opset_import")))
case("GO007")(damaged(lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0])))
case("GO011")(damaged(lambda m: m.graph.initializer[0].dims.__setitem__(0, 17)))
case("GO012")(damaged(lambda m: setattr(m.graph.initializer[0], "data_type", 99)))
case("GO019")(damaged(lambda m: setattr(m, "ir_version", -3)))


@case("GO008")
def latin_1(bad: bool) -> Given:
    whole = small().SerializeToString().replace(b"relu1", b"rel\xfc1" if bad else b"relv1")
    return Given(whole)


@case("GO010")
def external_elsewhere(bad: bool) -> Given:
    def write(folder: Path) -> Path:
        path = folder / "model.onnx"
        onnx.save(small(), path, save_as_external_data=True, location="data", size_threshold=0, convert_attribute=False)
        if bad:
            (folder / "data").unlink()
        return path

    return Given(write=write)


@case("GO014")
def two_gibibytes(bad: bool) -> Given:
    def write(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(small().SerializeToString())
        if bad:
            os.truncate(path, 2**31 + 1)  # a hole, which takes no disk
        return path

    return Given(write=write)


@case("GO016")
def nested(bad: bool) -> onnx.ModelProto:
    return deep(DEEPEST + 1 if bad else 5)


@case("GO017")
def recursion(bad: bool) -> onnx.ModelProto:
    inner = "F" if bad else "Relu"
    domain = "org.example" if bad else ""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("org.example", 1)]
    call = helper.make_node(inner, ["a"], ["b"], domain=domain)
    function = helper.make_function("org.example", "F", ["a"], ["b"], [call], imports)
    proto = raw([helper.make_node("F", ["x"], ["y"], domain="org.example")], [value("x", 4)], [value("y", 4)], domains=imports[1:])
    proto.functions.append(function)
    return proto


@case("GO018")
def sparse(bad: bool) -> onnx.ModelProto:
    side = 100_000 if bad else 4
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    tensor = helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros((1, 2), np.int64), "i"), [side, side])
    proto = raw([helper.make_node("Identity", ["w"], ["y"])], [], [value("y", side, side)])
    proto.graph.sparse_initializer.append(tensor)
    return proto


# -- structure --------------------------------------------------------------------------------------------------------------------


@case("GO021")
def conv_without_weight(bad: bool) -> onnx.ModelProto:
    proto = small()
    if bad:
        del proto.graph.node[0].input[1:]
    return proto


@case("GO022")
def hidden(bad: bool) -> onnx.ModelProto:
    name = "w" if bad else "v"
    inner = numpy_helper.from_array(np.ones(1, np.float32), name)
    body = helper.make_graph([helper.make_node("Add", ["x", name], ["z"])], "b", [], [value("z", 1)], [inner])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["z2"])], "b", [], [value("z2", 1)])
    nodes = [
        helper.make_node("If", ["c"], ["i"], then_branch=body, else_branch=other),
        helper.make_node("Mul", ["i", "w"], ["y"]),
    ]
    outer = numpy_helper.from_array(np.full(1, 2, np.float32), "w")
    return raw(nodes, [value("x", 1), value("c", kind=TensorProto.BOOL)], [value("y", 1)], [outer])


@case("GO024")
def unsorted(bad: bool) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    return raw(nodes[::-1] if bad else nodes, [value("x", 1)], [value("y", 1)])


@case("GO025")
def wrong_output(bad: bool) -> onnx.ModelProto:
    proto = small()
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 17 if bad else 16
    return proto


# -- interface --------------------------------------------------------------------------------------------------------------------


def interface(change: Callable[[onnx.ModelProto], object]) -> Make:
    def make(bad: bool) -> Given:
        def build() -> onnx.ModelProto:
            return raw([helper.make_node("Relu", ["x"], ["y"])], [value("x", "N", 4)], [value("y", "N", 4)])

        proto = build()
        if bad:
            change(proto)
        return Given(proto, against=build())

    return make


def rename_output(m: onnx.ModelProto) -> None:
    m.graph.output[0].name = m.graph.node[0].output[0] = "z"


def to_half(m: onnx.ModelProto) -> None:
    for one in (*m.graph.input, *m.graph.output):
        one.type.tensor_type.elem_type = TensorProto.FLOAT16


def fix_batch(m: onnx.ModelProto) -> None:
    for one in (*m.graph.input, *m.graph.output):
        one.type.tensor_type.shape.dim[0].dim_value = 1


case("GO026", "GO514")(interface(rename_output))
case("GO027")(interface(to_half))
case("GO028")(interface(fix_batch))


# -- the runtime ------------------------------------------------------------------------------------------------------------------


@case("GO030")
def wrong_reshape(bad: bool) -> onnx.ModelProto:
    sizes = numpy_helper.from_array(np.array([5, 4] if bad else [3, 4], np.int64), "sizes")
    rows: int | str = "N" if bad else 2
    return raw([helper.make_node("Reshape", ["x", "sizes"], ["y"])], [value("x", rows, 6)], [value("y", "a", "b")], [sizes])


@case("GO031")
def untyped(bad: bool) -> onnx.ModelProto:
    proto = raw([helper.make_node("Relu", ["x"], ["y"])], [value("x", 1)], [value("y", 1)])
    if bad:
        proto.graph.input[0].ClearField("type")
    return proto


@case("GO032")
def draws(bad: bool) -> onnx.ModelProto:
    net = Net()
    x = net.input(1, 16)
    noise = net.op("RandomNormalLike", x) if bad else net.op("Neg", x)
    return net.model(net.op("Add", x, noise))


@case("GO040")
def crashing(bad: bool) -> onnx.ModelProto:
    """A dimension that onnxruntime takes for an index without a look at it."""
    net = Net(opset=18)
    gathered = net.op("GatherND", net.input(1, 4), net.const(np.zeros((1, 2), np.int64)), batch_dims=-(2**31) if bad else 0)
    return raw(
        net.nodes, net.inputs, [onnx.ValueInfoProto(name=gathered) if bad else value(gathered, 1)], net.initializers, opset=18
    )


@case("GO042")
def bomb(bad: bool) -> onnx.ModelProto:
    net = Net()
    side = 2**20 if bad else 16
    net.input(1)
    return net.model(net.op("Add", "x", net.op("ConstantOfShape", net.const(np.array([side, side], np.int64)))))


@case("GO041")
def endless(bad: bool) -> Given:
    """A loop that goes on while its condition says so."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["cond_in"], ["cond_out"]) if bad else helper.make_node("Not", ["cond_in"], ["cond_out"]),
            helper.make_node("Add", ["v_in", "one"], ["v_out"]),
        ],
        "b",
        [value("i", kind=TensorProto.INT64), value("cond_in", kind=TensorProto.BOOL), value("v_in", 1)],
        [value("cond_out", kind=TensorProto.BOOL), value("v_out", 1)],
    )
    weights = [numpy_helper.from_array(np.array(True), "yes"), numpy_helper.from_array(np.ones(1, np.float32), "one")]
    loop = helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)
    return Given(raw([loop], [value("x", 1)], [value("y", 1)], weights), seconds=3.0 if bad else None)


# -- valid and still wrong --------------------------------------------------------------------------------------------------------


@case("GO050")
def stale(bad: bool) -> onnx.ModelProto:
    proto = small()
    inner = proto.graph.node[0].output[0]
    proto.graph.value_info.append(value(inner, 1, 17 if bad else 16, 8, 8))
    return proto


@case("GO051")
def no_outputs(bad: bool) -> onnx.ModelProto:
    proto = small()
    if bad:
        del proto.graph.output[:]
    return proto


@case("GO052")
def external(bad: bool) -> Given:
    def write(folder: Path) -> Path:
        options: dict[str, Any] = {"save_as_external_data": True, "location": "data", "size_threshold": 0} if bad else {}
        onnx.save(small(), folder / "model.onnx", **options)
        return folder / "model.onnx"

    return Given(write=write)


@case("GO053")
def not_a_number(bad: bool) -> onnx.ModelProto:
    proto = small()
    weight = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weight[0, 0, 0, 0] = np.nan if bad else 0
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, proto.graph.initializer[0].name))
    return proto


@case("GO053")
def not_a_number_of_a_node(bad: bool) -> onnx.ModelProto:
    """A constant that is a node, read in a branch."""
    constant = numpy_helper.from_array(np.full(4, np.nan if bad else 1.0, np.float32), "c")
    bodies = [
        helper.make_graph([helper.make_node(op, ["x", "k"], [f"z{op}"])], "b", [], [value(f"z{op}", 4)]) for op in ("Add", "Sub")
    ]
    nodes = [
        helper.make_node("Constant", [], ["k"], value=constant),
        helper.make_node("If", ["c"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    return raw(nodes, [value("x", 4), value("c", kind=TensorProto.BOOL)], [value("y", 4)])


@case("GO053")
def infinite(bad: bool) -> onnx.ModelProto:
    """An infinity in a factor; in a mask that is added it is legitimate."""
    net = Net()
    x = net.input(1, 4)
    mask = net.const(np.array([0, 0, 0, -np.inf]))
    return net.model(net.op("Softmax", net.op("Mul" if bad else "Add", x, mask)))


@case("GO054")
def old_opset(bad: bool) -> onnx.ModelProto:
    return raw([helper.make_node("Relu", ["x"], ["y"])], [value("x", 1)], [value("y", 1)], opset=6 if bad else 7)


@case("GO055")
def old_format(bad: bool) -> onnx.ModelProto:
    proto = raw([helper.make_node("Relu", ["x"], ["y"])], [value("x", 1)], [value("y", 1)], opset=7)
    proto.ir_version = 2 if bad else 3
    return proto


@case("GO056")
def custom(bad: bool) -> onnx.ModelProto:
    op, domain = ("MyOp", "org.example") if bad else ("Relu", "")
    nodes = [helper.make_node(op, ["x"], ["y"], domain=domain)]
    return raw(nodes, [value("x", 1)], [value("y", 1)], domains=[helper.make_opsetid("org.example", 1)])


TARGET = """
name = "tiny"
operators = { value = ["Conv", "Relu"], evidence = "assumed", source = "test" }
opsets = { value = [13, 17], evidence = "assumed", source = "test" }
"""


@case("GO057")
def not_there(bad: bool) -> Given:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 16, pad=1)
    return Given(net.model(net.op("Sigmoid" if bad else "Relu", x)), target_text=TARGET)


@case("GO054")
def not_of_the_target(bad: bool) -> Given:
    return Given(small(opset=18 if bad else 17), target_text=TARGET)


@case("GO058")
def open_size(bad: bool) -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Relu", net.input("N" if bad else 1, 3)))


@case("GO059")
def one_name(bad: bool) -> onnx.ModelProto:
    proto = small()
    proto.graph.node[1].name = proto.graph.node[0].name if bad else "other"
    return proto
