"""The cache of analyses: keyed by type and parameters, dropped when the model's version moves on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, cast

from graphopt.model import Model

T = TypeVar("T")


class Analysis(ABC, Generic[T]):
    """A computation on a model. Subclasses are frozen dataclasses: equal parameters give an equal key."""

    @abstractmethod
    def compute(self, analyses: Analyses) -> T:
        """The facts about ``analyses.model``; other analyses are taken from ``analyses``."""


class Analyses:
    """The analyses of one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._version = model.version
        self._cache: dict[Analysis[Any], Any] = {}

    def get(self, analysis: Analysis[T]) -> T:
        """The result of ``analysis`` for the model as it is now."""
        if self._version != self.model.version:
            self._cache.clear()
            self._version = self.model.version
        if analysis not in self._cache:
            self._cache[analysis] = analysis.compute(self)
        return cast("T", self._cache[analysis])
