"""A pipeline: passes in their order, as a value that prints as the text that makes it.

>>> pipeline = Pipeline.parse("fold,prune:macs=0.7:multiple=8")
>>> str(pipeline)
'fold,prune:macs=0.7:multiple=8'
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from graphopt.errors import UsageError
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

    def given(self, flag: str, value: object) -> Pipeline:
        """This pipeline with an option, given as a flag of the command line (``--allow-slower``), in each pass that has it.

        Raises:
            UsageError: GO912, no pass here has the option; GO914, a pass was given another value in its text.
        """
        name = flag.lstrip("-").replace("-", "_")
        passes = tuple(_with(one, name, value, flag) for one in self.passes)
        if all(new is old for new, old in zip(passes, self.passes, strict=True)):
            raise UsageError("GO912", flag, f"no pass of '{self}' has this option", "add one that has it: `--passes fold,quant`")
        return Pipeline(passes)

    def __str__(self) -> str:
        return ",".join(str(one) for one in self.passes)


def _with(one: Pass, name: str, value: object, flag: str) -> Pass:
    field = next((f for f in fields(one) if f.init and f.name == name), None)
    if field is None:
        return one
    if getattr(one, name) not in (field.default, value):
        raise UsageError("GO914", flag, f"'{one}' gives this option another value", "keep one")
    change: dict[str, Any] = {name: value}
    return replace(one, **change)


Passes: TypeAlias = "Pipeline | Pass | str | Iterable[Pass | str]"
"""Whatever says a pipeline."""
