"""Computing constants: many nodes in one small model, run once in onnxruntime without its optimizer.

One session a wave, since a session costs more than what most nodes compute. Constants enter as inputs, so no weight is serialised.
If the wave does not run, it is run again in halves, down to the node that is at fault; its companions still get their values. After
``PATIENCE`` failures the rest is given up: an operator set that the runtime does not know would fail each node in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx.helper import make_graph, make_model, make_opsetid, make_tensor_value_info

from graphopt.errors import ModelError
from graphopt.passes.simplify.bounds import Kind
from graphopt.passes.simplify.editor import Array
from graphopt.passes.simplify.foldable import elem_type
from graphopt.runtime import Session

PATIENCE = 64
"""Failed sessions before the rest of a pass's constants is left alone."""


IR_VERSION = 8
"""Of the small models; every runtime of today reads it."""


@dataclass(frozen=True)
class Step:
    """One node to evaluate and what its outputs will be."""

    proto: onnx.NodeProto
    outputs: Mapping[str, Kind]

    @property
    def key(self) -> str:
        """The first output that has a name."""
        return next(iter(self.outputs), "")


class Evaluator:
    """Evaluates waves of nodes. ``failures``: node's first output -> why it could not be."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.failures: dict[str, str] = {}
        self._patience = PATIENCE

    def run(self, steps: Sequence[Step], values: Mapping[str, Array], wanted: Iterable[str]) -> dict[str, Array]:
        """The values of the ``wanted`` outputs of ``steps`` (in topological order), as far as they could be computed."""
        asked = set(wanted)
        known = dict(values)
        stack = [list(steps)]
        found: dict[str, Array] = {}
        while stack:
            part = self._ready(stack.pop(), known)
            if not part:
                continue
            got = self._session(part, known, self._outputs(part, stack, asked))
            if isinstance(got, str):
                if len(part) == 1 or not self._patience:
                    self.failures.update((s.key, got) for s in part)
                else:
                    half = len(part) // 2
                    stack += [part[half:], part[:half]]
                continue
            known.update(got)
            found.update((name, value) for name, value in got.items() if name in asked)
        return found

    def _ready(self, steps: Sequence[Step], known: Mapping[str, Array]) -> list[Step]:
        """The steps that read only what is known or what they make themselves: not so after a failure before them."""
        ready: list[Step] = []
        made: set[str] = set()
        for step in steps:
            if all(name in known or name in made for name in step.proto.input if name):
                ready.append(step)
                made.update(step.outputs)
            else:
                self.failures[step.key] = "what it reads could not be evaluated"
        return ready

    @staticmethod
    def _outputs(part: Sequence[Step], later: Sequence[Sequence[Step]], asked: set[str]) -> list[str]:
        needed = asked | {name for steps in later for s in steps for name in s.proto.input}
        return [name for s in part for name in s.outputs if name in needed]

    def _session(self, part: Sequence[Step], known: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array] | str:
        kinds = {name: kind for s in part for name, kind in s.outputs.items()}
        feed = {name: known[name] for s in part for name in s.proto.input if name and name not in kinds}
        graph = make_graph(
            [s.proto for s in part],
            "constants",
            [make_tensor_value_info(name, elem_type(value.dtype), value.shape) for name, value in feed.items()],
            [make_tensor_value_info(name, kinds[name].elem_type, kinds[name].shape) for name in outputs],
        )
        model = make_model(graph, opset_imports=[make_opsetid("", self.opset)], ir_version=IR_VERSION)
        try:
            got = Session(model, optimize=False, label="constants").run(feed)
        except ModelError as error:
            self._patience = max(0, self._patience - 1)
            return error.diagnostic.why
        wrong = [n for n, v in got.items() if Kind(elem_type(v.dtype), v.shape) != kinds[n]]
        return f"it made '{wrong[0]}' of another type or shape than ONNX says" if wrong else got
