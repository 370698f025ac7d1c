"""Functions that call themselves, or stand for too many nodes.

What: A local function calls itself, by way of others too, or what the functions expand to exceeds a million nodes.

Why: ONNX allows no recursion, and a runtime that inlines the functions never ends or runs out of memory.

Example: Twenty functions, each of which calls the next one twice.

Remedy: Write loops as Loop, or expand the functions where they are few.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO017", "endless-function", Level.ERROR, stage=Stage.DOOR)
