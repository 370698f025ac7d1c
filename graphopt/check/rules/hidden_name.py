"""A name of a body hides one of the graph around it.

What: The body of an If, Loop or Scan defines a tensor whose name the graph around it has already.

Why: Single assignment holds for a graph and its bodies together; a reader in the body may get either.

Example: A branch with an initializer `scale`, beside a `scale` of the main graph.

Remedy: Rename the tensor of the body.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO022", "hidden-name", Level.ERROR, stage=Stage.STRUCTURE)
