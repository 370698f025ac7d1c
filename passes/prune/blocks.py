"""The weight of a mixer as [blocks, outputs, features, taps], whatever the operator keeps it as.

A feature is a channel of the data; a tap is everything else that a column counts through (kernel positions, pixels of a
flattened axis).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.ops.channels import Labels, Mixer
from graphopt.passes.prune.statistics import Source

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """How to get from a weight to its blocks and back."""

    mixer: Mixer
    source: Source
    weight: tuple[int, ...]

    def blocks(self, weight: Array) -> Floats:
        """[blocks, outputs, features, taps], float64."""
        m, g = self.mixer, self.mixer.groups
        if len(self.weight) > 2:
            taps = int(np.prod(self.weight[2:], dtype=np.int64))
            if m.rows == 0:
                return weight.reshape(g, self.weight[0] // g, self.weight[1], taps).astype(np.float64)
            return weight.reshape(g, self.weight[0] // g, self.weight[1], taps).transpose(0, 2, 1, 3).astype(np.float64)
        return self._split(np.moveaxis(weight, m.columns, 1)).astype(np.float64)

    def _split(self, weight: Array) -> Array:
        order = self._order()
        wide = weight.reshape(weight.shape[0], *self.source.factors).transpose([0, *(k + 1 for k in order)])
        return wide.reshape(1, weight.shape[0], self.source.count, -1)

    def _order(self) -> list[int]:
        features = self.source.features
        return [*(k for k, f in enumerate(features) if f), *(k for k, f in enumerate(features) if not f)]

    def weights(self, blocks: Floats, dtype: np.dtype[Any]) -> Array:
        """The inverse of ``blocks``."""
        if len(self.weight) > 2:
            made = blocks if self.mixer.rows == 0 else blocks.transpose(0, 2, 1, 3)
            return np.ascontiguousarray(made.reshape(self.weight).astype(dtype))
        order = self._order()
        rows = blocks.shape[1]
        wide = blocks.reshape(rows, *(self.source.factors[k] for k in order))
        back = wide.transpose([0, *(int(k) + 1 for k in np.argsort(order))]).reshape(rows, -1)
        return np.ascontiguousarray(np.moveaxis(back, 1, self.mixer.columns).astype(dtype))

    def features_of(self, block: int) -> slice:
        """The features of the source that a block reads."""
        size = self.source.count // self.mixer.groups
        return slice(block * size, (block + 1) * size)


def feature_classes(graph: ChannelGraph, mixer: Mixer, source: Source) -> Labels | None:
    """The class of every feature of a source."""
    layout = graph.flow.layout(graph.nodes[mixer.node].inputs[mixer.data or 0])
    if layout is None:
        return None
    fields = layout.fields_on(source.axis)
    if len(fields) != 1 or any(at not in layout.span(source.axis) for at in fields[0].at):
        return None
    return graph.flow.table.find(fields[0].labels.reshape(-1))


def shape_of(graph: ChannelGraph, mixer: Mixer, source: Source) -> Shape | None:
    """The block form of a mixer's weight; None if the weight is not known or not of that form."""
    value = graph.model.value(graph.nodes[mixer.node].inputs[mixer.weight])
    if value is None or value.dtype.kind != "f" or (value.ndim == 2 and mixer.groups != 1):
        return None
    if value.ndim > 2 and not all(source.features):
        return None
    columns = value.shape[mixer.columns] * (1 if mixer.columns == 0 or value.ndim == 2 else mixer.groups)
    if columns != int(np.prod(source.factors, dtype=np.int64)):
        return None
    return Shape(mixer, source, value.shape)
