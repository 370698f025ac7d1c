"""External data that is missing, or not where it may be.

What: A tensor keeps its values in a file that is not there, is too short, or lies outside of the model's folder: `..`, an
    absolute path, a link.

Why: Without its weights the model is none; and a model that reads files from elsewhere reads whatever its author wants.

Example: `location: "../../etc/passwd"`, or `model.onnx` copied without `model.onnx.data`.

Remedy: Put the file beside the model, or save the model again with the data in its folder.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO010", "external-data-refused", Level.ERROR, stage=Stage.DOOR)
