"""What the passes would do with a model: each is run once, on a copy, and nothing of it is kept but the result.

    simplified   simplify of the model
    folded       fold of that, without simplifying once more, so that what remains is fold's own work
    pruned       prune:ratio=0 of the simplified model: channels that are dead
    integer      the plan of quant for the model without the quantizers that it may have: what runs in integers, not in which

Nodes are matched by their ids (the name of the first output): rewrites keep the names of tensors that they still compute.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx_graphsurgeon as gs

from graphopt.check.quantized import strip
from graphopt.errors import GraphoptError
from graphopt.model import Model, node_key
from graphopt.ops.integers import expand
from graphopt.pipeline import Context, Outcome, Refusal
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.placement import planned
from graphopt.runtime import Feeds
from graphopt.target import Target


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a pass made of a copy; ``failure`` says why it could not be asked, and then the model is as it was."""

    model: Model
    outcome: Outcome
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """Nodes that fold makes one operator of: those of the simplified model, the last one last, and what they multiply."""

    nodes: tuple[gs.Node, ...]
    macs_before: int
    macs_after: int
    root: str
    """The tensor that the region reads."""


@dataclass(frozen=True, slots=True)
class IntegerPlan:
    """Ids of nodes that quant would run in integers, the likeliest choice first; and why it has none for the model as a whole."""

    choices: tuple[frozenset[str], ...]
    failure: str | None = None


class DryRuns:
    """The dry runs of one model."""

    def __init__(self, model: Model, target: Target, feeds: Feeds) -> None:
        self.model = model
        self.target = target
        self.feeds = feeds

    def _run(self, text: str, source: Model) -> DryRun:
        work = source.copy()
        (one,) = Pipeline.parse(text).passes
        try:
            outcome = one.run(work, Context(source, target=self.target, feeds=self.feeds))
        except GraphoptError as error:
            return DryRun(source, Outcome(), f"{text}: {error.diagnostic.why}")
        return DryRun(work, outcome)

    @cached_property
    def simplified(self) -> DryRun:
        """What simplify would leave."""
        source = self.model.copy()
        source.separate_names()  # as a run does before its first pass
        return self._run("simplify", source)

    @cached_property
    def folded(self) -> DryRun:
        """What fold would leave of the simplified model."""
        return self._run("fold:simplify=false", self.simplified.model)

    @cached_property
    def pruned(self) -> DryRun:
        """What removing dead channels would leave of the simplified model."""
        return self._run("prune:ratio=0", self.simplified.model)

    @cached_property
    def regions(self) -> list[Region]:
        """The regions that fold would compose, in the order of the graph."""
        before, after = self.simplified.model, self.folded
        tops = after.outcome.facts.get("kernels")
        if not isinstance(tops, dict):
            return []
        left = {t.name for n in after.model.graph.nodes for t in n.outputs}
        written = {name for name in tops if name in left}
        found: list[Region] = []
        for node in before.graph.nodes:
            top = node_key(node)
            facts = tops.get(top)
            if top in written and isinstance(facts, dict):
                nodes, root = _interior(before, node, left)
                macs = [facts.get(name) for name in ("macs_before", "macs_after")]
                first, second = (value if isinstance(value, int) else 0 for value in macs)
                found.append(Region(tuple(nodes), first, second, root))
        return found

    @cached_property
    def integer(self) -> IntegerPlan:
        """What quant would run in integers, by the ids of this model's nodes."""
        work = self.model.copy()
        keys: dict[str, str] = {}
        names = {n.name for n in work.graph.nodes}
        for node in work.graph.nodes:  # names outlive rewriting, tensors' need not
            if not node.name or node.name in keys:
                made = (f"{node_key(node)} {index}" for index in itertools.count())
                node.name = next(name for name in made if name not in names)
                names.add(node.name)
            keys[node.name] = node_key(node)
        expand(work)
        strip(work)
        try:
            found = planned(work, Context(work.copy(), target=self.target, feeds=self.feeds))
        except GraphoptError as error:
            return IntegerPlan((), error.diagnostic.why)
        if isinstance(found, Refusal):
            return IntegerPlan((), found.why)
        return IntegerPlan(tuple(frozenset(keys[name] for name in names if name in keys) for names in found))


def _interior(model: Model, top: gs.Node, left: set[str]) -> tuple[list[gs.Node], str]:
    """The nodes behind ``top`` whose results fold does not leave, in the order of the graph, and the tensor that they begin at."""
    inside: dict[int, gs.Node] = {id(top): top}
    waiting, roots = [top], list[str]()
    while waiting:
        for tensor in waiting.pop().inputs:
            maker = model.producer(tensor)
            if maker is None or tensor.name in left:
                if tensor.name and model.value(tensor) is None:
                    roots.append(tensor.name)
            elif id(maker) not in inside:
                inside[id(maker)] = maker
                waiting.append(maker)
    order = [n for n in model.graph.nodes if id(n) in inside]
    return order, roots[0] if roots else ""


def junctions(region: Region) -> Iterator[tuple[gs.Node, bool]]:
    """The sums and concatenations of branches in a region, each with whether one of its branches is the region's input itself."""
    inside = {id(n) for n in region.nodes}
    for node in region.nodes:
        if node.op not in ("Add", "Sub", "Sum", "Concat"):
            continue
        branches = [t for t in node.inputs if t.name == region.root or (t.inputs and id(t.inputs[0]) in inside)]
        if len(branches) > 1:
            yield node, any(t.name == region.root for t in branches)


def kind_of(region: Region) -> str:
    """``skip``, ``branch``, ``chain``; ``norm`` where nothing but batch normalization would be absorbed."""
    met = [root for _, root in junctions(region)]
    if met:
        return "skip" if any(met) else "branch"
    others = [n for n in region.nodes if n.op != "BatchNormalization"]
    return "chain" if len(others) > 1 else "norm"


def describe(region: Region) -> str:
    """The operators of a region, and what folding it saves."""
    counts = Counter(n.op for n in region.nodes)
    listed = ", ".join(f"{count} {op}" if count > 1 else op for op, count in counts.items())
    if not region.macs_before:
        return listed
    return f"{listed}: {region.macs_after:,} multiply-accumulates instead of {region.macs_before:,}"
