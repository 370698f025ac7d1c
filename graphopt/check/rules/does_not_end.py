"""Checking, loading or running the model once does not end in time.

What: A worker process that did so was still busy after the time that the size of the model allows (`--time-limit`).

Why: A model that takes minutes to load is a fault of its own; one that never ends stops the service.

Example: A Loop whose condition stays true.

Remedy: Mend the loop, or allow more time with `--time-limit SECONDS` if the model is that slow.
"""

from __future__ import annotations

from graphopt.check.finding import Level
from graphopt.check.rule import Rule, Stage

RULE = Rule("GO041", "does-not-end", Level.ERROR, stage=Stage.CONTACT)
