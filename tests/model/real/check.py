"""The tests that every theme's table goes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.model.real import oracle
from tests.model.real.oracle import LOSSY, Real


def suite(cases: Mapping[str, Real]) -> Callable[[str, str, Path], None]:
    """One test of every case and door; assign it to a name that pytest collects."""

    @pytest.mark.parametrize("door", ["unchanged", "told", "exact", *LOSSY])
    @pytest.mark.parametrize("name", list(cases))
    def test(name: str, door: str, tmp_path: Path) -> None:
        case = cases[name]
        match door:
            case "unchanged":
                oracle.comes_through_unchanged(case)
            case "told":
                oracle.is_told(case, tmp_path / "model.onnx")
            case "exact":
                oracle.computes_the_same(case)
            case _:
                oracle.comes_out_sound(case, door)

    return test
