"""onnx's checker refuses the model.

What: An operator with a wrong number of inputs, a missing or unknown attribute, an attribute of another type, a version of
    an operator set that onnx does not know.

Why: What the standard does not allow, one runtime accepts and the next one does not.

Example: A Conv without a weight; `auto_pad="SAME"`.

Remedy: The message names the node; mend the export, or the script that made it.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO021", "invalid-graph", Level.ERROR, stage=Stage.STRUCTURE)
