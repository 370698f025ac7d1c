"""Limits of memory inside a process that is watched."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
from graphopt.guard.doing import Page, watch
from graphopt.guard.limits import at_most
if {watched}:
    watch(Page())
with at_most(2**26):
    try:
        bytearray(2**28)
        print("got it")
    except MemoryError:
        print("refused")
bytearray(2**28)
print("got it")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits private writable memory")
@pytest.mark.parametrize(("watched", "inside"), [(True, "refused"), (False, "got it")])
def test_a_watched_process_is_limited_in_the_block_and_not_behind_it(watched: bool, inside: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(watched=watched)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [inside, "got it"]
