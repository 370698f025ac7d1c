"""The model asks for more memory than its size allows.

What: A tensor that the model makes, or what libraries took to check, load and run it, exceeds the limit (`--memory-limit`).

Why: A file of a few hundred bytes can ask for gigabytes: an Expand, a Tile, a ConstantOfShape.

Example: `ConstantOfShape([100000, 100000])`.

Remedy: Make the tensor smaller, or allow more with `--memory-limit SIZE` if it is meant so.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO042", "too-much-memory", Level.ERROR, stage=Stage.CONTACT)
