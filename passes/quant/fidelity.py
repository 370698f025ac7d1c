"""How far the outputs of a quantized model are from the float model's: one number, to choose between alternatives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.model import Model
from graphopt.runtime import Feed, Feeds, Session


class Judge:
    """Holds the float model's outputs on some inputs."""

    def __init__(self, reference: Model, feeds: Feeds) -> None:
        self.feeds = feeds
        session = Session(reference)
        self.outputs = [session.run(feed) for feed in feeds]

    def runs(self, model: Model) -> Iterator[tuple[Mapping[str, NDArray[Any]], Feed]]:
        """The outputs of a model, and the inputs, one sample after the other."""
        session = Session(model)
        for feed in self.feeds:
            yield session.run(feed), feed

    def agreement(self, model: Model) -> float:
        """In how many percent of the rows the largest class stays."""
        same: list[NDArray[np.bool_]] = []
        for (outputs, _), wanted in zip(self.runs(model), self.outputs, strict=True):
            same += [(outputs[name].argmax(axis=-1) == value.argmax(axis=-1)).reshape(-1) for name, value in wanted.items()]
        return 100.0 * float(np.concatenate(same).mean())

    def error(self, model: Model) -> float:
        """Squared error of the outputs over their squared size, averaged over the outputs. Only floating-point outputs count."""
        session = Session(model)
        errors: dict[str, float] = {}
        sizes: dict[str, float] = {}
        for feed, wanted in zip(self.feeds, self.outputs, strict=True):
            for name, value in session.run(feed).items():
                reference = wanted[name]
                if getattr(reference, "dtype", np.dtype(bool)).kind != "f" or reference.shape != value.shape:
                    continue
                exact = reference.astype(np.float64)
                errors[name] = errors.get(name, 0.0) + float(((value - exact) ** 2).sum())
                sizes[name] = sizes.get(name, 0.0) + float((exact**2).sum())
        if not errors:
            return 0.0
        return float(np.mean([errors[name] / max(sizes[name], 1e-30) for name in errors]))
