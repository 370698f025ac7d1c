"""The label table: which labels go together (union-find), and which cannot go, with the reason.

Labels are numbered as they are made; the representative of a class is its least label, so that results do not depend on the
order in which classes were joined.

There are two partitions, one finer than the other. Labels that are *the same channel* (two terms of a sum) are one in both.
Labels that only go together because blocks must shrink alike (those of a grouped convolution, of a shuffle, of heads: as many in
each, not necessarily the same ones) are one in the coarser alone: which channel of one block goes with which of another is free,
as long as the channels of a block are put in another order everywhere (``graphopt.passes.prune.reorder``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.ops.channels import Labels


class LabelTable:
    """All labels of one graph."""

    def __init__(self) -> None:
        self._parent: Labels = np.zeros(1024, np.int64)
        self._same: Labels = np.zeros(1024, np.int64)
        self._count = 0
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return self._count

    def fresh(self, count: int) -> Labels:
        """New labels, each a class of its own."""
        start, end = self._count, self._count + count
        if end > self._parent.size:
            more = np.zeros(max(end, 2 * self._parent.size) - self._parent.size, np.int64)
            self._parent = np.concatenate([self._parent, more])
            self._same = np.concatenate([self._same, more])
        made = np.arange(start, end, dtype=np.int64)
        self._parent[start:end] = made
        self._same[start:end] = made
        self._count = end
        return made

    def find(self, labels: Labels) -> Labels:
        """The representatives of the labels' classes."""
        return _find(self._parent, labels)

    def find_same(self, labels: Labels) -> Labels:
        """The representatives in the finer partition."""
        return _find(self._same, labels)

    def unite(self, a: Labels, b: Labels, *, alike: bool = False) -> None:
        """Join the classes of labels that meet when the two arrays are broadcast; ``alike``: in the coarser partition only."""
        for parent in (self._parent,) if alike else (self._parent, self._same):
            _unite(parent, a, b)

    def _root(self, label: int) -> int:
        return _root(self._parent, label)

    def freeze(self, labels: Labels, why: str) -> None:
        """The classes of these labels cannot go. The first reason given for a class is kept."""
        for root in np.unique(self.find(labels)).tolist():
            self._reasons.setdefault(root, why)

    def frozen(self) -> dict[int, str]:
        """The representatives of all frozen classes, with the reason."""
        found: dict[int, str] = {}
        for label, why in self._reasons.items():
            found.setdefault(self._root(label), why)
        return found

    def marked(self, roots: Labels) -> NDArray[np.bool_]:
        """For every label whether its class is one of ``roots``."""
        chosen = np.zeros(self._count, bool)
        chosen[roots] = True
        return chosen[self.find(np.arange(self._count, dtype=np.int64))]


def _find(parent: Labels, labels: Labels) -> Labels:
    roots = parent[labels]
    while True:
        above = parent[roots]
        if np.array_equal(above, roots):
            break
        roots = above
    parent[labels.reshape(-1)] = roots.reshape(-1)
    return roots


def _root(parent: Labels, label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = int(parent[label])
    return label


def _unite(parent: Labels, a: Labels, b: Labels) -> None:
    first, second = np.broadcast_arrays(_find(parent, a), _find(parent, b))
    apart = first != second
    if not apart.any():
        return
    low_high = np.sort(np.stack([first[apart], second[apart]], 1), axis=1)
    lows, highs = low_high[:, 0], low_high[:, 1]
    if np.unique(highs).size == highs.size and not np.isin(lows, highs).any():
        parent[highs] = lows  # as usual: two vectors of as many channels, none of them joined before
        return
    for x, y in np.unique(low_high, axis=0).tolist():
        low, high = sorted((_root(parent, x), _root(parent, y)))
        parent[high] = low
