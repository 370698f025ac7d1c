"""A tensor is of a type that ONNX does not define.

What: `data_type` or `elem_type` holds a number outside of the enumeration.

Why: No reader knows how long an element is.

Example: `data_type: 99`.

Remedy: Export again, or update onnx if the type is newer than it.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO012", "unknown-element-type", Level.ERROR, stage=Stage.DOOR)
