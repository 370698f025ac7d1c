"""A pass for graphopt from another distribution: what a third party writes, and all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.model import Model, node_label
from graphopt.pipeline import Context, Kind, Outcome, Pass, Refusal, Rewrite, option

WORDS = "not a pass"


@dataclass(frozen=True, kw_only=True)
class Halve(Pass):
    """Scale every convolution's weights down.

    Of no use but to show that a pass from elsewhere is listed, parsed, run, verified and reported like a built-in one.
    """

    name: ClassVar[str] = "halve"
    kind: ClassVar[Kind] = Kind.LOSSY

    by: float = option(2.0, "what the weights are divided by")

    def run(self, model: Model, ctx: Context) -> Outcome:
        """Divide the weights, and name the result as its own reference."""
        outcome = Outcome()
        for node in list(model.graph.nodes):
            if node.op != "Conv":
                continue
            weights = model.value(node.inputs[1])
            if weights is None:
                outcome.refusals.append(Refusal(node_label(node), "weights-not-constant", "its weights are computed"))
                continue
            model.set_input(node, 1, model.constant("halved", (weights / self.by).astype(weights.dtype)))
            outcome.rewrites.append(Rewrite(node_label(node), f"weights divided by {self.by:g}"))
        outcome.changed = bool(outcome.rewrites)
        outcome.reference = model.copy() if outcome.changed else None
        return outcome
