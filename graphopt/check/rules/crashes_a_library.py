"""A library crashes on the model.

What: onnx or onnxruntime ended by a signal when a worker process checked, loaded or ran the model.

Why: What crashes here crashes in production; and a crash is how memory faults begin that can be used.

Example: A Reshape whose target shape overflows 64 bits in an old onnxruntime.

Remedy: The message names the library and what it was doing; try another version, and report it to its maintainers.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO040", "crashes-a-library", Level.ERROR, stage=Stage.CONTACT)
