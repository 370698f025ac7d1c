"""A name is produced twice.

What: Two nodes, two initializers or two inputs give out a tensor of one name.

Why: A graph is in single assignment: which of the two a reader means is not defined, and runtimes differ or refuse.

Example: Two models merged without prefixes, both with an initializer `conv1.weight`.

Remedy: Rename one of them, with all its readers.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO004", "produced-twice", Level.ERROR, stage=Stage.DOOR)
