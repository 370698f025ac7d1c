"""Target files: the built-in ones are complete, unknown names and malformed files are told apart and name the culprit."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from graphopt.errors import UsageError
from graphopt.target import Target, loader
from graphopt.target.costs import Cost, Counts

SMALL = """
name = "toy"
[channel_step]
float32 = { value = 8, evidence = "assumed", source = "test" }
[int8]
activation = { value = "uint8", evidence = "assumed", source = "test" }
per_channel = { value = true, evidence = "assumed", source = "test" }
min_opset = { value = 13, evidence = "assumed", source = "test" }
kernels = { value = ["Conv"], evidence = "assumed", source = "test" }
[[cost]]
op = "Conv"
float = { mac = 2 }
int8 = { mac = 1.0, node = 3 }
evidence = "assumed"
source = "test"
"""


@pytest.mark.parametrize("name", Target.names())
def test_every_builtin_states_its_evidence(name: str) -> None:
    target = Target.load(name)
    assert target.name == name
    assert target.channel_step() >= 1
    assert all(e.source for e in target.evidence.values())
    if target.int8 is not None:
        assert {"int8.kernels", "int8.activation", "int8.min_opset"} <= set(target.evidence)
        assert all(target.costs.row(op, "dense") is not None for op in target.int8.kernels | target.int8.same_scale)


def test_names() -> None:
    assert {"ort-x86-vnni", "ort-x86-avx2", "generic"} <= set(Target.names())


def test_what_the_targets_are_known_for() -> None:
    vnni, avx2, generic = (Target.load(n) for n in ("ort-x86-vnni", "ort-x86-avx2", "generic"))
    assert (vnni.channel_step("float32"), vnni.channel_step("int8")) == (16, 4)
    assert vnni.int8 is not None and not vnni.int8.reduce_range
    assert avx2.int8 is not None and avx2.int8.reduce_range
    assert generic.int8 is None and generic.channel_step("int8") == 1


def test_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(UsageError) as caught:
        Target.load("ort-x86-vni")
    assert caught.value.diagnostic.code == "GO905"
    assert "ort-x86-vnni" in caught.value.diagnostic.hint


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Target.load(tmp_path / "none.toml")
    assert caught.value.diagnostic.code == "GO905"


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(SMALL)
    target = Target.load(path)
    assert target.channel_step() == 8 and target.int8 is not None
    assert target.int8.kernels == {"Conv"} and target.int8.same_scale == frozenset()
    assert target.costs.cost("Conv", "dense", "int8", Counts(macs=10)) == 13.0
    assert target.costs.cost("Relu", "", "int8", Counts()) is None


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('name = "toy"', "", "name"),
        ('name = "toy"', "name = 3", "name"),
        ("[channel_step]", "[chanel_step]", "chanel_step"),
        ("value = 8", "value = 0", "channel_step.float32"),
        ("value = 8", 'value = "8"', "channel_step.float32"),
        ('{ value = 8, evidence = "assumed", source = "test" }', "8", "channel_step.float32"),
        ('value = 8, evidence = "assumed"', 'value = 8, evidence = "felt"', "channel_step.float32.evidence"),
        ('value = 8, evidence = "assumed", source = "test"', 'value = 8, evidence = "assumed"', "channel_step.float32.source"),
        ('"uint8"', '"uint4"', "int8.activation"),
        ("value = true", "value = 1", "int8.per_channel"),
        ("min_opset = ", "min_opsets = ", "int8.min_opsets"),
        ('["Conv"]', '"Conv"', "int8.kernels"),
        ('kernels = { value = ["Conv"], evidence = "assumed", source = "test" }', "", "int8.kernels"),
        ("mac = 2", "mac = -2", "cost[0].float.mac"),
        ("mac = 2", "macs = 2", "cost[0].float.macs"),
        ("float = { mac = 2 }", "float = 2", "cost[0].float"),
        ('op = "Conv"\nfloat', "float", "cost[0].op"),
    ],
)
def test_malformed_file_names_the_field(tmp_path: Path, old: str, new: str, field: str) -> None:
    assert old in SMALL
    path = tmp_path / "toy.toml"
    path.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        Target.load(path)
    assert caught.value.diagnostic.code == "GO906"
    assert f"'{field}'" in caught.value.diagnostic.where


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe\x00"])
def test_not_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "toy.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        Target.load(path)
    assert caught.value.diagnostic.code == "GO906"


def test_installed_package_brings_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(SMALL)

    class Point:
        name, value, dist = "toy", "toy:PATH", None

        def load(self) -> Path:
            return path

    def points(group: str) -> list[Point]:
        return [Point()] if group == loader.GROUP else []

    monkeypatch.setattr(metadata, "entry_points", points)
    assert "toy" in Target.names()
    assert Target.load("toy").channel_step() == 8


def test_cost_is_linear_and_odd_channels_cost_more() -> None:
    cost = Cost(node=100, element=1, mac=0.5, tap=2, weight=3, odd=7)
    counts = Counts(elements=10, macs=20, taps=4, weights=5, channels=24)
    assert cost.of(counts, align=8) == 100 + 10 + 10 + 8 + 15
    assert cost.of(counts, align=16) == 100 + 10 + 10 + 8 + 15 + 28
