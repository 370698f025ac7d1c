"""Random networks: never a crash, never another output than the masked original's; and the search for needless freezing works."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pruning.cases.table import CASES, proto_of
from tests.pruning.check import EXACT
from tests.pruning.needless import Search, needless, sets_with
from tests.pruning.random_networks import CHECKS, by_mask_file, by_masks, by_the_pass, random_network

_FREE = ["residual spine, identity shortcut", "nested concat", "depthwise, multiplier 2", "grouped to grouped with other counts"]
_FREE += ["shuffle, even groups", "DepthToSpace DCR", "SpaceToDepth", "squeeze-excite by ReduceMean", "separate QKV", "Where"]
_STUCK = ["LayerNorm in nine nodes", "Softmax over channels", "Reshape across channels and space", "ReduceMax over channels"]


@pytest.mark.parametrize("seed", range(40))
def test_masks(seed: int) -> None:
    result = by_masks(seed)
    assert result.deviation <= EXACT
    assert result.uncertified == []


@pytest.mark.parametrize("seed", range(1000, 1024))
def test_the_pass(seed: int) -> None:
    assert by_the_pass(seed).deviation <= EXACT


@pytest.mark.parametrize("seed", range(1100, 1124))
def test_mask_files(seed: int) -> None:
    assert by_mask_file(seed).deviation <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 4000))
def test_two_thousand(seed: int) -> None:
    for check in CHECKS.values():
        assert check(seed).deviation <= EXACT


@pytest.mark.parametrize("name", _FREE)
def test_the_search_finds_what_can_go(name: str) -> None:
    search = Search(proto_of(name), 0)
    for tensor in CASES[name].free:
        producer = next(p for p in search.frozen if any(g.tensors.get(tensor, np.zeros(1, bool)).any() for g in search.reach(p)))
        count = len(search.frozen[producer])
        assert any(search.can_go(producer, rows) for rows in sets_with(0, count)), tensor


@pytest.mark.parametrize("name", _STUCK)
def test_the_search_finds_nothing_where_nothing_can_go(name: str) -> None:
    assert needless(proto_of(name), 0).needless == {}


def test_little_is_frozen_without_need() -> None:
    counts = [needless(random_network(seed), seed) for seed in range(16)]
    assert sum(sum(c.needless.values()) for c in counts) <= 0.05 * sum(c.total for c in counts)
