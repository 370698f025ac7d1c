"""No operator set, or one that cannot be.

What: `opset_import` is missing, names no version of the default operator set although its operators are used, or names a
    version below 1.

Why: What an operator means depends on the version; without it nothing can be said of the model.

Example: `opset_import: [{domain: "", version: 0}]`.

Remedy: Export again, or set the version that the exporter used.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO006", "invalid-opset", Level.ERROR, stage=Stage.DOOR)
