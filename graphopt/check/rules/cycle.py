"""The graph has a cycle.

What: A node reads, by way of others, what it computes itself; reads of the bodies of If, Loop and Scan count.

Why: There is no order in which the nodes could run. Runtimes refuse the model, some only after they tried.

Example: `a = Relu(b)` and `b = Relu(a)`.

Remedy: Mend the script that edited the graph: it connected a node to a successor of its own.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO003", "cycle", Level.ERROR, stage=Stage.DOOR)
