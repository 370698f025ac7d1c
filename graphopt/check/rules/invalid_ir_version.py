"""An IR version below zero.

What: `ir_version` is negative.

Why: The version of the file format decides how the file is read; this is none.

Example: `ir_version: -3`.

Remedy: Export again.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO019", "invalid-ir-version", Level.ERROR, stage=Stage.DOOR)
