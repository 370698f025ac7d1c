"""What kernels read, in files and in parts: the same figures as of arrays at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphopt.passes.quant.seen import Seen


def both(folder: Path, positions: int, groups: int, columns: int, seed: int = 0) -> tuple[Seen, Seen]:
    """In memory, and in files."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(3, 1, (positions, groups, columns)).astype(np.float32) for _ in range(2)]
    files = [folder / name for name in ("exact", "quantized")]
    for file, array in zip(files, arrays, strict=True):
        file.write_bytes(array.tobytes())
    return Seen.of(*arrays), Seen.stored(files[0], files[1], groups, columns)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 1, 5), (100, 3, 4), (64, 8, 2)])
@pytest.mark.parametrize("part", [1, 300, 2**20])
def test_files_in_parts_are_as_good_as_arrays(
    shape: tuple[int, int, int], part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphopt.passes.quant.seen.PART_BYTES", part)
    whole, stored = both(tmp_path, *shape)
    assert stored.shape == whole.shape == shape
    assert stored.damping == whole.damping
    for centred in (True, False):
        np.testing.assert_allclose(stored.second(centred=centred), whole.second(centred=centred), rtol=1e-4, atol=1e-6)
    weight = np.random.default_rng(1).normal(size=(shape[1], 6, shape[2])).astype(np.float32)
    for a, b in zip(stored.outputs(weight, -weight), whole.outputs(weight, -weight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("centred", [True, False])
def test_moments_are_those_of_numpy_but_for_the_unit(centred: bool, tmp_path: Path) -> None:
    seen, _ = both(tmp_path, 500, 2, 4)
    ((_, x),) = seen.parts()
    for group, found in enumerate(seen.second(centred=centred)):
        rows = x[:, group].astype(np.float64)
        wanted = np.cov(rows.T, bias=True) if centred else rows.T @ rows / len(rows)
        np.testing.assert_allclose(found / found[0, 0], wanted / wanted[0, 0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e19, -3.0])
def test_what_never_varies_has_no_covariance(value: float) -> None:
    constant = np.full((50, 1, 3), value, np.float32)
    assert np.abs(Seen.of(constant, constant).second(centred=True)).max() < 1e-9
