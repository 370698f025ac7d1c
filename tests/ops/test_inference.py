"""Shape inference of graphs that would crash it, or that it would never come back from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from graphopt.analysis import Analyses, Shapes
from graphopt.model import Model
from graphopt.ops.inference import faults, infer
from graphopt.verify import check_structure
from tests.nets import Net


def model(net: Net, output: str) -> onnx.ModelProto:
    graph = helper.make_graph(net.nodes, "net", net.inputs, [onnx.ValueInfoProto(name=output)], net.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def layer_normalization() -> onnx.ModelProto:
    net = Net(opset=18)
    x = net.op("Relu", net.input(2, 3, 4))
    scale = net.const(np.ones(4))
    net.op("LayerNormalization", x, scale, scale, outputs=3, out="y", axis=2**63 - 1)
    return model(net, "y")


def gather_nd() -> onnx.ModelProto:
    net = Net(opset=18)
    return model(
        net, net.op("GatherND", net.op("Relu", net.input(1, 4)), net.const(np.zeros((1, 2), np.int64)), batch_dims=-(2**31))
    )


def split() -> onnx.ModelProto:
    net = Net(opset=18)
    return model(net, net.op("Split", net.op("Relu", net.input(1, 4)), outputs=3, axis=1, num_outputs=2))


def in_a_branch() -> onnx.ModelProto:
    net = Net(opset=18)
    x = net.op("Relu", net.input(1, 4))
    bad = helper.make_node("GatherND", [x, net.const(np.zeros((1, 2), np.int64))], ["bad"], batch_dims=-(2**31))
    yes = helper.make_graph([bad], "yes", [], [onnx.ValueInfoProto(name="bad")])
    no = helper.make_graph([helper.make_node("Identity", [x], ["no"])], "no", [], [onnx.ValueInfoProto(name="no")])
    return model(net, net.op("If", net.const(np.array(True)), then_branch=yes, else_branch=no))


CRASHES = [layer_normalization, gather_nd, split, in_a_branch]


@pytest.mark.parametrize("make", CRASHES, ids=[make.__name__ for make in CRASHES])
def test_what_crashes_inference_does_not_reach_it(make: Callable[[], onnx.ModelProto]) -> None:
    proto = make()
    script = (
        "import onnx, sys; onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(sys.stdin.buffer.read()), data_prop=True)"
    )
    bare = subprocess.run([sys.executable, "-c", script], input=proto.SerializeToString(), capture_output=True, check=False)
    assert bare.returncode < 0, "onnx survives it now: the screen for it can go"
    loaded = Model.load(proto)
    (relu,) = (node for node in loaded.graph.nodes if node.op == "Relu")
    assert Analyses(loaded).get(Shapes()).shape(relu.outputs[0]) is not None
    assert "GO025" in {fault.code for fault in check_structure(loaded)}


def test_values_are_not_followed_through_doubling() -> None:
    net = Net(opset=18)
    vector = net.op("Shape", net.input(1, 4))
    for _ in range(40):
        vector = net.op("Concat", vector, vector, axis=0)
    inferred = infer(model(net, vector))
    assert [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim] == [2**41]


@pytest.mark.parametrize("step", [2**63 - 1, 2**40])
def test_values_are_not_followed_through_steps_beyond_32_bits(step: int) -> None:
    net = Net(opset=18)
    ends = [net.const(np.array([n])) for n in (0, 2, 0, step)]
    proto = model(net, net.op("Slice", net.op("Shape", net.input(1, 2, 3, 4)), *ends))
    assert _within_a_gibibyte("onnx.shape_inference.infer_shapes(m, data_prop=True)", proto) != 0, "the screen for it can go"
    assert _within_a_gibibyte("graphopt.ops.inference.infer(m)", proto) == 0


COMPUTED: dict[str, Callable[[Net], str]] = {
    "Mul": lambda n: n.op("Mul", *[n.const(np.array([2**20]))] * 2),
    "Cast": lambda n: n.op("Cast", n.const(np.array([2**40])), to=onnx.TensorProto.INT64),
    "Gather": lambda n: n.op("Gather", n.const(np.array([1, 2**40])), n.const(np.array([1]))),
    "Shape": lambda n: n.op("Gather", n.op("Shape", n.input(1, 2**40, name="z")), n.const(np.array([1]))),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_nor_through_steps_that_are_computed(name: str) -> None:
    net = Net(opset=18)
    shape = net.op("Shape", net.input(1, 2, 3, 4))
    proto = model(net, net.op("Slice", shape, *(net.const(np.array([n])) for n in (0, 2, 0)), COMPUTED[name](net)))
    assert _within_a_gibibyte("graphopt.ops.inference.infer(m)", proto) == 0


def test_values_are_followed_through_steps_that_are_passed_on() -> None:
    net = Net(opset=18)
    step = net.op("Cast", net.op("Concat", net.const(np.array([1])), axis=0), to=onnx.TensorProto.INT64)
    shape = net.op("Slice", net.op("Shape", x := net.input(1, 2, 3, 4)), *(net.const(np.array([n])) for n in (0, 2, 0)), step)
    inferred = infer(model(net, net.op("Reshape", x, net.op("Concat", shape, net.const(np.array([12])), axis=0))))
    assert [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim] == [1, 2, 12]


def _within_a_gibibyte(call: str, proto: onnx.ModelProto) -> int:
    """Exit code of a process of 1 GiB that evaluates ``call`` on the model ``m``."""
    script = (
        "import onnx, sys, resource, graphopt.ops.inference; resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30)); "
        f"m = onnx.ModelProto.FromString(sys.stdin.buffer.read()); {call}"
    )
    return subprocess.run(
        [sys.executable, "-c", script], input=proto.SerializeToString(), capture_output=True, check=False
    ).returncode


def test_values_are_followed_where_they_are_few() -> None:
    net = Net(opset=18)
    x = net.input(2, 3, 4)
    inferred = infer(
        model(net, net.op("Reshape", x, net.op("Concat", net.op("Shape", x, end=1), net.const(np.array([12])), axis=0)))
    )
    assert [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim] == [2, 12]


def test_ordinary_numbers_are_no_fault() -> None:
    net = Net(opset=18)
    x = net.op("Softmax", net.input(2, 4), axis=-1)
    net.op("Split", x, outputs=2, out="y", axis=-1, num_outputs=2)
    assert list(faults(model(net, "y"))) == []
