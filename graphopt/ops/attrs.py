"""Typed access to node attributes; a wrong type reads as the default, so a damaged node is declined, not a crash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx_graphsurgeon as gs


def int_(node: gs.Node, name: str, default: int) -> int:
    """An INT attribute."""
    value = node.attrs.get(name, default)
    return value if isinstance(value, int) else default


def float_(node: gs.Node, name: str, default: float) -> float:
    """A FLOAT attribute. It has 32 bits, and so has the default that a schema gives it."""
    value = node.attrs.get(name)
    return float(value) if isinstance(value, (int, float)) else float(np.float32(default))


def str_(node: gs.Node, name: str, default: str) -> str:
    """A STRING attribute."""
    value = node.attrs.get(name, default)
    return value if isinstance(value, str) else default


def ints(node: gs.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An INTS attribute."""
    value = node.attrs.get(name)
    if isinstance(value, (list, tuple)):
        listed = cast("Sequence[object]", value)
        found = tuple(v for v in listed if isinstance(v, int))
        if len(found) == len(listed):
            return found
    return tuple(default)
