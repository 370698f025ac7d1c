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
from graphopt.errors import UsageError, VerificationError
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


def fix_models(results: Sequence[Checked], folder: Path, request: Request, monitor: Monitor) -> list[str]:
    """Write the mended models into ``folder``; a line on each.

    Raises:
        UsageError: GO907 or GO908, an output exists or cannot be written; GO955, two models would be written to one file.
    """
    return list(_fix(results, folder, request, monitor))


def _fix(results: Sequence[Checked], folder: Path, request: Request, monitor: Monitor) -> Iterator[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [Path(checked.model).name for checked in results if fixes(checked)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError("GO955", "--fix", f"two models are named {twice}", "mend them one by one")
    for checked in results:
        pipeline = fixes(checked)
        if not pipeline:
            continue
        out = folder / Path(checked.model).name
        settings = settings_for(Path(checked.model), request)
        try:
            result = run(checked.model, pipeline, target=settings.asked.target, timing=False, monitor=monitor)
        except VerificationError as error:
            yield f"{checked.model}: not mended: {error.diagnostic.why}"
            continue
        result.save(out)
        yield f"{checked.model}: {pipeline} written to {out}"
