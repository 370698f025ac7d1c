"""What a pass is given beside the model: the target, the data, the seed, and somebody to tell.

A context lives for one run of one pass. It notes whether the pass looked at the data (``data_used``), so that the
report can say loudly when that data was made up, without every pass having to.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from graphopt.analysis import Analyses
    from graphopt.model import Model
    from graphopt.runtime import Feeds
    from graphopt.target import Target

InputShapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Input name and shape, in the order of the model's inputs: what ``Shapes(inputs=...)`` and ``Cost(inputs=...)``
take."""

DEFAULT_TARGET = "ort-x86-vnni"


class Progress(Protocol):
    """One running bar."""

    def advance(self, n: int = 1) -> None:
        """``n`` more steps are done."""
        ...


class Monitor(Protocol):
    """Whoever watches a run: the command line with its bars, or nobody."""

    def progress(self, label: str, total: int | None) -> AbstractContextManager[Progress]:
        """Open a bar of ``total`` steps (None: not known)."""
        ...

    def log(self, message: str) -> None:
        """One line on what is going on."""
        ...


class _NoProgress:
    def advance(self, n: int = 1) -> None:
        del n


class Silent:
    """Nobody watches."""

    def progress(self, label: str, total: int | None) -> AbstractContextManager[Progress]:
        del label, total
        return nullcontext(_NoProgress())

    def log(self, message: str) -> None:
        del message


def shapes_of(feeds: Feeds) -> InputShapes:
    """The shape of each input in the first feed; inputs that are no tensors are left out."""
    return tuple((name, tuple(value.shape)) for name, value in feeds.first().items() if hasattr(value, "shape"))


class Context:
    """What a pass is given beside the model.

    Args:
        original: the model as the user gave it, before any pass. Not to be edited.
        target: the device; the default target when left out.
        feeds: the data, from the user or generated; eight generated inputs when left out.
        seed: for everything that draws.
        threads: threads of one operator wherever the pass runs a model.
        monitor: gets progress and log lines; nobody when left out.
        timing: whether a pass may measure time on this machine.
    """

    def __init__(
        self,
        original: Model,
        *,
        target: Target | None = None,
        feeds: Feeds | None = None,
        seed: int = 0,
        threads: int = 1,
        monitor: Monitor | None = None,
        timing: bool = False,
    ) -> None:
        if target is None:
            from graphopt.target import Target

            target = Target.load(DEFAULT_TARGET)
        if feeds is None:
            from graphopt.runtime import generated

            feeds = generated(original, seed=seed)
        self.original = original
        self.target = target
        self.seed = seed
        self.threads = threads
        self.timing = timing
        self.data_used = False
        self._feeds = feeds
        self._monitor: Monitor = Silent() if monitor is None else monitor
        self._analyses: dict[int, Analyses] = {}
        self._input_shapes: InputShapes | None = None

    @property
    def feeds(self) -> Feeds:
        """The data: what the user gave, or generated inputs; ``calibrated`` says which. Reading it is noted in the
        report.
        """
        self.data_used = True
        return self._feeds

    @property
    def calibrated(self) -> bool:
        """Whether the data is the user's."""
        return self._feeds.calibrated

    def analyses(self, model: Model) -> Analyses:
        """The analyses of a model, made once for each model and kept for as long as this context."""
        found = self._analyses.get(id(model))
        if found is None:
            from graphopt.analysis import Analyses

            # The analyses hold the model, so its id stays taken for as long as this entry lives.
            found = self._analyses[id(model)] = Analyses(model)
        return found

    def input_shapes(self) -> InputShapes:
        """The shape of each input in the first feed, which settles dynamic dimensions."""
        if self._input_shapes is None:
            self._input_shapes = shapes_of(self._feeds)
        return self._input_shapes

    def progress(self, label: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """A bar: ``with ctx.progress("calibrate", len(feeds)) as bar: ... bar.advance()``."""
        return self._monitor.progress(label, total)

    def log(self, message: str) -> None:
        """Tell whoever watches, in one line."""
        self._monitor.log(message)
