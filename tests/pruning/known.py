"""What is known to be wrong: (case, aspect) -> why. Each is a strict expected failure, to be removed when it is mended."""

from __future__ import annotations

from typing import Any

import pytest

_COUNTS = "blocks of grouped operators and shuffles lose equal indices, not equal counts"

KNOWN: dict[tuple[str, str], str] = {
    ("grouped after a concat that straddles", "free"): _COUNTS,
    **{("grouped, shuffle, grouped", aspect): _COUNTS for aspect in ("free", "ratio")},
    **{("hostile: empty part", aspect): "a Split with an empty part is refused, though exact" for aspect in ("ratio", "masks")},
    ("shortcut padded with channels", "free"): "channels that Pad adds are frozen; it could add fewer",
    ("batch norm of zero shift and mean behind zero filters", "dead, goes"): "a batch norm passes zeros if shift and mean are zero",
    ("pad with zeros", "dead, goes"): "Pad with zeros keeps a dead channel dead",
    ("quantizers", "dead, goes"): "quantizing and dequantizing keeps zero",
    **{
        (name, "dead, goes"): "a constant channel could go into its reader's bias"
        for name in (
            "Sigmoid, 1x1 reader",
            "Sigmoid, unpadded reader",
            "a bias, 1x1 reader",
            "a bias, unpadded reader",
            "a batch norm's shift, 1x1 reader",
        )
    },
}


def parameters(names: Any, aspect: str) -> list[Any]:
    """The cases of one aspect, those that are known to be wrong marked."""
    found: list[Any] = []
    for name in names:
        why = KNOWN.get((name, aspect))
        marks = [pytest.mark.xfail(reason=why, strict=True)] if why else []
        found.append(pytest.param(name, id=name, marks=marks))
    return found
