"""What the fuzzer starts from: the small bases of the damaged models, and small models of onnx's own backend tests."""

from __future__ import annotations

from pathlib import Path

from tests.damage.bases import BASES, base
from tests.differential.cases import node_cases

LARGEST = 4096
"""Bytes of a seed. A small one is mutated where it matters, and quickly."""

_EVERY = 7
"""The backend tests have many models for each operator; every seventh leaves a few of each."""


def write_seeds(folder: Path) -> int:
    """Write the start corpus into ``folder``; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: base(name)[0].SerializeToString() for name in BASES if name != "fashion"}
    small = [case for case in node_cases() if len(case.proto) <= LARGEST]
    found.update({case.name: case.proto for case in small[::_EVERY]})
    for name, raw in found.items():
        (folder / name).write_bytes(raw)
    return len(found)
