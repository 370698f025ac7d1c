"""How long a model may take before it is known to be harmless: more for what it really holds, little for what it claims."""

from __future__ import annotations

import pytest

from graphopt.guard.limits import Limits

KIB, GIB = 2**10, 2**30


@pytest.mark.parametrize(
    ("what", "seconds", "least", "most"),
    [
        ("3 GiB of weights", lambda given: given.for_bytes(3 * GIB), 30, 60),
        ("20,000 nodes", lambda given: given.for_nodes(20_000), 20, 60),
        ("one node", lambda given: given.for_nodes(1), 0, 0.1),
        ("200 bytes that claim 10**18 operations", lambda given: given.for_macs(200, 10**18), 0, 20),
        ("a megabyte that claims as many", lambda given: given.for_macs(1024 * KIB, 10**18), 60, 150),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_time_on_top(what: str, seconds: object, least: float, most: float) -> None:
    assert callable(seconds), what
    assert least <= seconds(Limits()) <= most


def test_a_limit_that_the_user_sets_is_the_limit() -> None:
    given = Limits(seconds=5.0)
    assert (given.base(), given.for_bytes(3 * GIB), given.for_nodes(10**6), given.for_macs(GIB, 10**12)) == (5.0, 0, 0, 0)


def test_zero_is_no_limit() -> None:
    assert Limits(seconds=0).base() is None
