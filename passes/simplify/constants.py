"""Constant folding: what depends on constants alone is computed now.

Nodes are taken as they become ready, wave by wave. A node is ready when all its inputs are constant or are results of the same
wave; it waits for the next wave if its size or its safety depends on a value that this wave only computes. So a shape program of
any length takes as many waves as it has data-dependent steps, each node is looked at twice at most, and one session computes
a whole wave. Limits and guards are in ``bounds`` and ``foldable``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphopt.errors import ModelError
from graphopt.model import node_label
from graphopt.model.attributes import encode
from graphopt.passes.simplify.bounds import Budget, Kind, infer, work
from graphopt.passes.simplify.editor import Array, Editor
from graphopt.passes.simplify.evaluate import Evaluator, Step
from graphopt.passes.simplify.foldable import FOLDABLE, NATIVE, Foldable, elem_type
from graphopt.pipeline import Refusal, Rewrite

_RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Dropout")
)
_STORED = frozenset(("DequantizeLinear", "QuantizeLinear"))


def fold_constants(editor: Editor, budget: Budget) -> tuple[list[Rewrite], list[Refusal]]:
    """Make initializers of Constant nodes, and of every result that depends on constants alone."""
    rewrites = _settle_constant_nodes(editor)
    folding = _Folding(editor, budget)
    folding.run()
    return rewrites + folding.commit(), folding.refusals


def _settle_constant_nodes(editor: Editor) -> list[Rewrite]:
    rewrites: list[Rewrite] = []
    for node in editor.model.graph.nodes:
        if node.op not in ("Constant", "Identity") or not editor.standard(node) or not node.outputs:
            continue
        out = node.outputs[0]
        if node.op == "Identity":
            # A constant under the name of a graph output: whoever else reads it may as well read the constant.
            source = editor.input(node, 0)
            if isinstance(source, gs.Constant) and out.outputs:
                editor.redirect(out, source)
            continue
        value = editor.constant(out)
        # Types that the door has no array for (strings among them) keep their node.
        if value is not None and value.dtype.kind not in "OUS" and editor.settle(out, value) is not None:
            rewrites.append(Rewrite(node_label(node), "now an initializer", code="constant-node"))
    return rewrites


@dataclass
class _Folding:
    """One run over the graph.

    What is known goes by tensor name: results (values), pending (kinds, in this wave), credit (bytes of constants that disappear
    when they are replaced, each to be used once).
    """

    editor: Editor
    budget: Budget
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    _results: dict[str, Array] = field(default_factory=dict[str, Array])
    _pending: dict[str, Kind] = field(default_factory=dict[str, Kind])
    _credit: dict[str, int] = field(default_factory=dict[str, int])
    _candidates: dict[int, gs.Node] = field(default_factory=dict[int, gs.Node])
    _folded: list[gs.Node] = field(default_factory=list[gs.Node])

    def run(self) -> None:
        """Evaluate everything that can be, wave by wave."""
        made = self._find_candidates()
        waiting = {key: sum(t.name in made for t in node.inputs) for key, node in self._candidates.items()}
        evaluator = Evaluator(self.editor.opset)
        ready = deque(node for key, node in self._candidates.items() if not waiting[key])
        while ready:
            wave: list[tuple[gs.Node, Step]] = []
            later: deque[gs.Node] = deque()
            while ready:
                node = ready.popleft()
                step = self._plan(node)
                if step is _LATER:
                    later.append(node)
                elif isinstance(step, Step):
                    wave.append((node, step))
                    ready.extend(self._released(node, waiting))
            self._evaluate(evaluator, wave)
            ready = later if wave else deque[gs.Node]()  # where nothing ran, nothing that waits will ever be known

    def commit(self) -> list[Rewrite]:
        """Give the results to their readers, last node first: what only evaluated nodes read then has no reader left."""
        rewrites: list[Rewrite] = []
        for node in reversed(self._folded):
            settled = [self._settle(tensor) for tensor in list(node.outputs)]
            if any(settled):
                rewrites.append(Rewrite(node_label(node), "computed: a constant", code="constant"))
            if not any(t.name and self.editor.is_read(t) for t in node.outputs):
                self.editor.detach(node)
        return rewrites[::-1]

    def _settle(self, tensor: gs.Tensor) -> bool:
        value = self._results.pop(tensor.name, None)
        return value is not None and self.editor.settle(tensor, value) is not None

    def _find_candidates(self) -> set[str]:
        """The nodes that depend on constants alone, in topological order; returns the names of what they make."""
        made: set[str] = set()
        for node in self.editor.model.graph.nodes:
            given = [t for t in node.inputs if t.name]
            if not given or not all(isinstance(t, gs.Constant) or t.name in made for t in given):
                continue
            reason = self._ineligible(node)
            if reason is None:
                self._candidates[id(node)] = node
                made.update(t.name for t in node.outputs if t.name)
            elif reason[0]:
                self._refuse(node, *reason)
        return made

    def _ineligible(self, node: gs.Node) -> tuple[str, str] | None:
        """Why a node is never evaluated: code and words (no code: not worth a word); None if it may be."""
        if node.op == "Identity" and self.editor.is_output(node.outputs[0]):
            return "", ""
        if not self.editor.standard(node):
            return "not-evaluated", "its inputs are constant, but it is not an operator of ONNX itself"
        if node.op in _RANDOM:
            return "not-deterministic", "its inputs are constant, but it draws numbers"
        if node.op in _STORED:
            return "quantized-constant", "it is how a quantized constant is stored"
        if node.op not in FOLDABLE:
            return "not-evaluated", f"its inputs are constant, but {node.op} is not evaluated here"
        return None

    def _refuse(self, node: gs.Node, code: str, why: str) -> None:
        self.refusals.append(Refusal(node_label(node), code, why))

    def _released(self, node: gs.Node, waiting: dict[int, int]) -> list[gs.Node]:
        """The candidates that had only been waiting for ``node``."""
        released: list[gs.Node] = []
        for tensor in node.outputs:
            for reader in tensor.outputs:
                if id(reader) in waiting:
                    waiting[id(reader)] -= 1
                    if waiting[id(reader)] == 0:
                        released.append(reader)
        return released

    # -- one node --------------------------------------------------------------------------------------------------------

    def _plan(self, node: gs.Node) -> Step | object | None:
        """The step that evaluates ``node``; ``_LATER`` if it has to wait for values, None if it is refused."""
        row = FOLDABLE[node.op]
        given = {t.name: t for t in node.inputs if t.name}
        kinds = {name: kind for name, t in given.items() if (kind := self._kind(t)) is not None}
        if len(kinds) < len(given):
            return None  # what it reads was refused, and said so, or is of a type that is not evaluated
        asked = [node.inputs[i] for i in row.values if i < len(node.inputs) and node.inputs[i].name]
        if any(t.name in self._pending for t in asked):
            return _LATER
        values = {t.name: value for t in asked if (value := self._value(t)) is not None}
        if not row.empty and any(k.elements == 0 for k in kinds.values()):
            self._refuse(node, "empty-operand", "an operand has no elements")
            return None
        proto = self._proto(node)
        outputs = infer(proto, self.editor.opset, kinds, values)
        if isinstance(outputs, str):
            self._refuse(node, "size-unknown", outputs)
            return None
        if not self._allowed(node, row, kinds, values, outputs):
            return None
        self._pending.update(outputs)
        return Step(proto, outputs)

    def _allowed(
        self,
        node: gs.Node,
        row: Foldable,
        kinds: Mapping[str, Kind],
        values: Mapping[str, Array],
        outputs: Mapping[str, Kind],
    ) -> bool:
        """Size first, then safety: a guard may itself compute as much as the result has elements."""
        replaced = sum(self._credit.get(name, 0) for name in kinds)
        made = list(outputs.values())
        why = self.budget.refuses(replaced, made, work(node, [kinds.get(t.name) for t in node.inputs], made))
        if why:
            self._refuse(node, "result-too-large", why)
            return False
        why = row.guard(node, [values.get(t.name) for t in node.inputs]) if row.guard is not None else ""
        if why:
            self._refuse(node, "undefined-result", why)
            return False
        self._spend(kinds, sum(k.nbytes for k in made))
        for tensor in node.outputs:
            if tensor.name:
                self._credit[tensor.name] = outputs[tensor.name].nbytes if self._vanishes(tensor) else 0
        return True

    def _spend(self, names: Iterable[str], size: int) -> None:
        for name in names:
            used = min(self._credit.get(name, 0), size)
            self._credit[name] = self._credit.get(name, 0) - used
            size -= used

    def _kind(self, tensor: gs.Tensor) -> Kind | None:
        if isinstance(tensor, gs.Constant):
            dtype = np.dtype(tensor.dtype)
            kind = Kind(elem_type(dtype), tuple(tensor.shape)) if dtype in NATIVE else None
            if kind is not None and tensor.name not in self._credit:
                self._credit[tensor.name] = kind.nbytes if self._vanishes(tensor) else 0
            return kind
        value = self._results.get(tensor.name)
        if value is not None:
            return Kind(elem_type(value.dtype), value.shape)
        return self._pending.get(tensor.name)

    def _vanishes(self, tensor: gs.Tensor) -> bool:
        """Whether all who read the tensor are candidates, so that it goes when they do."""
        inside = all(id(reader) in self._candidates for reader in tensor.outputs)
        return inside and not self.editor.is_output(tensor) and not self.editor.yielded(tensor)

    def _value(self, tensor: gs.Tensor) -> Array | None:
        found = self._results.get(tensor.name)
        return found if found is not None else self.editor.constant(tensor)

    def _proto(self, node: gs.Node) -> onnx.NodeProto:
        names = [[t.name for t in side] for side in (node.inputs, node.outputs)]
        proto = onnx.NodeProto(op_type=node.op, input=names[0], output=names[1])
        for name, value in node.attrs.items():
            proto.attribute.append(encode(name, value, None, _no_graph, node_label(node)))
        return proto

    # -- one wave --------------------------------------------------------------------------------------------------------

    def _evaluate(self, evaluator: Evaluator, wave: list[tuple[gs.Node, Step]]) -> None:
        inside = {id(node) for node, _ in wave}
        values: dict[str, Array] = {}
        wanted: list[str] = []
        for node, _ in wave:
            for tensor in node.inputs:
                value = None if not tensor.name or tensor.name in self._pending else self._value(tensor)
                if value is not None:
                    values[tensor.name] = value
            for tensor in node.outputs:
                leaves = any(id(reader) not in inside for reader in tensor.outputs) or not tensor.outputs
                if tensor.name and (leaves or self.editor.is_output(tensor) or self.editor.yielded(tensor)):
                    wanted.append(tensor.name)
        self._results.update(evaluator.run([step for _, step in wave], values, wanted))
        self._pending.clear()
        for node, step in wave:
            why = evaluator.failures.get(step.key)
            if why is None:
                self._folded.append(node)
            else:
                self._refuse(node, "runtime-refuses", why)


_LATER = object()


def _no_graph(graph: gs.Graph) -> onnx.GraphProto:
    raise ModelError("GO013", graph.name, "no operator that is evaluated here has a subgraph")
