"""The path is there, and no model can be read from it.

What: The path is a folder, a device or a pipe, or a file that may not be read.

Why: A check that passed over it would call a model sound that nobody looked at.

Example: `graphopt check models/` where `models/` holds the files: the folder itself is no model.

Remedy: Name the .onnx file, a pattern such as `models/**/*.onnx`, or mend the permissions.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO001", "unreadable-file", Level.ERROR, stage=Stage.DOOR)
