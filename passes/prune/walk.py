"""Two networks of the same tensors, walked from their inputs to their outputs side by side.

Refitting one operator after the other needs what each reads, in the pruned network and in the original, for every sample, and the
pruned network changes on the way. To compute all that lies before an operator each time would cost the square of the depth; to keep
every tensor, gigabytes. So a *front* is kept: the tensors that lie across one place of the graph, for every sample, in memory up
to a bound and behind that in a temporary folder. From it the operators that follow are computed; now and then it moves on, to where
little lies across. With a front that moves each sixteenth of the multiply-accumulates the whole walk costs a few runs of each
network, and memory does not grow with the samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx.helper import make_tensor_value_info, np_dtype_to_tensor_dtype

from graphopt.runtime import Feed, Session
from graphopt.runtime.feeds import Spool
from graphopt.runtime.prefix import prefix, reads
from graphopt.runtime.stream import tensor_bytes

Array = NDArray[Any]

NETWORKS = ("original", "pruned")

_STRIDE = 16
"""The front moves when this part of the multiply-accumulates lies between it and the operator that is next."""

_MOST_BYTES = 2**32
"""A front that would take more stays where it is; what follows is then computed from farther back."""


def ports(feed: Mapping[str, Array]) -> list[onnx.ValueInfoProto]:
    """Declarations of tensors that are given: type and rank, sizes open."""
    return [
        make_tensor_value_info(name, np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim) for name, value in feed.items()
    ]


@dataclass(slots=True)
class Walk:
    """A walk over samples.

    Attributes:
        order: the original network; its order of nodes counts.
        macs: multiply-accumulates by the first output of each node; where none are known, nodes are counted.
        samples: the feeds by network ("original", "pruned") and name of a set of samples ("fit", "held").
    """

    order: onnx.ModelProto
    macs: Mapping[str, float]
    samples: Mapping[tuple[str, str], Spool]
    ends: Sequence[str]
    threads: int
    place: int = 0
    _stores: dict[tuple[str, str], Spool] = field(default_factory=dict[tuple[str, str], Spool])
    _live: list[tuple[set[str], int]] = field(default_factory=list[tuple[set[str], int]])
    _before: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        self._stores.update(self.samples)
        self._before = [0.0]
        known = any(self.macs.values())
        for node in self.order.graph.node:
            self._before.append(self._before[-1] + (self.macs.get(node.output[0], 0.0) if known else 1.0))
        self._live = _fronts(self.order, self.ends, next(f for store in self.samples.values() for f in store))

    def position(self, output: str) -> int:
        """Where the node is that makes a tensor."""
        return next(k for k, node in enumerate(self.order.graph.node) if output in node.output)

    def advance(self, position: int, pruned: onnx.ModelProto | None = None) -> None:
        """Move the front, if that is worth it, to a place that is not behind ``position``; what lies before it is final.

        ``pruned`` is the pruned network as it is by now, where there is one.
        """
        if position <= self.place or self._before[position] - self._before[self.place] < self._before[-1] / _STRIDE:
            return
        middle = (self._before[self.place] + self._before[position]) / 2
        places = [k for k in range(self.place + 1, position + 1) if self._before[k] >= middle]
        best = min(places, key=lambda k: (self._live[k][1], -k))
        feeds = sum(len(s) for s in self.samples.values())
        names = self._live[best][0]
        if feeds * self._live[best][1] > _MOST_BYTES or not names:
            return
        if pruned is not None and not self._reachable(pruned, names):
            return
        for (network, kind), store in self._stores.items():
            proto = self.order if network == "original" or pruned is None else pruned
            self._stores[network, kind] = Spool.of(_picked(self._through(proto, store, sorted(names)), sorted(names)))
        self.place = best

    def _reachable(self, pruned: onnx.ModelProto, names: set[str]) -> bool:
        """Whether the rest of the pruned network needs nothing else."""
        known = [onnx.ValueInfoProto(name=name) for name in names]
        rest = prefix(pruned, self.ends, known)
        listed = {t.name for t in rest.graph.initializer}
        return {v.name for v in rest.graph.input} - listed <= names

    def _through(
        self, proto: onnx.ModelProto, store: Spool, names: Sequence[str]
    ) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
        """What is given and what is made of it, for every feed of a store."""
        session: Session | None = None
        for feed in store:
            wanted = [name for name in names if name not in feed]
            if session is None and wanted:
                session = Session(prefix(proto, wanted, ports(feed)), threads=self.threads, label="a part of the model")
            yield feed, _run(session, feed) if session is not None else {}

    def values(self, network: str, kind: str, proto: onnx.ModelProto, names: Sequence[str]) -> Iterator[dict[str, Array]]:
        """Tensors of a network (``original`` or ``pruned``, as it is by now), feed by feed."""
        yield from _picked(self._through(proto, self._stores[network, kind], names), names)

    def tried(
        self, kind: str, proto: onnx.ModelProto, names: Sequence[str], choices: Sequence[Mapping[str, Array]], count: int
    ) -> Iterator[list[dict[str, Array]]]:
        """Tensors of the pruned network for several values of its free inputs, for the first ``count`` feeds; the values are no
        part of a feed.
        """
        store = self._stores["pruned", kind]
        session: Session | None = None
        for feed in store.read(range(min(count, len(store)))):
            if session is None:
                cut = prefix(proto, names, ports({**feed, **choices[0]}))
                session = Session(cut, threads=self.threads, label="a part of the model")
            yield [_run(session, {**feed, **choice}) for choice in choices]


def _picked(runs: Iterable[tuple[dict[str, Array], dict[str, Array]]], names: Sequence[str]) -> Iterator[dict[str, Array]]:
    """Of each run the tensors of these names, given or made."""
    return ({name: made[name] if name in made else feed[name] for name in names} for feed, made in runs)


def _run(session: Session, feed: Mapping[str, Array]) -> dict[str, Array]:
    return session.run({name: feed[name] for name in session.input_names})


def _fronts(proto: onnx.ModelProto, ends: Sequence[str], feed: Feed) -> list[tuple[set[str], int]]:
    """Before every node, and behind the last: the computed tensors that are read from there on, and their bytes."""
    sizes = tensor_bytes(proto, feed)
    sizes.update({name: int(value.nbytes) for name, value in feed.items()})
    constants = {t.name for t in proto.graph.initializer}
    made = {name: k + 1 for k, node in enumerate(proto.graph.node) for name in node.output if name}
    made.update({value.name: 0 for value in proto.graph.input if value.name not in constants})
    last = {name: made[name] for name in made}
    for k, node in enumerate(proto.graph.node):
        last.update({name: k for name in reads(node) if name in made})
    last.update({name: len(proto.graph.node) for name in ends if name in made})
    begins: dict[int, list[str]] = {}
    ends_at: dict[int, list[str]] = {}
    for name, place in made.items():
        begins.setdefault(place, []).append(name)
        ends_at.setdefault(max(last[name], place - 1), []).append(name)
    fronts: list[tuple[set[str], int]] = []
    names: set[str] = set()
    for place in range(len(proto.graph.node) + 1):
        names.update(begins.get(place, ()))
        names.difference_update(ends_at.get(place - 1, ()))
        unknown = any(name not in sizes for name in names)
        fronts.append((set(names), _MOST_BYTES if unknown else sum(sizes[name] for name in names)))
    return fronts
