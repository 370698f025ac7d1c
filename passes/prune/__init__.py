"""``prune``: remove channels, provably and where the output misses them least.

Which channels hang together is the ``Channels`` analysis. Here: what to remove (``plan``, from ``importance``, ``sensitivity``,
``allocate``, or from ``masks`` or ``dead``), how the rest makes up for it (``statistics``, ``compensate``), the masked original
that the result must equal (``reference``), and the new graph with its certificate (``realise``).
"""

from graphopt.passes.prune.prune import Prune, ready

__all__ = ["Prune", "ready"]
