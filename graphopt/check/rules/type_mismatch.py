"""A declared type or shape contradicts what the nodes compute.

What: Shape inference finds another element type, rank or size than the model declares, or a node has a number that no tensor
    can have (a stride of 0).

Why: A runtime that plans memory by the declaration reads or writes past a buffer; others refuse.

Example: An output declared [1, 10] that a Gemm makes [1, 1000].

Remedy: Mend the declaration, or drop it: `del model.graph.value_info[:]`.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO025", "type-mismatch", Level.ERROR, stage=Stage.STRUCTURE)
