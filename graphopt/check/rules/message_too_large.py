"""The file exceeds protobuf's 2 GiB.

What: One message of protobuf holds 2 GiB at most; what is longer is read by no library.

Why: The model loads nowhere, though it may have been written without complaint.

Example: A language model saved with its weights in the .onnx file.

Remedy: Save it with external data: `onnx.save(model, path, save_as_external_data=True)`.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO014", "message-too-large", Level.ERROR, stage=Stage.DOOR)
