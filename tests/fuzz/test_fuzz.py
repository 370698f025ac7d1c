"""The fuzzer's own parts: its look at an input, its mutations, its start corpus; and, slow, a minute of fuzzing."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest

from graphopt.errors import ModelError
from graphopt.model import Model
from tests.damage.bases import BASES, base
from tests.fuzz.door import campaign
from tests.fuzz.mutate import mutate
from tests.fuzz.seeds import LARGEST, write_seeds
from tests.fuzz.target import Finding, examine, rewrite

SMALL = [name for name in BASES if name not in ("fashion", "external")]


def raw(name: str) -> bytes:
    return base(name)[0].SerializeToString()


@pytest.mark.parametrize("name", SMALL)
def test_a_sound_model_is_accepted(name: str, tmp_path: Path) -> None:
    assert examine(raw(name), tmp_path / "o.onnx") == ""
    assert rewrite(raw(name)) == ""


@pytest.mark.parametrize(("given", "code"), [(b"", "GO002"), (b"no model", "GO002")])
def test_a_clean_error_is_no_finding(given: bytes, code: str, tmp_path: Path) -> None:
    assert examine(given, tmp_path / "o.onnx") == code
    assert rewrite(given) == code


def test_what_is_lost_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Model.proto

    def lossy(model: Model) -> onnx.ModelProto:
        proto = whole(model)
        proto.graph.name = "another"
        return proto

    monkeypatch.setattr(Model, "proto", lossy)
    with pytest.raises(Finding, match="the first reading is another model"):
        examine(raw("conv"), tmp_path / "o.onnx")


def test_an_exception_is_a_finding_but_not_a_clean_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: Model) -> onnx.ModelProto:
        raise ValueError("too bad")

    monkeypatch.setattr(Model, "proto", broken)
    with pytest.raises(Finding, match="ValueError: too bad"):
        examine(raw("conv"), tmp_path / "o.onnx")

    def refusing(model: Model) -> onnx.ModelProto:
        raise ModelError("GO011", "m.onnx", "no")

    monkeypatch.setattr(Model, "proto", refusing)
    assert examine(raw("conv"), tmp_path / "o.onnx") == "GO011"


def test_mutations_are_drawn_from_the_seed_and_mostly_messages() -> None:
    def plain(given: bytes, size: int) -> bytes:
        return given

    made = [mutate(raw("conv"), 1 << 15, random.Random(seed), plain) for seed in range(100)]
    assert made == [mutate(raw("conv"), 1 << 15, random.Random(seed), plain) for seed in range(100)]
    assert len(set(made)) > 60
    for one in made:
        onnx.ModelProto.FromString(one)


def test_a_mutation_keeps_to_the_size() -> None:
    def plain(given: bytes, size: int) -> bytes:
        return given[:size]

    assert all(len(mutate(raw("conv"), 700, random.Random(seed), plain)) <= 700 for seed in range(50))


@pytest.mark.slow
def test_a_minute(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    counts, failures = campaign(60, tmp_path / "corpus", tmp_path / "findings")
    assert failures == []
    assert counts["inputs"] > counts["seeds"]


@pytest.mark.slow
def test_the_seeds_are_small_and_many(tmp_path: Path) -> None:
    count = write_seeds(tmp_path)
    sizes = [path.stat().st_size for path in tmp_path.iterdir() if path.name not in BASES]
    assert count == len(list(tmp_path.iterdir())) > 100
    assert max(sizes) <= LARGEST
