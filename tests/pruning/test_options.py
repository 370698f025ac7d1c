"""Whole heads, normalisations that may change, masks that conflict: what the options of the pass ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.prune import Prune
from graphopt.pipeline import Context, Outcome
from tests.pruning.cases.table import proto_of
from tests.pruning.check import EXACT, compare
from tests.pruning.gone import Mixed
from tests.pruning.nets import Distinct


def pruned(proto: onnx.ModelProto, **options: Any) -> tuple[onnx.ModelProto, Outcome]:
    model = Model.load(proto)
    outcome = Prune(importance="norm", compensate=False, **{"multiple": 1, **options}).run(model, Context(model))
    return model.proto(), outcome


@pytest.mark.parametrize("name", ["separate QKV", "relative bias", "fused QKV by Split", "fused QKV by Gather"])
def test_whole_heads(name: str) -> None:
    """Half of the heads with ``heads``; without, half of every head's dimensions, which ones differing from head to head."""
    original = proto_of(name)
    for heads, left in ((True, {0, 6}), (False, {3})):
        verdict = compare(original, pruned(original, ratio=0.5, heads=heads)[0])
        assert verdict.deviation <= EXACT
        lost = verdict.gone.tensors["qh"]  # [N, heads, L, d]
        assert set(np.count_nonzero(~lost, axis=3).flat) == left


@pytest.mark.parametrize("name", ["LayerNorm fused", "LayerNorm in nine nodes", "RMSNorm in nodes"])
def test_a_norm_changes_only_when_asked(name: str) -> None:
    original = proto_of(name)
    result, outcome = pruned(original, ratio=0.5)
    assert not compare(original, result).some("h")
    result, outcome = pruned(original, ratio=0.5, lossy_norm=True)
    assert any("lossy-norm" in note for note in outcome.notes)
    with pytest.raises(Mixed):
        compare(original, result)


def test_masks_that_conflict_intersect(tmp_path: Path) -> None:
    """What is kept is what all of them keep."""
    masks = {"spine": np.isin(np.arange(8), (1, 5), invert=True), "spine2": np.isin(np.arange(8), (1, 6), invert=True)}
    np.savez(tmp_path / "masks.npz", **masks)  # type: ignore[arg-type]
    original = proto_of("residual spine, identity shortcut")
    verdict = compare(original, pruned(original, masks=tmp_path / "masks.npz", conflicts="intersect")[0])
    assert verdict.deviation <= EXACT
    assert verdict.channels("spine").tolist() == [1, 5, 6]


def _all_equal() -> onnx.ModelProto:
    """Every filter alike; only the reader's columns tell the channels apart."""
    net = Distinct(0)
    a = net.op("Conv", net.input(2, 3, 8, 8), net.const(np.full((8, 3, 3, 3), 0.25)), net.const(np.full(8, 0.5)), out="a")
    net.widths[a] = 8
    return net.model(net.conv(net.op("Relu", a), 4, 1))


def test_equal_importances_keep_their_order() -> None:
    results = [pruned(_all_equal(), ratio=0.5)[0].SerializeToString(deterministic=True) for _ in range(3)]
    assert len(set(results)) == 1


@pytest.mark.parametrize("name", ["residual spine, identity shortcut", "ShuffleNet V2", "separate QKV", "LSTM"])
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    results = [pruned(proto_of(name), ratio=0.5)[0].SerializeToString(deterministic=True) for _ in range(2)]
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["nested concat", "ShuffleNet V2", "C2f", "squeeze-excite by ReduceMean", "separate QKV"])
def test_pruned_twice(name: str) -> None:
    """What was pruned can be pruned again, exactly."""
    first, _ = pruned(proto_of(name), ratio=0.5)
    second, _ = pruned(first, ratio=0.5)
    assert compare(first, second).deviation <= EXACT


@pytest.mark.parametrize("name", ["nested concat", "residual spine, identity shortcut", "LSTM", "separate QKV", "LayerNorm fused"])
def test_ratio_0_changes_nothing_where_nothing_is_dead(name: str) -> None:
    assert compare(proto_of(name), pruned(proto_of(name), ratio=0.0)[0]).gone.reads == {}
