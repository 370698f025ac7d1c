"""Finding what a constant lost: by value where all differ, by slices where values repeat, within each block of its own."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pruning.elements import Unrelated, missing


def _weight(distinct: bool, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    count = int(np.prod(shape))
    return (rng.permutation(count) if distinct else rng.integers(0, 50, count)).reshape(shape).astype(np.float32)


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(8, 5), (5, 8), (5, 5), (8, 8)])
def test_rows_and_columns(rows: int, columns: int, moved: bool, distinct: bool) -> None:
    rng = np.random.default_rng(1)
    old = _weight(distinct, 8, 8, 3, 3)
    kept = [rng.choice(8, n, replace=False) for n in (rows, columns)]
    kept = kept if moved else [np.sort(k) for k in kept]
    expected = np.ones(old.shape, bool)
    expected[np.ix_(*kept)] = False
    assert np.array_equal(missing(old, old[np.ix_(*kept)]), expected)


@pytest.mark.parametrize("distinct", [True, False])
def test_columns_that_differ_from_block_to_block(distinct: bool) -> None:
    old = _weight(distinct, 6, 4, 3, 3)
    blocks = np.split(old, 2)
    new = np.concatenate([blocks[0][:, [0, 3]], blocks[1][:, [1, 2]]])
    gone = missing(old, new, 2)
    assert gone[0].all((1, 2)).tolist() == [False, True, True, False]
    assert gone[5].all((1, 2)).tolist() == [True, False, False, True]


def test_other_values_are_no_selection() -> None:
    with pytest.raises(Unrelated):
        missing(_weight(False, 8, 8), _weight(False, 8, 8)[:5] + 1)
