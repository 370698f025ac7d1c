"""A pipeline: passes in their order, as a value that prints as the text that makes it.

>>> pipeline = Pipeline.parse("fold,prune:macs=0.7:multiple=8")
>>> str(pipeline)
'fold,prune:macs=0.7:multiple=8'
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from graphopt.pipeline.base import Pass
from graphopt.pipeline.registry import make
from graphopt.spec import parse


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Passes in the order in which they run."""

    passes: tuple[Pass, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Read a pipeline's text (``graphopt.spec`` has the grammar).

        Raises:
            UsageError: the text is wrong, or names a pass or option that there is not.
        """
        return cls(tuple(make(one) for one in parse(text)))

    @classmethod
    def of(cls, passes: Passes) -> Pipeline:
        """A pipeline from whatever says it: a text, a pass, a pipeline, or a sequence of texts and passes."""
        if isinstance(passes, Pipeline):
            return passes
        if isinstance(passes, str):
            return cls.parse(passes)
        if isinstance(passes, Pass):
            return cls((passes,))
        return cls(tuple(one for part in passes for one in cls.of(part).passes))

    def __str__(self) -> str:
        return ",".join(str(one) for one in self.passes)


Passes: TypeAlias = "Pipeline | Pass | str | Iterable[Pass | str]"
"""Whatever says a pipeline."""
