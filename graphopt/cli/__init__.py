"""The command line: ``graphopt run``, ``inspect``, ``groups``, ``passes``. One file a command, loaded when it is
called.

``app`` holds the group, ``main`` runs it and turns every failure into one message and an exit code, ``common`` what the
commands share, ``progress`` the bars.
"""

from __future__ import annotations


def main() -> None:
    """The console script ``graphopt``: run the command line, watched by a process that cannot crash, and exit."""
    import sys

    from graphopt.cli.main import supervised

    sys.exit(supervised(sys.argv[1:]))
