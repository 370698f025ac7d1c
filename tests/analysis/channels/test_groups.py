"""Which channels can go: the cases, and what the analysis says about them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from graphopt.analysis import Analyses
from graphopt.analysis.channels import ChannelGraph, Channels
from graphopt.model import Model
from graphopt.ops.table import rows
from tests.analysis.channels.cases import CASES, Case
from tests.nets import Net


def graph_of(case: Case) -> ChannelGraph:
    net = Net(opset=case.opset)
    outputs = case.build(net)
    proto = net.model(*([outputs] if isinstance(outputs, str) else outputs))
    return Analyses(Model.load(proto)).get(Channels())


def units_of(graph: ChannelGraph, tensor: str) -> tuple[int, set[str]]:
    """How many units along a tensor's channels can go, and the reasons of those that cannot."""
    layout = graph.flow.tensors[tensor]
    free, reasons = 0, set[str]()
    for field in layout.fields:
        classes = set(graph.flow.table.find(field.labels).reshape(-1).tolist())
        for group in graph.groups:
            mine = len(classes & set(group.units.tolist()))
            free += mine if group.frozen is None else 0
            reasons |= {group.frozen} if group.frozen is not None and mine else set()
    return free, reasons


@pytest.mark.parametrize("name", CASES)
def test_free_channels(name: str) -> None:
    graph = graph_of(CASES[name])
    assert {t: units_of(graph, t)[0] for t in CASES[name].free} == CASES[name].free


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.frozen])
def test_frozen_channels_have_the_reason(name: str) -> None:
    graph = graph_of(CASES[name])
    for tensor, reason in CASES[name].frozen.items():
        free, reasons = units_of(graph, tensor)
        assert free == 0
        assert not graph.flow.tensors[tensor].fields or any(reason in r for r in reasons), reasons


@pytest.mark.parametrize("name", ["residual", "shuffle", "attention"])
def test_groups_as_data(name: str) -> None:
    graph = graph_of(CASES[name])
    data = json.loads(json.dumps(graph.to_json()))
    assert [g["id"] for g in data["groups"]] == [g.id for g in graph.groups]
    edges = graph.graph()
    assert all(isinstance(e["operator"], str) for _, _, e in edges.edges(data=True))
    assert 0 <= graph.prunable_share_of_macs <= 1


def test_analysis_does_not_depend_on_image_size() -> None:
    sizes = []
    for size in (8, 512):
        net = Net()
        a = net.op("Relu", net.conv(net.input(1, 3, size, size), 6))
        graph = Analyses(Model.load(net.model(net.conv(a, 4)))).get(Channels())
        sizes.append(len(graph.flow.table))
    assert sizes[0] == sizes[1]


def test_every_operator_row_says_what_happens_to_channels() -> None:
    assert [row.op for found in rows().values() for row in found if row.channels is None] == []


def test_groups_are_deterministic() -> None:
    first, second = (graph_of(CASES["unequal split with bypass"]) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert all(np.array_equal(a.units, b.units) for a, b in zip(first.groups, second.groups, strict=True))
