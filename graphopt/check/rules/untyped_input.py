"""An input without a type.

What: An input of the graph is of no tensor, sequence or map type.

Why: Nobody can feed it; onnxruntime refuses the model.

Example: A graph input with a name alone.

Remedy: Declare element type and shape of the input.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO031", "untyped-input", Level.ERROR, stage=Stage.CONTACT)
