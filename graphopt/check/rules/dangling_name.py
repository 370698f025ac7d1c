"""A name is read that nothing produces.

What: A node or an output of the graph names a tensor that is no input, no initializer and no result of any node.

Why: The model cannot run.

Example: A node was removed and its readers were left.

Remedy: Connect the readers to what takes its place, or remove them too.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO005", "dangling-name", Level.ERROR, stage=Stage.DOOR)
