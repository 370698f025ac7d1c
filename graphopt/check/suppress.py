"""Leaving findings out from within the model: ``graphopt.ignore`` in the metadata of the model or of a node.

    onnx.helper.set_model_props(model, {"graphopt.ignore": "GO301, GO2"})

The value lists codes, beginnings of codes or names of rules, as ``--ignore`` takes them. On the model it holds for everything, on a
node (``NodeProto.metadata_props``) for the findings about that node. A word that stands for no rule is an error (GO952): a
suppression with a slip of the pen would otherwise suppress nothing, in silence.
"""

from __future__ import annotations

import onnx

from graphopt.check.finding import Finding
from graphopt.check.registry import matching
from graphopt.errors import UsageError
from graphopt.model.protos import nodes_within

KEY = "graphopt.ignore"


class Suppressions:
    """What one model says to leave out."""

    def __init__(self, proto: onnx.ModelProto, label: str) -> None:
        self._whole = _codes({p.key: p.value for p in proto.metadata_props}.get(KEY, ""), label)
        self._nodes: dict[str, frozenset[str]] = {}
        for node in nodes_within(proto.graph.node):
            words = {p.key: p.value for p in node.metadata_props}.get(KEY, "")
            key = next(filter(None, node.output), "")
            if words and key:
                self._nodes[key] = _codes(words, f"{label}: {node.op_type} '{node.name or key}'")

    def hides(self, finding: Finding) -> bool:
        """Whether the model says to leave a finding out."""
        return finding.code in self._whole or finding.code in self._nodes.get(finding.key, frozenset())


def _codes(words: str, where: str) -> frozenset[str]:
    found: set[str] = set()
    for word in filter(None, (w.strip() for w in words.split(","))):
        try:
            found.update(matching(word))
        except UsageError as error:
            wrong = error.diagnostic
            raise UsageError(wrong.code, where, f"{KEY}: {wrong.why}", wrong.hint) from None
    return frozenset(found)
