"""Nodes that do nothing, and pairs of which one suffices.

One walk in topological order: each node is seen after everything that it reads is as simple as it gets, so a chain of any length
goes in one walk. The tables are in ``neutral`` and ``merges``.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from graphopt.model import node_label
from graphopt.passes.simplify.editor import Editor
from graphopt.passes.simplify.merges import MERGES
from graphopt.passes.simplify.neutral import NEUTRAL
from graphopt.pipeline import Refusal, Rewrite


def remove_identities(editor: Editor) -> tuple[list[Rewrite], list[Refusal]]:
    """Apply both tables to every node of the main graph."""
    rewrites: list[Rewrite] = []
    refusals: list[Refusal] = []
    for node in list(editor.model.graph.nodes):
        if not node.outputs or not node.outputs[0].name or not editor.standard(node):
            continue
        label = node_label(node)
        while _merge(node, editor):
            rewrites.append(Rewrite(label, "merged with the operator before it", code="redundant-pair"))
        source = _neutral(node, editor)
        if source is None or _is_copy(node, source, editor):
            continue
        why = editor.bypass(node, source)
        if why:
            refusals.append(Refusal(label, "keeps-output-name", f"it changes nothing, but {why}"))
        else:
            rewrites.append(Rewrite(label, "removed: its output equals its input", code="neutral"))
    return rewrites, refusals


def _merge(node: gs.Node, editor: Editor) -> bool:
    for rule in MERGES.get(node.op, ()):
        found = rule(node, editor)
        if found is not None:
            editor.set_input(node, 0, found.source)
            node.attrs.update(found.attrs)
            return True
    return False


def _neutral(node: gs.Node, editor: Editor) -> gs.Tensor | None:
    for rule in NEUTRAL.get(node.op, ()):
        source = rule(node, editor)
        if source is not None:
            return source
    return None


def _is_copy(node: gs.Node, source: gs.Tensor, editor: Editor) -> bool:
    """An Identity that gives a constant the name of a graph output: that is as simple as it gets, and no news."""
    return node.op == "Identity" and editor.is_output(node.outputs[0]) and editor.constant(source) is not None
