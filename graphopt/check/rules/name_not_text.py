"""A name is not UTF-8.

What: The name of a node, a tensor, an operator, a dimension or an attribute is no valid UTF-8.

Why: ONNX names are strings of protobuf, which are UTF-8; bindings in several languages cannot even hand them out.

Example: A tensor named in Latin-1 by an old exporter.

Remedy: Export again with plain names.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO008", "name-not-text", Level.ERROR, stage=Stage.DOOR)
