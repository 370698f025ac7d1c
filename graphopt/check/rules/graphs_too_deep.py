"""Graphs within one another, deeper than protobuf reads.

What: The bodies of If, Loop and Scan are nested more than 32 deep.

Why: Protobuf stops at a depth of 100 messages; no library reads the model.

Example: A loop that was unrolled into nested conditions.

Remedy: Flatten the conditions, or make them one table.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO016", "graphs-too-deep", Level.ERROR, stage=Stage.DOOR)
