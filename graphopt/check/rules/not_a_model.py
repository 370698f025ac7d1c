"""The file is no ONNX model, or a damaged one.

What: The bytes are no message of protobuf, or one without a graph.

Why: A download or a copy that broke off, a pointer of a large-file store, another format with the suffix .onnx.

Example: A file of 130 bytes that begins with `version https://git-lfs.github.com/spec/v1`.

Remedy: Fetch or export the file again.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO002", "not-a-model", Level.ERROR, stage=Stage.DOOR)
