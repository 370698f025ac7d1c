"""The label table: which labels go together (union-find), and which cannot go, with the reason.

Labels are numbered as they are made; the representative of a class is its least label, so that results do not depend on the
order in which classes were joined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.ops.channels import Labels


class LabelTable:
    """All labels of one graph."""

    def __init__(self) -> None:
        self._parent: Labels = np.zeros(1024, np.int64)
        self._count = 0
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return self._count

    def fresh(self, count: int) -> Labels:
        """New labels, each a class of its own."""
        start, end = self._count, self._count + count
        if end > self._parent.size:
            grown = np.zeros(max(end, 2 * self._parent.size), np.int64)
            grown[:start] = self._parent[:start]
            self._parent = grown
        made = np.arange(start, end, dtype=np.int64)
        self._parent[start:end] = made
        self._count = end
        return made

    def find(self, labels: Labels) -> Labels:
        """The representatives of the labels' classes."""
        roots = self._parent[labels]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[labels.reshape(-1)] = roots.reshape(-1)
        return roots

    def unite(self, a: Labels, b: Labels) -> None:
        """Join the classes of labels that meet when the two arrays are broadcast."""
        first, second = np.broadcast_arrays(self.find(a), self.find(b))
        apart = first != second
        if not apart.any():
            return
        low_high = np.sort(np.stack([first[apart], second[apart]], 1), axis=1)
        lows, highs = low_high[:, 0], low_high[:, 1]
        if np.unique(highs).size == highs.size and not np.isin(lows, highs).any():
            self._parent[highs] = lows  # as usual: two vectors of as many channels, none of them joined before
            return
        for x, y in np.unique(low_high, axis=0).tolist():
            low, high = sorted((self._root(x), self._root(y)))
            self._parent[high] = low

    def _root(self, label: int) -> int:
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = int(self._parent[label])
        return label

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
