"""What is tested: graphopt's groups, and its two ways to prune, behind four functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from graphopt.analysis import Analyses
from graphopt.analysis.channels import Channels
from graphopt.model import Model
from graphopt.passes.prune import Prune
from graphopt.passes.prune.prune import ready
from graphopt.passes.prune.realise import realise
from graphopt.passes.prune.reference import masked
from graphopt.pipeline import Context, Outcome


def groups_of(proto: onnx.ModelProto) -> dict[str, Any]:
    """What ``graphopt groups --format json`` says."""
    return Analyses(Model.load(proto)).get(Channels()).to_json()


def by_ratio(proto: onnx.ModelProto, ratio: float = 0.5, multiple: int = 1) -> tuple[onnx.ModelProto, Outcome]:
    """The pass, by weight norms."""
    model = Model.load(proto)
    context = Context(model)
    outcome = Prune(ratio=ratio, multiple=multiple, importance="norm", compensate=False).run(model, context)
    return model.proto(), outcome


def by_masks(proto: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, Outcome]:
    """The pass, by a file of masks."""
    model = Model.load(proto)
    outcome = Prune(masks=path, multiple=1, importance="norm", compensate=False).run(model, Context(model))
    return model.proto(), outcome


def dead_only(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Outcome]:
    """The pass at ratio 0: only what is dead goes."""
    model = Model.load(proto)
    outcome = Prune(ratio=0.0, multiple=1).run(model, Context(model))
    return model.proto(), outcome


def by_random_masks(proto: onnx.ModelProto, seed: int, keep: int = 2) -> tuple[onnx.ModelProto, list[str]]:
    """Some units of every group, at random, such that ``keep`` stay; and what the certificate says."""
    model = Model.load(proto)
    context = Context(model)
    ready(model, context)
    graph = Analyses(model).get(Channels())
    rng = np.random.default_rng(seed)
    groups = [g for g in graph.prunable if g.size > keep]
    most = [g.size - keep for g in groups]
    chosen = [
        rng.choice(g.units, rng.integers(1, n + 1) if keep > 1 else n, replace=False) for g, n in zip(groups, most, strict=True)
    ]
    removed = graph.flow.table.marked(np.concatenate(chosen) if chosen else np.zeros(0, np.int64))
    result = realise(masked(graph, removed, {}), graph, removed)
    return result.model.proto(), [problem.why for problem in result.problems]


def frozen_rows(proto: onnx.ModelProto) -> dict[str, list[str | None]]:
    """For each operator with constant weights, by its output, why each of its output channels cannot go; None if it can."""
    model = Model.load(proto)
    ready(model, Context(model))
    graph = Analyses(model).get(Channels())
    why: dict[int, str | None] = {}
    for group in graph.groups:
        alone = "tied to one unit" if group.size == 1 else None
        why.update((int(u), group.frozen or alone) for u in group.units)
    found: dict[str, list[str | None]] = {}
    for mixer in graph.flow.mixers:
        output = graph.nodes[mixer.node].outputs[0].name
        layout = graph.flow.tensors.get(output)
        axis = 1 if graph.nodes[mixer.node].op in ("Conv", "ConvTranspose") else -1
        if layout is None or graph.nodes[mixer.node].op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        fields = layout.fields_on(axis % layout.rank)
        if len(fields) == 1 and all(at in layout.span(axis % layout.rank) for at in fields[0].at):
            found[output] = [why.get(int(r), "no group") for r in graph.flow.table.find(fields[0].labels.reshape(-1))]
    return found
