"""``simplify``: the same function with less graph.

Rounds of seven steps until nothing changes: dead nodes (``dead``), wrong descriptions (``described``), shape arithmetic
(``elements``), constants (``constants``), branches (``branches``), identities (``identities``), duplicates (``duplicates``).
Each step walks the graph once and its edits cost as much as the readers they move, so a round is linear in the size of the graph;
one round does nearly everything, the second finds what the first uncovered.

Only the main graph is rewritten. What the bodies of If, Loop and Scan read from it counts as read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.errors import UsageError
from graphopt.guard.garbage import rarely
from graphopt.model import Model
from graphopt.passes.simplify.bounds import Budget
from graphopt.passes.simplify.branches import inline_branches, mend_ranges
from graphopt.passes.simplify.constants import fold_constants
from graphopt.passes.simplify.dead import remove_dead
from graphopt.passes.simplify.described import mend_descriptions, separate_names
from graphopt.passes.simplify.duplicates import merge_constants, merge_nodes
from graphopt.passes.simplify.editor import Editor
from graphopt.passes.simplify.elements import fold_shapes
from graphopt.passes.simplify.identities import remove_identities
from graphopt.passes.simplify.inferred import Inferred
from graphopt.pipeline import Context, Kind, Outcome, Pass, Refusal, option

ROUNDS = 8
"""More are not needed by any graph that was seen; a graph that still changes is simply left as it is then."""


@dataclass(frozen=True, kw_only=True)
class Simplify(Pass):
    """Compute constants, drop operators that change nothing, merge duplicates, remove what no output needs."""

    name: ClassVar[str] = "simplify"
    kind: ClassVar[Kind] = Kind.EXACT

    max_bytes: int = option(2**24, "how many bytes a computed constant may add to the model; four times as many in all")
    min_bytes: int = option(2**12, "equal float tensors below this size stay apart: biases that are equal by chance")
    signed_zeros: bool = option(False, "keep x + 0, which turns -0 into +0")

    @rarely()
    def run(self, model: Model, ctx: Context) -> Outcome:
        """Simplify in place. Raises UsageError GO913 for a negative size."""
        if self.max_bytes < 0 or self.min_bytes < 0:
            raise UsageError("GO913", str(self), "a size cannot be negative", "give a number of bytes, 0 or more")
        version, before = model.version, _constant_bytes(model)
        model.sort()
        outcome = Outcome()
        refusals: list[Refusal] = []
        budget = Budget(self.max_bytes)
        for _ in range(ROUNDS):
            editor = Editor(model, ctx.analyses(model).get(Inferred()), signed_zeros=self.signed_zeros)
            outcome.rewrites += remove_dead(editor) + mend_descriptions(editor)
            outcome.rewrites += fold_shapes(editor)
            constants, too_large = fold_constants(editor, budget)
            branches = inline_branches(editor) + mend_ranges(editor)
            identities, kept = remove_identities(editor)
            outcome.rewrites += constants + branches + separate_names(editor) + identities
            outcome.rewrites += merge_constants(editor, self.min_bytes) + merge_nodes(editor)
            refusals = too_large + kept
            model.sweep()
            if not editor.edits:
                break
            model.edited()
        outcome.changed = model.version != version
        grown = _constant_bytes(model) - before
        if grown > max(before // 10, 2**12):
            size = f"{grown / 2**20:.1f} MiB"
            outcome.notes.append(
                f"computed constants make the model {size} larger; `simplify:max_bytes=0` leaves them to the runtime"
            )
        outcome.refusals = refusals
        return outcome


def _constant_bytes(model: Model) -> int:
    """Bytes of the constants of the main graph, be they initializers or Constant nodes."""
    values = [model.value(node.outputs[0]) for node in model.graph.nodes if node.op == "Constant" and node.outputs]
    return model.weight_bytes() + sum(value.nbytes for value in values if value is not None)
