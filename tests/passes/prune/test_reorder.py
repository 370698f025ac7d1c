"""Channels change places within their blocks: nothing changes but the order, and masks may name other channels of each block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.prune import Prune
from graphopt.passes.prune.reorder import Moves, parts_of, reordered
from graphopt.pipeline import Context, Outcome
from tests.analysis.channels import networks, sequences
from tests.nets import Net
from tests.passes.prune.oracle import TOLERANCE, channels_of, distance

Build = Callable[[Net], str]

NETWORKS: dict[str, Build] = {
    "grouped": networks.grouped,
    "shuffle": networks.shuffle,
    "uneven shuffle": networks.shuffle_uneven,
    "fused attention": partial(sequences.fused_attention, how="gather"),
    "separate heads": partial(sequences.fused_attention, how="split"),
}


def proto_of(build: Build) -> onnx.ModelProto:
    net = Net(3)
    return net.model(build(net))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NETWORKS)
def test_any_order_computes_the_same(name: str, seed: int) -> None:
    graph = channels_of(proto_of(NETWORKS[name]))
    rng, moves = np.random.default_rng(seed), Moves()
    for parts in parts_of(graph, graph.prunable).values():
        for members in parts.members:
            places = members.reshape(-1)
            moves.update((int(a), int(b)) for a, b in zip(places, rng.permutation(places), strict=True))
    assert any(a != b for a, b in moves.items())
    moved = reordered(graph, moves)
    assert moved is not None
    assert distance(graph.model, moved.model, seed) <= TOLERANCE


def run(folder: Path, build: Build, conflicts: str = "refuse", **masks: list[int]) -> tuple[Model, Outcome]:
    """The pass with masks: for each tensor its width and what of it goes."""
    arrays = {name: ~np.isin(np.arange(width), gone) for name, (width, *gone) in masks.items()}
    np.savez(folder / "masks.npz", **arrays)
    model = Model.load(proto_of(build))
    original = model.copy()
    outcome = Prune(masks=folder / "masks.npz", conflicts=conflicts, importance="norm").run(model, Context(original))  # type: ignore[arg-type]
    return model, outcome


@pytest.mark.parametrize(
    ("name", "tensor", "width", "gone"),
    [
        ("grouped", "a", 12, [0, 1, 4, 7, 10, 11]),
        ("shuffle", "a", 8, [0, 6]),
        ("shuffle", "a", 8, [0, 1, 6, 7]),
        ("separate heads", "mixed", 4, [1]),
    ],
)
def test_other_channels_of_each_block(tmp_path: Path, name: str, tensor: str, width: int, gone: list[int]) -> None:
    model, outcome = run(tmp_path, NETWORKS[name], **{tensor: [width, *gone]})
    assert [r for r in outcome.refusals if r.code != "frozen-channels"] == []
    assert outcome.changed
    assert outcome.reference is not None
    assert distance(outcome.reference, model) <= TOLERANCE
    assert distance(Model.load(proto_of(NETWORKS[name])), model) > 100 * TOLERANCE


@pytest.mark.parametrize(("name", "gone"), [("grouped", [0, 1, 2]), ("shuffle", [0, 1])])
def test_other_numbers_of_channels_are_refused_by_name(tmp_path: Path, name: str, gone: list[int]) -> None:
    width = 12 if name == "grouped" else 8
    _, outcome = run(tmp_path, NETWORKS[name], a=[width, *gone])
    assert [(r.code, r.where) for r in outcome.refusals if r.code == "uneven-mask"] == [("uneven-mask", "'t0'")]
    assert not outcome.changed


def test_masks_that_differ_may_be_joined(tmp_path: Path) -> None:
    masks = {"spine": [8, 1, 2], "c0": [8, 2, 5]}
    _, refused = run(tmp_path, networks.residual, **masks)
    assert [r.code for r in refused.refusals if r.code != "frozen-channels"] == ["mask-conflict"]
    model, outcome = run(tmp_path, networks.residual, "intersect", **masks)
    assert [r.what for r in outcome.rewrites] == ["8 -> 5 channels"]
    assert outcome.reference is not None
    assert distance(outcome.reference, model) <= TOLERANCE
