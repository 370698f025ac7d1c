"""A node stands before what it reads.

What: The nodes are not in topological order.

Why: The standard demands the order. Some runtimes sort, others run in file order and fail.

Example: A script that appended a node whose reader stands in the middle of the list.

Remedy: `graphopt run MODEL --passes simplify -o OUT` writes the nodes in order.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO024", "unsorted-nodes", Level.ERROR, stage=Stage.STRUCTURE)
