"""Passes, what they are given, what they report, and (in ``manager``) running them one after the other with proof
between.

``base`` is the pass, ``context`` what it is given, ``outcome`` what it reports, ``registry`` finds passes by name,
``pipeline`` is a list of passes as a value, ``manager`` runs one. The last is not imported here: a pass needs none of
it.
"""

from graphopt.pipeline.base import Kind, Pass, option
from graphopt.pipeline.context import DEFAULT_TARGET, Context, InputShapes, Monitor, Progress
from graphopt.pipeline.outcome import JSON, Outcome, Refusal, Rewrite

__all__ = [
    "DEFAULT_TARGET",
    "JSON",
    "Context",
    "InputShapes",
    "Kind",
    "Monitor",
    "Outcome",
    "Pass",
    "Progress",
    "Refusal",
    "Rewrite",
    "option",
]
