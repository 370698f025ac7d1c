"""What the commands that compile a model have in common.

The outputs' paths are looked at first, before the long work; they are written last, after every pass was verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphopt.cli.progress import watching
from graphopt.errors import BudgetError, UsageError
from graphopt.guard.doing import watched
from graphopt.guard.limits import Limits
from graphopt.model import Model
from graphopt.model.files import refuse_target
from graphopt.pipeline.manager import Result, run
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.record import Report
from graphopt.target import Target
from graphopt.verify.contact import begin


def compiled(
    model: str,
    pipeline: Pipeline,
    target: str,
    outputs: Sequence[Path | None],
    *,
    force: bool,
    freeze_initializers: bool,
    inline_functions: bool,
    memory_limit: int | None,
    time_limit: float | None,
    **settings: Any,
) -> Result:
    """Load a model and run a pipeline over it; nothing is written.

    Args:
        model: path of the model.
        pipeline: the passes.
        target: the device, by name or TOML file.
        outputs: the files that will be written, None for one that nobody asked for.
        force: whether they may exist.
        freeze_initializers: as for ``Model.load``.
        inline_functions: likewise.
        memory_limit: as for ``graphopt.run``.
        time_limit: likewise.
        **settings: the others of ``graphopt.run``.

    Raises:
        UsageError: an output exists, is the model or a file that it reads, or is another output; and what ``run`` raises.
    """
    device = Target.load(target)
    wanted = [path for path in outputs if path is not None]
    _refuse_outputs(Path(model), wanted, force)
    begin(model, Limits(memory_limit, time_limit))
    loaded = Model.load(model, freeze_initializers=freeze_initializers, inline_functions=inline_functions)
    for path in wanted:  # now that it is known what the model reads besides its own file
        loaded.refuse_output(path, force=force)
    with watching() as monitor:
        return run(
            loaded,
            pipeline,
            target=device,
            monitor=monitor,
            memory_limit=memory_limit,
            time_limit=time_limit,
            isolate=watched() is None,
            **settings,
        )


def check_faster(report: Report, outputs: Sequence[Path | None], *, force: bool) -> None:
    """Nobody prunes to be slower. Raises BudgetError GO402, unless ``force``, where a result to be written is not faster."""
    for record in report.passes:
        if force or not any(outputs) or not record.facts.get("not_faster"):
            continue
        why = next((note for note in record.notes if note.startswith("NOT FASTER")), "the pruned model is not faster")
        hint = "widths on the device's steps (`prune:multiple=`), `prune:latency=`, or --force to write it all the same"
        raise BudgetError("GO402", f"{report.model}: {record.text}", f"{why}; nothing was written", hint)


def _refuse_outputs(model: Path, outputs: Sequence[Path], force: bool) -> None:
    """Raises UsageError for outputs that exist, are the model itself, or are one file."""
    for path in outputs:
        refuse_target(path, model, force)
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise UsageError("GO908", str(outputs[0]), "two outputs would be one file", "name two files")
