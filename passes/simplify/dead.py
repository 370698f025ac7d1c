"""What no output needs: nodes, and initializers that nothing reads.

ONNX operators have no side effects, so a node whose results nobody asks for computes nothing that matters; what the bodies of If,
Loop and Scan take from outside counts as asked for. Defaults of overridable inputs are part of the interface and stay.
"""

from __future__ import annotations

from graphopt.model import node_label
from graphopt.passes.simplify.editor import Editor
from graphopt.pipeline import Rewrite


def remove_dead(editor: Editor) -> list[Rewrite]:
    """Sweep the main graph. Only what was dead by itself is news: nodes that other rewrites left behind are theirs to tell."""
    model = editor.model
    before = {id(n): node_label(n) for n in model.graph.nodes}
    rewrites = [
        Rewrite(f"'{name}'", "removed: nothing reads this initializer", code="unread-initializer") for name in model.drop_unused()
    ]
    if model.sweep():
        alive = {id(n) for n in model.graph.nodes}
        rewrites += [
            Rewrite(label, "removed: no output needs it", code="dead-node") for key, label in before.items() if key not in alive
        ]
    return rewrites
