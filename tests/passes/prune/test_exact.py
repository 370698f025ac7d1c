"""The pruned graph equals the masked original, its certificate holds, and the channels are really gone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.analysis import Analyses, Shapes
from graphopt.analysis.channels import Problem
from graphopt.model import Model
from graphopt.passes.prune.realise import realise
from graphopt.passes.prune.reference import masked
from tests.analysis.channels.cases import CASES, Case
from tests.nets import Net, exact_outputs, feed_for
from tests.passes.prune.oracle import TOLERANCE, channels_of, distance, prune, random_removal


def proto_of(case: Case, seed: int = 0) -> onnx.ModelProto:
    net = Net(seed, opset=case.opset)
    outputs = case.build(net)
    return net.model(*([outputs] if isinstance(outputs, str) else outputs))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_masked_original(name: str, seed: int) -> None:
    graph = channels_of(proto_of(CASES[name], seed))
    reference, result = prune(graph, random_removal(graph, seed))
    assert [p.why for p in result.problems] == []
    assert distance(reference, result.model, seed) <= TOLERANCE


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.free])
def test_channels_are_gone(name: str) -> None:
    graph = channels_of(proto_of(CASES[name]))
    removed = random_removal(graph, 0)
    _, result = prune(graph, removed)
    shapes = Analyses(result.model).get(Shapes())
    tensors = {t.name: t for n in result.model.graph.nodes for t in n.outputs}
    for name_, layout in graph.flow.tensors.items():
        gone = [axis for axis in range(layout.rank) if removed[layout.labels(axis)].any()]
        if name_ in tensors and gone and all(layout.size(a) is not None for a in gone):
            shape = shapes.shape(tensors[name_])
            assert shape is not None
            assert any(shape[a] != layout.size(a) for a in gone)


@pytest.mark.parametrize("name", ["residual", "squeeze-excite", "grouped", "flatten, transB", "shuffle"])
def test_float64_agrees_to_rounding(name: str) -> None:
    graph = channels_of(proto_of(CASES[name], 3))
    reference, result = prune(graph, random_removal(graph, 3))
    protos = reference.proto(), result.model.proto()
    feed = feed_for(protos[0])
    expected, found = (exact_outputs(p, feed)[0] for p in protos)
    assert np.abs(expected - found).max() <= 1e-12 * np.ptp(expected)


def test_a_wrong_graph_fails_its_certificate() -> None:
    """The certificate does not trust the rewriting: constants that keep other channels than they should are found."""
    graph = channels_of(proto_of(CASES["residual"]))
    removed = random_removal(graph, 0)
    source = masked(graph, removed, {})
    reader = next(n for n in source.model.graph.nodes if n.op == "Conv")
    layout = graph.flow.constants["c0"]
    field = next(f for f in layout.fields if f.at == (0,))
    swapped = type(layout)(layout.axes, tuple(type(f)(f.at, f.labels[::-1]) if f is field else f for f in layout.fields))
    source.uses[reader.outputs[0].name, 1] = swapped
    found = realise(source, graph, removed).problems
    assert found
    assert all(isinstance(p, Problem) for p in found)


def test_the_input_is_left_alone() -> None:
    model = Model.load(proto_of(CASES["concat nested"]))
    before = model.proto().SerializeToString(deterministic=True)
    graph = channels_of(model.proto())
    prune(graph, random_removal(graph, 0))
    assert model.proto().SerializeToString(deterministic=True) == before
