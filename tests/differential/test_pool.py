"""A worker that dies, hangs or raises costs its own item and nothing else."""

from __future__ import annotations

import os
import signal
import time

from tests.differential.pool import Failure, run


def work(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGFPE)
    if item == 4:
        raise ValueError("four")
    if item == 5:
        time.sleep(60)
    return item * item


def test_each_item_has_a_result_or_a_reason() -> None:
    found = dict(run(work, range(8), jobs=2, seconds=3))
    assert {i: v for i, v in found.items() if not isinstance(v, Failure)} == {0: 0, 1: 1, 2: 4, 6: 36, 7: 49}
    assert found[3] == Failure("crash", f"the worker died with exit code {-signal.SIGFPE}")
    assert found[5] == Failure("timeout", "no result in 3 s")
    assert str(found[4]).startswith("error: ValueError at work:")
