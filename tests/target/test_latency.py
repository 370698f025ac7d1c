"""Latency tables: the staircase, the text of a table and back, malformed ones."""

from __future__ import annotations

import pytest

from graphopt.errors import UsageError
from graphopt.target.latency import LatencyTable, ShapeKey, Staircase, to_toml
from graphopt.target.loader import parse

DENSE = ShapeKey("Conv", (3, 3), (1, 1), (1, 1), size=(28, 28))
DEPTHWISE = ShapeKey("Conv", (3, 3), (1, 1), (1, 1), "depthwise", size=(28, 28))
TABLE = LatencyTable(
    16, 4, 1.5, 0.25,
    {
        DENSE: Staircase(DENSE, (16, 32, 64), (16, 64), ((10.0, 40.0), (20.0, 80.0), (40.0, 160.0)), 1.5),
        DEPTHWISE: Staircase(DEPTHWISE, (), (16, 64), ((8.0, 32.0),), 3.0),
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "inputs", "outputs", "expected"),
    [
        (DENSE, 16, 16, 10.0), (DENSE, 64, 64, 160.0),
        (DENSE, 64, 36, 120.0), (DENSE, 64, 48, 120.0),  # 36 channels take the time of 48
        (DENSE, 33, 64, 1.5 * 120.0),  # another layout, and rounded up to 48
        (DENSE, 128, 64, 320.0),  # on from the last two points
        (DEPTHWISE, 32, 32, 16.0), (DEPTHWISE, 30, 30, 48.0),
    ],
)  # fmt: skip
def test_times(key: ShapeKey, inputs: int, outputs: int, expected: float) -> None:
    assert TABLE.time(key, inputs, outputs) == (pytest.approx(expected), True)


def test_a_shape_that_is_not_there_has_the_rate_of_the_nearest() -> None:
    other = ShapeKey("Conv", (3, 3), (1, 1), (1, 1), size=(14, 14))
    time, known = TABLE.time(other, 32, 64)
    assert not known
    assert 5.0 < time < 40.0
    assert LatencyTable().time(other, 32, 64) == (0.0, False)


def target(table: str) -> str:
    return f'name = "toy"\n[channel_step]\nfloat32 = {{ value = 8, evidence = "assumed", source = "test" }}\n{table}'


def test_the_text_of_a_table_gives_it_back() -> None:
    found = parse(target(to_toml(TABLE, 'a "quoted" source')), "toy.toml")
    assert found.latency == TABLE
    assert found.evidence["latency"].kind == "measured"
    assert found.evidence["latency"].source == 'a "quoted" source'


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("step = 16", "step = 0", "latency.step"), ("scale = 1.5000", "scale = -1", "latency.scale"),
        ('evidence = "measured"', "", "latency.evidence"), ("[16, 64]", "[64, 16]", r"latency.shape\[0\]"),
        ("us = [[10.0, 40.0], ", "us = [", "latency.shape.0..us"), ("us = [[10.0", 'us = [["fast"', "latency.shape.0..us"),
        ("us = [[10.0, 40.0], [20.0, 80.0], [40.0, 160.0]]", "us = 3", "latency.shape.0..us"),
        ('grouping = "dense"', 'grouping = "some"', "latency.shape.0..grouping"),
        ("odd = 1.5", "even = 1.5", "latency.shape.0..even"),
    ],
)  # fmt: skip
def test_malformed_tables_name_the_field(old: str, new: str, field: str) -> None:
    text = to_toml(TABLE, "test")
    assert old in text
    with pytest.raises(UsageError, match=f"GO906.*{field}"):
        parse(target(text.replace(old, new, 1)), "toy.toml")
