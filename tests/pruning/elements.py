"""Which elements of a constant a pruned graph did not keep, from the two values alone.

Removal takes whole slices and keeps the order of what is left, so a constant can be compared with what became of it without
asking who made it smaller. In small networks the weights are drawn all different (``nets.Distinct``) and an element is found by
its value, however the channels of each block were chosen. Large weights repeat values; there a slice is found by all of its
elements, first along few rows and then along all.
"""

from __future__ import annotations

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
    if len(apart) == 1:
        kept = _along(np.moveaxis(old, apart[0], 0), np.moveaxis(new, apart[0], 0))
        np.moveaxis(gone, apart[0], 0)[...] = True
        np.moveaxis(gone, apart[0], 0)[kept] = False
        return gone
    if len(apart) > 2:
        raise Unrelated(f"{old.shape} became {new.shape}")
    if blocks > 1:
        parts = zip(np.split(old, blocks), np.split(new, blocks), strict=True)
        return np.concatenate([missing(a, b) for a, b in parts])
    return _rectangle(old, new, *apart)


def _along(old: Array, new: Array) -> NDArray[np.int64]:
    """Where the slices of ``new`` are in ``old``, in order; equal slices are taken from the front."""
    positions: list[int] = []
    at = 0
    width = min(256, int(np.prod(old.shape[1:])))
    a, b = old.reshape(len(old), -1)[:, :width], new.reshape(len(new), -1)[:, :width]
    for row in b:
        while at < len(a) and not np.array_equal(a[at], row):
            at += 1
        if at == len(a):
            raise Unrelated("a slice that was not there")
        positions.append(at)
        at += 1
    return np.asarray(positions, np.int64)


def _rectangle(old: Array, new: Array, first: int, second: int) -> Bools:
    """Two axes became shorter: find some rows, by them all columns, by these all rows."""
    a = np.moveaxis(old, (first, second), (0, 1)).reshape(old.shape[first], old.shape[second], -1)
    b = np.moveaxis(new, (first, second), (0, 1)).reshape(new.shape[first], new.shape[second], -1)
    rows = _some_rows(a, b, min(4, len(b)))
    columns = _along(a[rows].swapaxes(0, 1), b[: len(rows)].swapaxes(0, 1))
    found = _along(a[:, columns[:64]], b[:, :64])
    gone = np.ones(old.shape, bool)
    inside = np.moveaxis(gone, (first, second), (0, 1))
    inside[np.ix_(found, columns)] = False
    if not np.array_equal(a[np.ix_(found, columns)], b):
        raise Unrelated("rows and columns were found that do not give the new value")
    return gone


def _some_rows(a: Array, b: Array, count: int) -> list[int]:
    found: list[int] = []
    for row in b[:count]:
        start = found[-1] + 1 if found else 0
        where = np.unique(np.nonzero(a[start:] == row[0, 0])[0]) + start
        at = next((int(k) for k in where if np.isin(row, a[k]).all()), None)
        if at is None:
            raise Unrelated("a row that was not there")
        found.append(at)
    return found
