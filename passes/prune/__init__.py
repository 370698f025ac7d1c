"""``prune``: remove channels, provably and where the output misses them least.

Which channels hang together is the ``Channels`` analysis. Here:

- what to remove: ``plan``, from ``importance`` (within a group), ``sensitivity`` (errors at the output), ``costs``, ``latency`` and
  ``budget`` (what is saved), ``allocate`` (the knapsack); or from ``masks`` or ``dead``; ``degenerate`` data decide nothing;
- how the rest makes up for it: ``statistics`` (``expected``, without data), ``compensate``, then ``refit`` (``layers`` as
  regressions, along a ``walk``);
- the masked original that the result must equal (``reference``), and the new graph with its certificate (``realise``);
- what others take from it: ``emit`` (masks), ``survey`` (sensitivity as a table), ``probe`` (a machine's latency table).
"""

from graphopt.passes.prune.prune import Prune, ready

__all__ = ["Prune", "ready"]
