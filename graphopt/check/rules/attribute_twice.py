"""A node has two attributes of one name.

What: An attribute is there twice in one node.

Why: Which of them holds is not defined; protobuf keeps both, and runtimes take the first or the last.

Example: A Conv with `strides=[1, 1]` and `strides=[2, 2]`.

Remedy: Remove one of them.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO007", "attribute-twice", Level.ERROR, stage=Stage.DOOR)
