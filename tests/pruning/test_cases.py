"""Every building block: which channels hang together, which stay and why, and that what goes goes exactly."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pruning.cases.table import CASES, proto_of
from tests.pruning.check import EXACT, compare
from tests.pruning.known import parameters
from tests.pruning.subject import by_random_masks, by_ratio, groups_of

Groups = list[dict[str, Any]]

REASONS = {
    "graph-input": "graph input",
    "graph-output": "graph output",
    "cut-across": "cuts across",
    "along-axis": "over the axis",
    "reduced": "over the axis",
    "normalised": "normalises over",
    "counted": "computes with the number",
    "captured": "read inside",
    "two-kinds": "channels of two kinds",
    "unknown-operator": "does not know",
    "data-dependent": "computed indices",
}
"""Codes of reasons, and what their text says."""


def _holding(groups: Groups, tensor: str) -> Groups:
    return [g for g in groups if any(p["tensor"] == tensor for p in g["places"])]


def _free(groups: Groups, tensor: str) -> int:
    """The channels of a tensor in groups that can lose some."""
    mine = [g for g in _holding(groups, tensor) if g["frozen"] is None and g["units"] > 1]
    return sum(g["units"] * p["elements_per_unit"] for g in mine for p in g["places"] if p["tensor"] == tensor)


@pytest.mark.parametrize("name", parameters((n for n, c in CASES.items() if c.free), "free"))
def test_channels_that_can_go(name: str) -> None:
    groups = groups_of(proto_of(name))["groups"]
    assert {t: _free(groups, t) for t in CASES[name].free} == CASES[name].free


@pytest.mark.parametrize("name", parameters((n for n, c in CASES.items() if c.frozen), "frozen"))
def test_channels_that_stay_and_why(name: str) -> None:
    groups = groups_of(proto_of(name))["groups"]
    for tensor, code in CASES[name].frozen.items():
        assert _free(groups, tensor) == 0
        reasons = [g["frozen"] for g in _holding(groups, tensor)]
        assert reasons, f"no group says anything of '{tensor}'"
        assert all(r is not None and REASONS[code] in r for r in reasons), reasons


@pytest.mark.parametrize("name", parameters((n for n, c in CASES.items() if c.together or c.apart), "together"))
def test_what_hangs_together(name: str) -> None:
    places = [{p["tensor"] for p in g["places"]} for g in groups_of(proto_of(name))["groups"]]
    for tensors in CASES[name].together:
        assert any(set(tensors) <= held for held in places), f"{tensors} are in no common group"
    for pair in CASES[name].apart:
        assert not any(set(pair) <= held for held in places), f"{pair} are in one group"


@pytest.mark.parametrize("name", parameters(CASES, "ratio"))
def test_a_ratio_is_exact(name: str) -> None:
    original = proto_of(name)
    pruned, outcome = by_ratio(original)
    verdict = compare(original, pruned)
    assert verdict.deviation <= EXACT
    assert [r.why for r in outcome.refusals if r.code != "frozen-channels"] == []
    assert {t: verdict.some(t) for t in CASES[name].free} == dict.fromkeys(CASES[name].free, True)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", parameters(CASES, "masks"))
def test_random_masks_are_exact(name: str, seed: int) -> None:
    original = proto_of(name, seed)
    pruned, problems = by_random_masks(original, seed)
    assert problems == []
    assert compare(original, pruned, seed).deviation <= EXACT


@pytest.mark.parametrize("name", parameters((n for n, c in CASES.items() if c.free), "one stays"))
def test_one_of_each_group_may_stay(name: str) -> None:
    original = proto_of(name)
    pruned, problems = by_random_masks(original, 0, keep=1)
    assert problems == []
    assert compare(original, pruned).deviation <= EXACT
