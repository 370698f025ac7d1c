"""Which elements of a constant a pruned graph did not keep, from the two values alone.

Removal takes whole slices, so a constant can be compared with what became of it without asking who made it smaller. In small
networks the weights are drawn all different (``nets.Distinct``) and an element is found by its value, however the channels of each
block were chosen or moved. Large weights repeat values; there a slice is found by all of its elements, first along few rows and
then along all.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bools = NDArray[np.bool_]

SMALL = 1 << 14
"""Up to this many elements, values are looked up one by one if they are all different."""


class Unrelated(Exception):
    """The new constant is no selection of the old one's slices."""


def missing(old: Array, new: Array, blocks: int = 1) -> Bools:
    """For each element of ``old`` whether ``new`` lacks it; ``blocks`` divide the first axis (grouped convolutions)."""
    gone = np.zeros(old.shape, bool)
    if old.shape == new.shape:
        return gone
    if old.ndim != new.ndim:
        raise Unrelated(f"{old.shape} became {new.shape}")
    if old.size <= SMALL and np.unique(old).size == old.size:
        gone = ~np.isin(old, new)
        if np.count_nonzero(~gone) != new.size:
            raise Unrelated(f"{new.size} elements, of which {np.count_nonzero(~gone)} come from the {old.size} of before")
        return gone
    apart = [axis for axis in range(old.ndim) if old.shape[axis] != new.shape[axis]]
    if len(apart) > 2:
        raise Unrelated(f"{old.shape} became {new.shape}")
    if blocks > 1 and 1 in apart:  # each block may have lost others
        parts = zip(np.split(old, blocks), np.split(new, blocks), strict=True)
        return np.concatenate([missing(a, b) for a, b in parts])
    if len(apart) == 1:
        inside = np.moveaxis(gone, apart[0], 0)
        inside[...] = True
        inside[_along(np.moveaxis(old, apart[0], 0), np.moveaxis(new, apart[0], 0))] = False
        return gone
    return _rectangle(old, new, *apart)


def _along(old: Array, new: Array) -> NDArray[np.int64]:
    """Where the slices of ``new`` are in ``old``; equal slices are taken from the front."""
    a, b = old.reshape(len(old), -1), new.reshape(len(new), -1)
    try:
        return _matched(a[:, :256], b[:, :256])
    except Unrelated:  # what is along the other axes may have been moved
        return _matched(np.sort(a, 1), np.sort(b, 1))


def _matched(a: Array, b: Array) -> NDArray[np.int64]:
    places: dict[bytes, list[int]] = {}
    for k in reversed(range(len(a))):
        places.setdefault(a[k].tobytes(), []).append(k)
    positions: list[int] = []
    for row in b:
        if not places.get(row.tobytes()):
            raise Unrelated("a slice that was not there")
        positions.append(places[row.tobytes()].pop())
    return np.asarray(positions, np.int64)


def _rectangle(old: Array, new: Array, first: int, second: int) -> Bools:
    """Two axes became shorter: find some rows, by them all columns, by these all rows."""
    a = np.moveaxis(old, (first, second), (0, 1)).reshape(old.shape[first], old.shape[second], -1)
    b = np.moveaxis(new, (first, second), (0, 1)).reshape(new.shape[first], new.shape[second], -1)
    rows = _some_rows(a, b, min(4, len(b)))
    columns = _matched(a[rows].swapaxes(0, 1).reshape(a.shape[1], -1), b[: len(rows)].swapaxes(0, 1).reshape(b.shape[1], -1))
    found = _matched(a[:, columns[:64]].reshape(len(a), -1), b[:, :64].reshape(len(b), -1))
    if not np.array_equal(a[np.ix_(found, columns)], b):
        raise Unrelated("rows and columns were found that do not give the new value")
    gone = np.ones(old.shape, bool)
    np.moveaxis(gone, (first, second), (0, 1))[np.ix_(found, columns)] = False
    return gone


def _some_rows(a: Array, b: Array, count: int) -> list[int]:
    found: list[int] = []
    for row in b[:count]:
        taps = Counter(tap.tobytes() for tap in row)
        where = np.unique(np.nonzero(a[:, :, 0] == row[0, 0])[0]).tolist()
        likely = (k for k in where if k not in found and np.isin(row, a[k]).all())
        at = next((k for k in likely if taps <= Counter(tap.tobytes() for tap in a[k])), None)
        if at is None:
            raise Unrelated("a row that was not there")
        found.append(at)
    return found
