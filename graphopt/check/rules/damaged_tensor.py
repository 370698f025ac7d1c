"""A tensor's type, shape and values do not agree.

What: An initializer or a tensor attribute has fewer or more values than its shape says, two sets of them, a negative
    dimension, or values that its type cannot hold.

Why: Runtimes read past the end, or fill up with anything.

Example: `dims: [4, 3]` with 44 bytes of float32.

Remedy: Export again; if a script wrote the tensor, let `onnx.numpy_helper.from_array` do it.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO011", "damaged-tensor", Level.ERROR, stage=Stage.DOOR)
