"""What is known to be wrong: (case, aspect) -> why. Each is a strict expected failure, to be removed when it is mended."""

from __future__ import annotations

from typing import Any

import pytest

KNOWN: dict[tuple[str, str], str] = {}


def parameters(names: Any, aspect: str) -> list[Any]:
    """The cases of one aspect, those that are known to be wrong marked."""
    found: list[Any] = []
    for name in names:
        why = KNOWN.get((name, aspect))
        marks = [pytest.mark.xfail(reason=why, strict=True)] if why else []
        found.append(pytest.param(name, id=name, marks=marks))
    return found
