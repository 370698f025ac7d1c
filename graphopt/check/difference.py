"""How two models differ: structure, interface, weights, cost, and what they compute.

Nodes are told apart by structure (``graphopt.check.anchor``), so that two exports of one network that name everything otherwise
have the same structure; a node near a change counts as changed. Weights are compared by name, and where no name is common in the
order of the graph, as far as shapes agree.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.check.anchor import anchors
from graphopt.check.subject import NotAsked, Subject, all_nodes
from graphopt.errors import Diagnostic
from graphopt.model import Model, node_key, node_label
from graphopt.model.domains import STANDARD
from graphopt.verify import Drift, check_interface


@dataclass(frozen=True, slots=True)
class WeightDifference:
    """Two constants that are not equal: names, what is different, and the signal-to-noise ratio where the shapes agree."""

    first: str
    second: str
    why: str
    sqnr_db: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model costs; None where it is not known."""

    nodes: int
    params: int
    macs: int
    bytes: int
    peak_activation: int | None


@dataclass(frozen=True, slots=True)
class ModelDifference:
    """Everything.

    Attributes:
        same_structure: whether the graphs are equal up to names and the values of weights, as far as neighbourhoods tell.
        opsets: domain -> version in the first and in the second model (0: none), where that differs.
        ops: operator -> how often it is in the first and in the second model, where that differs.
        removed, added: labels of nodes whose neighbourhood is in one of them only.
        interface: what a user of the first would notice when given the second.
        weights_equal: how many constants are equal; ``weights`` lists the others, those of one model only have an empty name.
        costs: of the first and the second.
        drift: the distance of the outputs; None if it could not be measured, then ``no_drift`` says why.
    """

    same_structure: bool
    opsets: dict[str, tuple[int, int]]
    ops: dict[str, tuple[int, int]]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    interface: tuple[Diagnostic, ...]
    weights_equal: int
    weights: tuple[WeightDifference, ...]
    costs: tuple[Cost, Cost]
    drift: Drift | None
    no_drift: str = ""

    @property
    def equal(self) -> bool:
        """Whether nothing is different, names aside."""
        same = self.drift is None or (self.drift.failure is None and self.drift.worst_rel == 0)
        return self.same_structure and not self.opsets and not self.interface and not self.weights and same


def difference(first: Subject, second: Subject) -> ModelDifference:
    """Compare two models; ``second.asked.against`` is the first one's path."""
    counts = [Counter(n.op for n in s.model.graph.nodes) for s in (first, second)]
    ops = {op: (counts[0][op], counts[1][op]) for op in sorted({*counts[0], *counts[1]}) if counts[0][op] != counts[1][op]}
    colours = [anchors(s.model) for s in (first, second)]
    common = Counter(colours[0].values()) & Counter(colours[1].values())
    equal, weights = _weights(first.model, second.model)
    drift, why = _drift(second)
    return ModelDifference(
        Counter(colours[0].values()) == Counter(colours[1].values()),
        _opsets(first.model, second.model),
        ops,
        tuple(_only(first.model, colours[0], common)),
        tuple(_only(second.model, colours[1], common)),
        tuple(check_interface(first.model, second.model)),
        equal,
        tuple(weights),
        (_cost(first), _cost(second)),
        drift,
        why,
    )


def _opsets(first: Model, second: Model) -> dict[str, tuple[int, int]]:
    domains = sorted({"", *("" if n.domain in STANDARD else str(n.domain) for m in (first, second) for n in all_nodes(m))})
    versions = {domain: (first.opset_of(domain) or 0, second.opset_of(domain) or 0) for domain in domains}
    return {domain: pair for domain, pair in versions.items() if pair[0] != pair[1]}


def _only(model: Model, colours: dict[str, str], common: Counter[str]) -> Iterator[str]:
    left = Counter(common)
    for node in model.graph.nodes:
        colour = colours.get(node_key(node), "")
        if left[colour] > 0:
            left[colour] -= 1
        else:
            yield node_label(node)


def _cost(subject: Subject) -> Cost:
    cost, peak = subject.cost, subject.peak
    return Cost(cost.nodes, cost.params, cost.macs, subject.model.size(), None if peak is None else peak[0])


def _drift(second: Subject) -> tuple[Drift | None, str]:
    try:
        return second.drift, ""
    except NotAsked as reason:
        return None, str(reason)


def _weights(first: Model, second: Model) -> tuple[int, list[WeightDifference]]:
    equal, found = 0, list[WeightDifference]()
    for one, other in _pairs(first.constants(), second.constants()):
        if one is None or other is None:
            lone = one if one is not None else other
            shape = "x".join(map(str, lone._values.shape)) if lone is not None else ""
            names = ("" if one is None else one.name, "" if other is None else other.name)
            found.append(WeightDifference(*names, f"only in the {'second' if one is None else 'first'} ({shape or 'scalar'})"))
            continue
        wrong = _compare(first.value(one), second.value(other))
        if wrong is None:
            equal += 1
        else:
            found.append(WeightDifference(one.name, other.name, *wrong))
    return equal, found


def _pairs(
    first: dict[str, gs.Constant], second: dict[str, gs.Constant]
) -> Iterator[tuple[gs.Constant | None, gs.Constant | None]]:
    """Constants of one name; the rest in order, while shapes and types agree."""
    for name in [name for name in first if name in second]:
        yield first[name], second[name]
    left = [c for name, c in first.items() if name not in second]
    right = [c for name, c in second.items() if name not in first]
    if [(_form(c)) for c in left] == [_form(c) for c in right]:
        yield from zip(left, right, strict=True)
        return
    yield from ((c, None) for c in left)
    yield from ((None, c) for c in right)


def _form(constant: gs.Constant) -> tuple[tuple[int, ...], str]:
    return tuple(constant._values.shape), str(constant._values.dtype)


def _compare(first: NDArray[Any] | None, second: NDArray[Any] | None) -> tuple[str, float | None] | None:
    if first is None or second is None:
        return None if first is second else ("only one of them has a value", None)
    if first.shape != second.shape or first.dtype != second.dtype:
        return f"{first.dtype}{list(first.shape)} became {second.dtype}{list(second.shape)}", None
    if first.tobytes() == second.tobytes():
        return None
    if first.dtype.kind not in "fiu":
        return "other values", None
    wide, other = first.astype(np.float64), second.astype(np.float64)
    noise, signal = float(np.square(other - wide).sum()), float(np.square(wide).sum())
    if not (math.isfinite(noise) and math.isfinite(signal)):
        return "other values, not all finite", None
    sqnr = 10 * math.log10(signal / noise) if noise and signal else math.inf if not noise else -math.inf
    return f"off by up to {float(np.abs(other - wide).max(initial=0.0)):.3g}", sqnr
