"""A shell that runs a suite in the background lets it ignore Ctrl-C, and every process that it starts inherits that."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """For a new process (``preexec_fn``): Ctrl-C ends it, as it does in a terminal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
