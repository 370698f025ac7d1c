"""Refitting: every operator behind a removal is fitted anew, in order, to make of what it reads now what it made before.

A pruned and compensated network drifts: each operator reads what those before it have bent. So, from the inputs to the outputs,
with x' what an operator reads in the pruned network (as refitted so far) and y what it made in the original,

    minimise  E |W x' + b - y|^2 + lambda d |W - W0|^2,        d the mean variance of a feature,

W0 the compensated weights: a ridge toward them, not toward zero, so that a large lambda leaves the operator as it is. Where the
operator's result is added to a shortcut, y is (original sum) - (pruned shortcut): the operator makes up for the shortcut's error.
lambda is chosen by the squared error on samples that took no part in the fit. All sums are float64.

Least squares shrinks what it cannot predict, and what is shrunk a little at each operator is shrunk much at the end. *Matching*
gives each output the mean and the variance that it had: it scales the row of W and moves b.

Neither is kept because it should help: the compensated, the refitted, the matched and the refitted and matched operator are each
tried in the network, and the one with the least error at the model's *output* on held-out samples stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import scipy.linalg
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.model import node_key
from graphopt.ops.channels import Mixer
from graphopt.passes.prune.compensate import Bias
from graphopt.passes.prune.layers import Layer, Sums, layer_of
from graphopt.passes.prune.reference import Weights, bias_slot, masked, out_labels, reference, removed_columns
from graphopt.passes.prune.sensitivity import Distance, macs_by_output, measured_outputs
from graphopt.passes.prune.walk import NETWORKS, Walk
from graphopt.runtime import Feed, Session

Array = NDArray[Any]
Floats = NDArray[np.float64]
Removed = NDArray[np.bool_]

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths that are tried, relative to the mean variance of a feature."""

_POSITIONS = 24
"""Positions to fit on for each column, and at least ``_FEWEST`` in all, as far as ``_MOST_WORK`` multiplications allow."""
_FEWEST = 16384
_MOST_WORK = 2e11

_ROUNDING = 1e-9
"""A variance that is a smaller share of the mean square is rounding."""

_MOST_STRETCH = 2.0
"""Matching scales no output by more than this, nor by less than its inverse."""

_BETTER = 1e-3
"""A choice replaces another if the error at the output falls by this share of it."""

_W, _B = "refitted_weight", "refitted_bias"


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Weights of a layer [blocks, outputs, columns] and what is to be added to its bias [blocks, outputs]."""

    weight: Floats
    shift: Floats
    ridge: float = 0.0


@dataclass(slots=True)
class Refit:
    """What came of a refit.

    Attributes:
        updates: new weights by mixer.
        errors: the error at the output on held-out samples, at first and after each layer.
        kept: by mixer what was chosen: ``refitted``, ``matched`` or both.
    """

    updates: dict[str, Weights]
    errors: list[float] = field(default_factory=list[float])
    kept: dict[str, str] = field(default_factory=dict[str, str])


def layers_behind(graph: ChannelGraph, removed: Removed, updates: Mapping[str, Weights]) -> list[Layer]:
    """The operators that read something else than in the original, or lose columns, in the order of the graph.

    Left out are those that share their weight with others: what would be fitted to one of them would be wrong for the other.
    """
    readers: dict[str, int] = {}
    for mixer in graph.flow.mixers:
        name = graph.nodes[mixer.node].inputs[mixer.weight].name
        readers[name] = readers.get(name, 0) + 1
    mixers = {m.node: m for m in graph.flow.mixers}
    changed: set[str] = set()
    for node in graph.model.graph.nodes:
        mine = mixers.get(node_key(node))
        own = mine is not None and (mine.node in updates or bool(removed_columns(graph, mine, removed).any()))
        if own or any(t.name in changed for t in node.inputs):
            changed.update(t.name for t in node.outputs)
    found: list[Layer] = []
    for node in graph.model.graph.nodes:
        mine = mixers.get(node_key(node))
        if mine is None or not (node.outputs[0].name in changed or _meets(graph, node, changed)):
            continue
        layer = layer_of(graph, mine, removed)
        if layer is not None and readers[node.inputs[mine.weight].name] == 1 and not _all_gone(graph, layer, removed):
            found.append(layer)
    return found


def _meets(graph: ChannelGraph, node: gs.Node, changed: set[str]) -> bool:
    """Whether what a node makes goes into nothing but a sum with something that changed: it can make up for that."""
    users = graph.model.users(node.outputs[0])
    return len(users) == 1 and users[0].op == "Add" and any(t.name in changed for t in users[0].inputs)


def _all_gone(graph: ChannelGraph, layer: Layer, removed: Removed) -> bool:
    labels = out_labels(graph, layer.mixer)
    return labels is not None and bool(removed[labels].all())


@dataclass(slots=True)
class Refitter:
    """Refits the operators of one removal.

    Attributes:
        updates: compensated weights, fitted to ``fit``.
        samples: to fit on (``fit``) and to judge by (``held``).
        whole: the same, fitted to all samples: what is judged must not have seen what it is judged by, what is kept may.
    """

    graph: ChannelGraph
    removed: Removed
    updates: dict[str, Weights]
    whole: Mapping[str, Weights]
    samples: Mapping[str, Sequence[Feed]]
    seed: int
    threads: int
    _expected: Distance = field(init=False)
    _walk: Walk = field(init=False)
    _proto: onnx.ModelProto = field(init=False)

    def run(self, advance: Callable[[], None]) -> Refit:
        """Refit all layers; ``advance`` is called for each."""
        ends = measured_outputs(self.graph.model)
        original = self.graph.model.proto()
        session = Session(self.graph.model, threads=self.threads, extra_outputs=ends)
        self._expected = Distance(ends, [session.run(feed, ends) for feed in self.samples["held"]])
        macs = macs_by_output(self.graph)
        self._walk = Walk(original, macs, {(n, k): f for n in NETWORKS for k, f in self.samples.items()}, ends, self.threads)
        self._proto = self._network()
        result = Refit(self.updates)
        runs = self._walk.values("pruned", "held", self._proto, ends)
        result.errors.append(self._expected.error(runs))
        for layer in layers_behind(self.graph, self.removed, self.updates):
            place = self._walk.position(layer.node.outputs[0].name)
            self._walk.advance(place, self._proto)
            self._layer(layer, place, result)
            advance()
        return result

    def _network(self) -> onnx.ModelProto:
        return reference(self.graph, masked(self.graph, self.removed, self.updates), self.removed).proto()

    def _layer(self, layer: Layer, place: int, result: Refit) -> None:
        bias = Bias(self.graph, layer.mixer)
        if not bias.alpha:
            return  # whatever the weights are, nothing is made of them
        base = self._base(layer, bias, self.updates)
        fit, held = (self._sums(layer, kind, place) for kind in ("fit", "held"))
        if not fit.finite or not held.finite:
            return
        candidates = {"": base, **_candidates(fit, held, base, bias)}
        words = [{_W: self._weights(layer, c).weight} for c in candidates.values()]
        if bias.possible:
            words = [w | {_B: bias.of(c.shift.reshape(-1))} for w, c in zip(words, candidates.values(), strict=True)]
        free = _loosened(self._proto, self.graph, layer.mixer, bias.possible)
        errors = self._expected.errors(self._walk.tried("held", free, self._expected.names, words), len(words))
        best = int(np.argmin(errors))
        if errors[best] > errors[0] * (1 - _BETTER):
            best = 0
        result.errors.append(errors[best])
        self._settle(layer, list(candidates)[best], candidates, fit.plus(held), bias)
        if best:
            result.kept[layer.mixer.node] = list(candidates)[best]

    def _settle(self, layer: Layer, name: str, candidates: Mapping[str, Fit], sums: Sums, bias: Bias) -> None:
        """Give the layer what was chosen, fitted to all samples."""
        node = layer.mixer.node
        base = self._base(layer, bias, self.whole)
        chosen = base
        if "refitted" in name:
            chosen = _ridge(sums, base, candidates["refitted"].ridge, constant=bias.possible) or candidates["refitted"]
        if "matched" in name:
            chosen = _matched(sums, chosen)
        if not name and node not in self.whole:
            return
        value = self._value(layer)
        shift = chosen.shift.reshape(-1)
        self.updates[node] = Weights(layer.weight(chosen.weight, value.dtype), bias.of(shift) if bias.possible else None)
        self._proto = self._network()

    def _weights(self, layer: Layer, fit: Fit) -> Weights:
        return Weights(layer.weight(fit.weight, self._value(layer).dtype))

    def _value(self, layer: Layer) -> Array:
        value = self.graph.model.value(layer.node.inputs[layer.mixer.weight])
        if value is None:  # a layer has one, by ``layer_of``
            raise ValueError(layer.mixer.node)
        return value

    def _base(self, layer: Layer, bias: Bias, updates: Mapping[str, Weights]) -> Fit:
        """The operator with the weights that it was compensated with."""
        known = updates.get(layer.mixer.node)
        value = self._value(layer) if known is None else known.weight
        shift = np.zeros(layer.blocks * layer.outputs)
        if known is not None and known.bias is not None:
            shift = bias.shift(known.bias)
        return Fit(layer.matrix(value), shift.reshape(layer.blocks, layer.outputs))

    def _sums(self, layer: Layer, kind: str, place: int) -> Sums:
        """Samples of what the layer reads and should make; y less the bias and in the scale of W x."""
        made, data, shortcut = layer.node.outputs[0].name, layer.node.inputs[0].name, None
        total = self._added(layer, place)
        target = made if total is None else total[0]
        shortcut = None if total is None else total[1]
        work = max(1.0, float(layer.blocks) * layer.kept.size**2)
        wanted = min(max(_FEWEST, _POSITIONS * layer.kept.size), max(2048, int(_MOST_WORK / work)))
        rng = np.random.default_rng([self.seed, place])
        sums = Sums.of(layer)
        network = self._walk.values("pruned", kind, self._proto, [data, *([shortcut] if shortcut else [])])
        for before, now in zip(self._walk.values("original", kind, self._walk.order, [target]), network, strict=True):
            y = before[target].astype(np.float64)
            if shortcut:
                y = y - now[shortcut]
            x, y = layer.samples(now[data], y, -(-wanted // len(self.samples["fit"])), rng)
            sums.add(x, y)
        return _scaled(sums, Bias(self.graph, layer.mixer))

    def _added(self, layer: Layer, place: int) -> tuple[str, str] | None:
        """The sum that the layer's result alone goes into, and the other term, if that is made before the layer."""
        made = layer.node.outputs[0]
        users = self.graph.model.users(made)
        if len(users) != 1 or users[0].op != "Add" or users[0].domain or self.graph.model.is_output(made):
            return None
        other = next((t for t in users[0].inputs if t is not made and t.name != made.name), None)
        if other is None or self.graph.model.value(other) is not None or self.graph.model.producer(other) is None:
            return None
        mine, its = self.graph.flow.tensors.get(made.name), self.graph.flow.tensors.get(other.name)
        if mine is None or its is None or mine.rank != its.rank or self._walk.position(other.name) > place:
            return None
        same = all(mine.size(a) == its.size(a) for a in range(mine.rank))
        return (users[0].outputs[0].name, other.name) if same else None


def _scaled(sums: Sums, bias: Bias) -> Sums:
    """The sums of (y - beta b) / alpha."""
    offset = bias.offset.reshape(sums.y.shape)
    n, a = sums.count, bias.alpha
    yy = (sums.yy - 2 * offset * sums.y + n * offset**2) / a**2
    xy = (sums.xy - sums.x[:, :, None] * offset[:, None, :]) / a
    return Sums(n, sums.x, (sums.y - n * offset) / a, sums.xx, xy, yy)


def _candidates(fit: Sums, held: Sums, base: Fit, bias: Bias) -> dict[str, Fit]:
    """The choices besides ``base``, by name."""
    found: dict[str, Fit] = {}
    refitted = _best_ridge(fit, held, base, constant=bias.possible)
    if refitted is not None:
        found["refitted"] = refitted
    if bias.possible:
        found["matched"] = _matched(fit, base)
        if refitted is not None:
            found["refitted, matched"] = _matched(fit, refitted)
    return found


def _best_ridge(fit: Sums, held: Sums, base: Fit, *, constant: bool) -> Fit | None:
    """The fit with the least error on held-out samples; None if that is ``base``."""
    best, least = None, float(held.error(base.weight, base.shift).sum())
    for ridge in RIDGES:
        made = _ridge(fit, base, ridge, constant=constant)
        error = float("inf") if made is None else float(held.error(made.weight, made.shift).sum())
        if error < least:
            best, least = made, error
    return best


def _ridge(sums: Sums, base: Fit, ridge: float, *, constant: bool) -> Fit | None:
    """Least squares with a ridge toward ``base``; None if it cannot be solved."""
    n = sums.count
    mean_x, mean_y = sums.x / n, sums.y / n
    xx, xy = sums.xx / n, sums.xy / n
    if constant:
        xx = xx - mean_x[:, :, None] * mean_x[:, None, :]
        xy = xy - mean_x[:, :, None] * mean_y[:, None, :]
    else:
        xy = xy - mean_x[:, :, None] * base.shift[:, None, :]
    right = xy - xx @ base.weight.transpose(0, 2, 1)
    # What is less than rounding of the uncentred sums is no variance.
    energy = np.trace(sums.xx, axis1=1, axis2=2) / n
    scale = (np.trace(xx, axis1=1, axis2=2) + _ROUNDING * energy) / xx.shape[1] + np.finfo(float).tiny ** 0.5
    step = _solved(xx, ridge * scale, right)
    if step is None:
        return None
    weight = base.weight + step.transpose(0, 2, 1)
    shift = mean_y - np.einsum("gok,gk->go", weight, mean_x) if constant else base.shift
    return Fit(weight, shift, ridge)


def _solved(matrix: Floats, ridge: Floats, right: Floats) -> Floats | None:
    """(matrix + ridge)^-1 right, block by block."""
    count = matrix.shape[1]
    full = matrix + ridge[:, None, None] * np.eye(count)
    try:
        if len(full) == 1:
            return np.asarray(scipy.linalg.solve(full[0], right[0], assume_a="pos", check_finite=False), np.float64)[None]
        return np.asarray(np.linalg.solve(full, right), np.float64)
    except (np.linalg.LinAlgError, scipy.linalg.LinAlgError):
        return None


def _matched(sums: Sums, fit: Fit) -> Fit:
    """``fit`` with the mean and the variance of each output as they should be."""
    n = sums.count
    mean_x, mean_y = sums.x / n, sums.y / n
    covariance = sums.xx / n - mean_x[:, :, None] * mean_x[:, None, :]
    have = np.maximum(np.einsum("gok,gok->go", fit.weight @ covariance, fit.weight), 0)
    want = np.maximum(sums.yy / n - mean_y**2, 0)
    known = (have > _ROUNDING * (have + np.square(mean_y))) & (have > 0)
    stretch = np.sqrt(np.divide(want, have, out=np.ones_like(want), where=known)).clip(1 / _MOST_STRETCH, _MOST_STRETCH)
    weight = fit.weight * stretch[:, :, None]
    return Fit(weight, mean_y - np.einsum("gok,gk->go", weight, mean_x))


def _loosened(proto: onnx.ModelProto, graph: ChannelGraph, mixer: Mixer, biased: bool) -> onnx.ModelProto:
    """The network with the weight and the bias of one operator left open."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    slot = bias_slot(graph, mixer) if biased else None
    places = [(graph.nodes[mixer.node], mixer.weight, _W)]
    if slot is not None:
        places.append((graph.nodes[slot[0]], slot[1], _B))
    by_output = {name: node for node in made.graph.node for name in node.output}
    for node, index, name in places:
        mine = by_output[node.outputs[0].name]
        while len(mine.input) <= index:
            mine.input.append("")
        mine.input[index] = name
    return made
