"""Mending what passes can mend: the passes that the findings name, run and verified as by ``graphopt run``.

A mended model is written beside nothing and over nothing: it goes under its own name into a folder that the user names, and the
model itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from graphopt.check.finding import Checked, State
from graphopt.check.registry import load
from graphopt.check.session import Request, settings_for
from graphopt.errors import ModelError, UsageError, VerificationError
from graphopt.model.files import refuse_target
from graphopt.pipeline import Monitor
from graphopt.pipeline.manager import run

ORDER = ("simplify", "fold", "prune:ratio=0")
"""The pipelines that rules name, in the order in which they are run; fold simplifies by itself."""


def fixes(checked: Checked) -> str:
    """The pipeline that mends what passes can mend of a model; "" if there is nothing."""
    wanted = {load(f.code).fix for f in checked.findings if f.state is not State.SUPPRESSED} - {""}
    if "fold" in wanted:
        wanted.discard("simplify")
    return ",".join(one for one in (*ORDER, *sorted(wanted - set(ORDER))) if one in wanted)


def fix_models(results: Sequence[Checked], folder: Path, request: Request, monitor: Monitor) -> Iterator[str]:
    """Write the mended models into ``folder``; a line on each. A model that cannot be mended is told, and the next one is.

    Raises:
        UsageError: before anything is written: GO907 or GO908, an output exists or cannot be written; GO955, two models would be
            written to one file.
    """
    wanted = {Path(checked.model): pipeline for checked in results if (pipeline := fixes(checked))}
    names = [path.name for path in wanted]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError("GO955", "--fix", f"two models are named {twice}", "mend them one by one")
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
    for path in wanted:
        refuse_target(folder / path.name, path, True)
        if (folder / path.name).exists():
            raise UsageError("GO907", str(folder / path.name), "the output exists", "name another folder, or take it away first")
    for path, pipeline in wanted.items():
        target = settings_for(path, request).asked.target
        try:
            run(path, pipeline, target=target, timing=False, monitor=monitor).save(folder / path.name)
        except (VerificationError, ModelError) as error:
            yield f"{path}: not mended: {error.diagnostic.why}"
        else:
            yield f"{path}: {pipeline} written to {folder / path.name}"
