"""onnxruntime does not load the model, or fails to run it once.

What: A session cannot be made of the model, or stops with an error on one input.

Why: Nothing can be verified or measured of a model that does not run, and nobody can use it here.

Example: A Reshape to a shape that the data does not fit; an operator that no provider implements.

Remedy: The message names the node and the reason.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO030", "does-not-run", Level.ERROR, stage=Stage.CONTACT)
