"""Refitting: every operator behind a removal is fitted anew, in order, to make of what it reads now what it made before.

A pruned and compensated network drifts: each operator reads what those before it have bent. So, from the inputs to the outputs,
with x' what an operator reads in the pruned network (as refitted so far) and y what it made in the original,

    minimise  E |W x' + b - y|^2 + lambda d |W - W0|^2,        d the mean variance of a feature,

W0 the compensated weights: a ridge toward them, not toward zero, so that a large lambda leaves the operator as it is. Where the
operator's result is added to a shortcut, y is (original sum) - (pruned shortcut): the operator makes up for the shortcut's error.
lambda is chosen by the squared error on samples that took no part in the fit. All sums are float64. ``regression`` has the fits.

None is kept because it should help: the compensated operator, the refitted, the matched, and the one that is fitted to what a flat
function behind it can tell apart, are each tried in the network, and the one with the least error at the model's *output* on
held-out samples stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.model import node_key
from graphopt.ops.activation import flat_outside
from graphopt.ops.channels import Mixer
from graphopt.passes.prune.compensate import Bias
from graphopt.passes.prune.layers import Layer, layer_of
from graphopt.passes.prune.reference import Weights, bias_slot, masked, out_labels, reference, removed_columns
from graphopt.passes.prune.regression import Fit, Samples, again, candidates_of
from graphopt.passes.prune.sensitivity import Distance, macs_by_output, measured_outputs
from graphopt.passes.prune.walk import NETWORKS, Walk
from graphopt.runtime import Session
from graphopt.runtime.feeds import Spool

Array = NDArray[Any]
Floats = NDArray[np.float64]
Removed = NDArray[np.bool_]

_POSITIONS = 24
"""Positions to fit on for each column, and at least ``_FEWEST`` in all, as far as ``_MOST_WORK`` multiplications allow
(but ``_LEAST``), and ``_MOST_BYTES`` where samples are kept: held-out ones take a third of it besides."""
_FEWEST = 16384
_MOST_WORK = 1e11
_MOST_BYTES = 2**28
_LEAST = 2048

_CANDIDATES = 4
_MOST_TRIED, _FEWEST_TRIED = 6e12, 16
"""Multiply-accumulates to spend on trying candidates, and samples that are used all the same."""

_BETTER = 1e-3
"""A choice replaces another if the error at the output falls by this share of it."""

_W, _B = "refitted_weight", "refitted_bias"


@dataclass(slots=True)
class Refit:
    """What came of a refit.

    Attributes:
        updates: new weights by mixer.
        errors: the error at the output on held-out samples, at first and after each layer.
        kept: by mixer what was chosen: ``refitted``, ``relaxed`` or neither, ``matched`` or not.
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
    samples: Mapping[str, Spool]
    seed: int
    threads: int
    _expected: Distance = field(init=False)
    _walk: Walk = field(init=False)
    _proto: onnx.ModelProto = field(init=False)
    _tries: int = field(init=False)
    """Batches of held-out samples that candidates are tried on."""

    def run(self, advance: Callable[[], None]) -> Refit:
        """Refit all layers; ``advance`` is called for each."""
        ends = measured_outputs(self.graph.model)
        original = self.graph.model.proto()
        session = Session(self.graph.model, threads=self.threads, extra_outputs=ends)
        self._expected = Distance(ends, (session.run(feed, ends) for feed in self.samples["held"]))
        macs = macs_by_output(self.graph)
        self._walk = Walk(original, macs, {(n, k): f for n in NETWORKS for k, f in self.samples.items()}, ends, self.threads)
        self._proto = self._network()
        result = Refit(self.updates)
        runs = self._walk.values("pruned", "held", self._proto, ends)
        result.errors.append(self._expected.error(runs))
        layers = layers_behind(self.graph, self.removed, self.updates)
        batch = next((len(v) for v in next(iter(self.samples["held"])).values() if np.ndim(v)), 1)
        each = max(1, self.graph.cost.macs) * batch * max(1, len(layers)) * _CANDIDATES / 2  # half of a run is saved
        self._tries = max(-(-_FEWEST_TRIED // batch), int(_MOST_TRIED / each))
        for layer in layers:
            place = self._walk.position(layer.node.outputs[0].name)
            self._walk.advance(place, self._proto)
            self._layer(layer, place, result)
            advance()
        return result

    def _network(self) -> onnx.ModelProto:
        return reference(self.graph, masked(self.graph, self.removed, self.updates), self.removed).proto()

    def _layer(self, layer: Layer, place: int, result: Refit) -> None:
        bias = Bias(self.graph, layer.mixer)
        if not bias.alpha or not bias.known:
            self._keep(layer)
            return
        base = self._base(layer, bias, self.updates)
        fit, held = (self._samples(layer, bias, kind, place) for kind in ("fit", "held"))
        if not fit.sums.finite or not held.sums.finite:
            self._keep(layer)
            return
        candidates = {"": base, **candidates_of(fit, held.sums, base, biased=bias.possible)}
        words = [{_W: self._weights(layer, c).weight} for c in candidates.values()]
        if bias.possible:
            words = [w | {_B: bias.of(c.shift.reshape(-1))} for w, c in zip(words, candidates.values(), strict=True)]
        free = _loosened(self._proto, self.graph, layer.mixer, bias.possible)
        runs = self._walk.tried("held", free, self._expected.names, words, self._tries)
        errors = self._expected.errors(runs, len(words), self._tries)
        best = int(np.argmin(errors))
        if errors[best] > errors[0] * (1 - _BETTER):
            best = 0
        result.errors.append(errors[best])
        name = list(candidates)[best]
        if name or layer.mixer.node in self.whole:
            base = self._base(layer, bias, self.whole)
            chosen = again(name, fit.plus(held), base, candidates[name], biased=bias.possible) if name else base
            self._settle(layer, chosen, bias)
        if name:
            result.kept[layer.mixer.node] = name

    def _keep(self, layer: Layer) -> None:
        """Leave the layer as it was compensated, by all samples."""
        if layer.mixer.node in self.whole:
            self.updates[layer.mixer.node] = self.whole[layer.mixer.node]
            self._proto = self._network()

    def _settle(self, layer: Layer, chosen: Fit, bias: Bias) -> None:
        """Give the layer what was chosen."""
        shift = chosen.shift.reshape(-1)
        self.updates[layer.mixer.node] = Weights(self._weights(layer, chosen).weight, bias.of(shift) if bias.possible else None)
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

    def _samples(self, layer: Layer, bias: Bias, kind: str, place: int) -> Samples:
        """What the layer reads and should make; y less the bias and in the scale of W x."""
        made, data = layer.node.outputs[0], layer.node.inputs[0].name
        total = self._added(layer, place)
        target, shortcut = (made, None) if total is None else total
        flat = self._flat(self._biased(layer) if total is None else target, bias.alpha)
        offset, behind = (v.reshape(layer.blocks, 1, layer.outputs) for v in (bias.offset, bias.behind))
        each = -(-_positions(layer, kept=flat is not None) // len(self.samples["fit"]))
        rng = np.random.default_rng([self.seed, place])
        samples = Samples.of(layer, flat)
        network = self._walk.values("pruned", kind, self._proto, [data, *([shortcut] if shortcut else [])])
        for before, now in zip(self._walk.values("original", kind, self._walk.order, [target.name]), network, strict=True):
            terms = [before[target.name].astype(np.float64), *([now[shortcut]] if shortcut else [])]
            x, (wanted, *others) = layer.samples(now[data], terms, each, rng)
            added = (offset + sum(others)) / bias.alpha
            samples.add(x, wanted / bias.alpha - added, added + behind / bias.alpha)
        return samples

    def _biased(self, layer: Layer) -> gs.Tensor:
        """What the layer makes, with its bias where an operator behind it holds that."""
        slot = bias_slot(self.graph, layer.mixer)
        return self.graph.nodes[layer.mixer.node if slot is None else slot[0]].outputs[0]

    def _flat(self, made: gs.Tensor, scale: float) -> tuple[float, float] | None:
        """Below the first and above the second number it is all the same what the tensor holds, divided by ``scale``."""
        users = self.graph.model.users(made)
        if not users or self.graph.model.is_output(made):
            return None
        found = [flat_outside(user, self.graph.model.value) for user in users]
        known = [f for f in found if f is not None]
        if len(known) < len(users):
            return None
        low, high = min(f[0] for f in known) / scale, max(f[1] for f in known) / scale
        return min(low, high), max(low, high)

    def _added(self, layer: Layer, place: int) -> tuple[gs.Tensor, str] | None:
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
        return (users[0].outputs[0], other.name) if same else None


def _positions(layer: Layer, *, kept: bool) -> int:
    """How many positions to fit on: enough for the columns, within bounds of work, and of memory where samples are kept."""
    columns = layer.kept.size
    work = max(1.0, float(layer.blocks) * columns**2)
    most = max(_LEAST, int(_MOST_WORK / work))
    if kept:
        most = min(most, max(1, _MOST_BYTES // (4 * layer.blocks * (columns + 2 * layer.outputs))))
    return min(max(_FEWEST, _POSITIONS * columns), most)


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
