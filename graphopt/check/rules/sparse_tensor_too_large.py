"""A sparse tensor that would be huge when written out.

What: A sparse initializer has a dense shape of more than 256 MiB.

Why: Runtimes make dense tensors of sparse ones; a file of a hundred bytes may then ask for gigabytes.

Example: One value in a shape of [100000, 100000].

Remedy: Store what is needed as a dense tensor.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO018", "sparse-tensor-too-large", Level.ERROR, stage=Stage.DOOR)
