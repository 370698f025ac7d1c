"""Python's search for reference cycles, and when to leave it.

It runs whenever so many objects were made, and looks at all there are. While a graph is built (a million objects, all of which
stay) it finds nothing, and takes a quarter of the time.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

_NEW_OBJECTS = 50_000


@contextmanager
def keeping() -> Generator[None]:
    """No search while the block runs, which makes objects that stay."""
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()


@contextmanager
def rarely() -> Generator[None]:
    """Searches that are further apart while the block runs: it makes many objects that stay, and some that do not."""
    before = gc.get_threshold()
    seldom()
    try:
        yield
    finally:
        gc.set_threshold(*before)


def seldom() -> None:
    """Search less often from now on: for a process of our own."""
    gc.set_threshold(_NEW_OBJECTS)
