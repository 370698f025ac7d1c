"""A row is for nodes that have what its rules take for granted; a file may hold others."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from graphopt.analysis import Analyses, Cost, Shapes
from graphopt.model import Model
from graphopt.ops import lookup
from tests.nets import Net


def small() -> onnx.ModelProto:
    net = Net()
    y = net.op("Flatten", net.op("Relu", net.conv(net.input(1, 3, 8, 8), 4)))
    return net.model(net.op("Gemm", y, net.const(net.random(144, 5))))


def without_a_weight(proto: onnx.ModelProto) -> None:
    del proto.graph.node[0].input[1:]


def with_an_empty_weight(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[1] = ""


def without_inputs(proto: onnx.ModelProto) -> None:
    del proto.graph.node[0].input[:]


def without_a_bias(proto: onnx.ModelProto) -> None:
    del proto.graph.node[0].input[2:]


@pytest.mark.parametrize(
    ("damage", "known"),
    [(without_a_weight, False), (with_an_empty_weight, False), (without_inputs, False), (without_a_bias, True)],
)
def test_a_node_without_a_required_input_has_no_row(damage: Callable[[onnx.ModelProto], None], known: bool) -> None:
    proto = small()
    damage(proto)
    model = Model.load(proto)
    analyses = Analyses(model)
    assert (lookup(model.graph.nodes[0], analyses.get(Shapes())) is not None) is known
    assert (analyses.get(Cost()).unknown == []) is known


def test_every_row_knows_the_inputs_it_demands() -> None:
    model = Model.load(small())
    facts = Analyses(model).get(Shapes())
    assert [lookup(node, facts) is not None for node in model.graph.nodes] == [True] * 4
