"""What is known to be wrong: (case, aspect) -> why. Each is a strict expected failure, to be removed when it is mended."""

from __future__ import annotations

from typing import Any

import pytest

_COUNTS = "blocks of grouped operators and shuffles lose equal indices, not equal counts"

KNOWN: dict[tuple[str, str], str] = {
    ("grouped after a concat that straddles", "free"): _COUNTS,
    **{("grouped, shuffle, grouped", aspect): _COUNTS for aspect in ("free", "ratio")},
    ("tokens", "reader, goes"): "a MatMul with no Add after it could get one",
    ("concat", "reader, goes"): "a channel that is one constant here and another there could go into the bias with both",
    ("shortcut padded with channels", "free"): "channels that Pad adds are frozen; it could add fewer",
}


def parameters(names: Any, aspect: str) -> list[Any]:
    """The cases of one aspect, those that are known to be wrong marked."""
    found: list[Any] = []
    for name in names:
        why = KNOWN.get((name, aspect))
        marks = [pytest.mark.xfail(reason=why, strict=True)] if why else []
        found.append(pytest.param(name, id=name, marks=marks))
    return found
