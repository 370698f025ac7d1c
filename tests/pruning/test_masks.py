"""Masks from a file: what they name goes, and nothing else; what cannot go as asked is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from graphopt.analysis import Analyses
from graphopt.analysis.channels import ChannelGraph, Channels
from graphopt.errors import DataError
from graphopt.model import Model
from graphopt.passes.prune.spaces import translated
from tests.pruning.cases.table import proto_of
from tests.pruning.check import EXACT, compare
from tests.pruning.known import parameters
from tests.pruning.nets import Distinct
from tests.pruning.subject import by_masks


@dataclass(frozen=True)
class Asked:
    """Channels to remove by tensor; ``refused`` is the code and what the refusal's text must name, None if they go."""

    case: str
    masks: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    refused: tuple[str, ...] | None = None


SPINE, SHUFFLE, CHAIN = "residual spine, identity shortcut", "shuffle, even groups", "grouped to grouped with other counts"

ASKED: dict[str, Asked] = {
    "one tensor of a spine": Asked(SPINE, {"spine": (1, 5)}, {"spine": 8}),
    "two tensors of a spine that agree": Asked(SPINE, {"spine": (1, 5), "spine3": (1, 5)}, {"spine": 8, "spine3": 8}),
    "two tensors of a spine that do not": Asked(
        SPINE, {"spine": (1, 5), "spine2": (1, 6)}, {"spine": 8, "spine2": 8}, ("mask-conflict", "spine", "spine2")
    ),
    "a conflict does not hold up another group": Asked(
        SPINE, {"spine": (1,), "spine2": (2,), "inner": (0, 3)}, {"spine": 8, "spine2": 8, "inner": 6}, ("mask-conflict",)
    ),
    "all channels of a group": Asked(SPINE, {"inner": tuple(range(6))}, {"inner": 6}, ("empty-group", "inner")),
    "a frozen tensor": Asked("an output that is an inner tensor", {"b": (2,)}, {"b": 6}, ("frozen-channels", "b")),
    "a branch of a nested concat": Asked("nested concat", {"b": (0, 4)}, {"b": 6}),
    "a concatenated tensor": Asked("nested concat", {"all": (0, 4, 14)}, {"all": 17}),
    "a shuffle, equal indices": Asked(SHUFFLE, {"a": (1, 5)}, {"a": 8}),
    "a shuffle, equal counts": Asked(SHUFFLE, {"a": (0, 6)}, {"a": 8}),
    "a shuffle, one block only": Asked(SHUFFLE, {"a": (0, 1)}, {"a": 8}, ("uneven", "a")),
    "grouped, equal counts in both partitions": Asked(CHAIN, {"b": (0, 1, 4, 7, 10, 11)}, {"b": 12}),
    "grouped, unequal counts": Asked(CHAIN, {"b": (0, 1, 2)}, {"b": 12}, ("uneven", "b")),
    "grouped after a concat, equal counts": Asked(
        "grouped after a concat that straddles", {"a": (1,), "b": (2,)}, {"a": 3, "b": 5}
    ),
    "heads of one size": Asked("separate QKV", {"q": (0, 8)}, {"q": 12}),
    "pixel shuffle, whole blocks": Asked("DepthToSpace CRD", {"a": (4, 5, 6, 7)}, {"a": 12}),
    "pixel shuffle, part of a block": Asked("DepthToSpace CRD", {"a": (4,)}, {"a": 12}, ("mask-conflict", "a")),
    "a Split's halves": Asked("C2f", {"a": (0, 5)}, {"a": 8}),
    "all but one before a Squeeze that names no axes": Asked(
        "Squeeze of all axes of one, any batch", {"a": (0, 1, 2, 3, 4)}, {"a": 6}, ("not-certified",)
    ),
    "LSTM units": Asked("LSTM", {"y": (2, 3)}, {"y": 7}),
}  # fmt: skip


def mask_file(folder: Path, asked: Asked) -> Path:
    masks = {t: np.isin(np.arange(asked.sizes[t]), gone, invert=True) for t, gone in asked.masks.items()}
    np.savez(folder / "masks.npz", **masks)  # type: ignore[arg-type]
    return folder / "masks.npz"


@pytest.mark.parametrize("name", parameters(ASKED, "mask file"))
def test_masks(name: str, tmp_path: Path) -> None:
    asked = ASKED[name]
    original = proto_of(asked.case)
    pruned, outcome = by_masks(original, mask_file(tmp_path, asked))
    verdict = compare(original, pruned)
    assert verdict.deviation <= EXACT
    said = [(r.code, f"{r.where} {r.why}") for r in outcome.refusals]
    if asked.refused is None:
        wanted = {t: sorted(gone) for t, gone in asked.masks.items()}
        assert {t: verdict.channels(t).tolist() for t in asked.masks} == wanted, said
        return
    code, *names = asked.refused
    about = [text for found, text in said if code in found]
    assert about, said
    assert all(any(f"'{n}'" in text for text in about) for n in names), about
    if name.startswith("a conflict does not"):
        assert verdict.channels("inner").tolist() == [0, 3]
        assert verdict.channels("spine").tolist() == []


@pytest.mark.parametrize(("masks", "code"), [({"nothing": np.ones(8)}, "GO841"), ({"spine": np.ones(7)}, "GO842")])
def test_masks_for_nothing(masks: dict[str, np.ndarray], code: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "masks.npz", **masks)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        by_masks(proto_of(SPINE), tmp_path / "masks.npz")
    assert caught.value.diagnostic.code == code


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int64, np.float32, np.float64])
def test_numbers_are_masks_too(kind: type, tmp_path: Path) -> None:
    keep = np.array([1, 0, 1, 1, 1, 0, 1, 1]).astype(kind)
    np.savez(tmp_path / "masks.npz", spine=keep)
    original = proto_of(SPINE)
    assert compare(original, by_masks(original, tmp_path / "masks.npz")[0]).channels("spine").tolist() == [1, 5]


def _scaled(name: str) -> ChannelGraph:
    net = Distinct(0)
    made = net.op("MatMul", net.input(2, 5, 8), net.const(net.random(8, 6)), out=name)
    made = net.op("Mul", made, net.const(net.random(6)), out="h")
    return Analyses(Model.load(net.model(net.op("MatMul", made, net.const(net.random(6, 3)))))).get(Channels())


def test_masks_of_tokens_are_carried_to_what_is_left() -> None:
    keep = np.array([1, 0, np.nan, 1, 0, 1])
    ((name, mask),) = translated({"gone": keep}, _scaled("new"), _scaled("gone"), every=False)
    assert name == "h"
    np.testing.assert_array_equal(mask, keep)


@pytest.mark.parametrize("name", ["a group smaller than the multiple"])
def test_widths_stay_on_the_multiple(name: str) -> None:
    from tests.pruning.subject import by_ratio

    original = proto_of(name)
    pruned, _ = by_ratio(original, 0.5, 8)
    verdict = compare(original, pruned)
    assert verdict.deviation <= EXACT
    assert (verdict.channels("a").size, verdict.channels("b").size) == (0, 8)
