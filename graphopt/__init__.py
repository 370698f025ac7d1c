"""graphopt: a compiler for trained networks in ONNX form.

    import graphopt
    from graphopt.report import to_text

    result = graphopt.run("model.onnx", "fold,prune:macs=0.75,quant", data="calib.npz")
    print(to_text(result.report))
    result.save("model.opt.onnx")

The public names are imported when they are first used, so that ``import graphopt`` and ``graphopt --help`` load nothing
heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.errors import GraphoptError
    from graphopt.model import Model
    from graphopt.model.source import Source
    from graphopt.pipeline.base import Pass
    from graphopt.pipeline.manager import Result, run
    from graphopt.pipeline.pipeline import Pipeline
    from graphopt.pipeline.record import Report
    from graphopt.target import Target

__version__ = "0.1.0"

__all__ = ["GraphoptError", "Model", "Pass", "Pipeline", "Report", "Result", "Target", "load", "run"]

_HOME = {
    "GraphoptError": "graphopt.errors",
    "Model": "graphopt.model",
    "Pass": "graphopt.pipeline.base",
    "Pipeline": "graphopt.pipeline.pipeline",
    "Report": "graphopt.pipeline.record",
    "Result": "graphopt.pipeline.manager",
    "Target": "graphopt.target",
    "run": "graphopt.pipeline.manager",
}


def load(source: Source, *, freeze_initializers: bool = False, inline_functions: bool = False) -> Model:
    """Read a model from a path, its bytes or a ModelProto. Raises ModelError if it is damaged. See ``Model.load``."""
    from graphopt.model import Model

    return Model.load(source, freeze_initializers=freeze_initializers, inline_functions=inline_functions)


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'graphopt' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
