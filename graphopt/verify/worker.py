"""The worker process: ``python -m graphopt.verify.worker DESCRIPTOR``. See ``isolated`` for who asks.

It reads requests, a line of JSON each, from stdin and answers in kind on stdout: null, or a diagnostic of what would have taken too
much memory. The descriptor is a file to map, the page on which it tells what it is doing (``graphopt.guard.doing``). It ends when
stdin does; a thread waits for that, for the caller may be gone while native code is still at work.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import sys
import threading
from typing import Any

import numpy as np

from graphopt.analysis import Analyses
from graphopt.errors import GraphoptError
from graphopt.guard.doing import SIZE, Page, about, watch
from graphopt.guard.limits import Limits
from graphopt.guard.supervisor import leave_no_core
from graphopt.model import Model
from graphopt.runtime import Session, generated
from graphopt.runtime.session import Feed
from graphopt.verify.contact import begin, first_contact
from graphopt.verify.structure import check_structure


def main(arguments: list[str]) -> None:
    """Answer requests until there are no more."""
    watch(Page(mmap.mmap(int(arguments[0]), SIZE)))
    leave_no_core()
    # Native code may print; only answers go to the caller.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        answers.write(json.dumps(answer(json.loads(requests.get()))).encode() + b"\n")


def _listen(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def answer(request: dict[str, Any]) -> dict[str, str] | None:
    """Check, load and run the model that a request names."""
    limits = Limits(request["memory"], request["seconds"])
    try:
        begin(request["model"], limits)
        about(request["label"])
        model = Model.load(request["model"])
        model.label = request["label"]
        if request["run"]:
            _try(model, limits, request["feed"], request["seed"], request["threads"])
        else:
            with first_contact(model, limits) as contact:
                check_structure(model)
                contact.admit(Analyses(model), ())
    except GraphoptError as error:
        found = error.diagnostic
        # Everything else is found, and told, by the caller itself.
        if found.code == "GO042":
            return {"code": found.code, "where": found.where, "why": found.why, "hint": found.hint}
    except Exception:  # noqa: BLE001, S110 - as above: a bug shows in the caller, with its traceback
        pass
    return None


def _try(model: Model, limits: Limits, path: str | None, seed: int, threads: int) -> None:
    given = _read(path) if path is not None else None
    size = 0 if given is None else sum(int(value.nbytes) for value in given.values())
    with first_contact(model, limits, given=size) as contact:
        check_structure(model)
        feed = next(iter(generated(model, 1, seed))) if given is None else given
        shapes = tuple((name, tuple(value.shape)) for name, value in feed.items() if hasattr(value, "shape"))
        contact.admit(Analyses(model), shapes)
        Session(model, threads=threads).run(feed)


def _read(path: str) -> Feed:
    with np.load(path, allow_pickle=False) as stored:
        return {str(name): stored[f"input{index}"] for index, name in enumerate(stored["names"])}


if __name__ == "__main__":
    main(sys.argv[1:])
