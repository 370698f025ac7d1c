"""How many channels are frozen without need, in small networks, by trying to remove them by hand.

For every frozen channel of every operator with constant weights, sets of channels of that operator are tried that contain it: it
alone, the block of each length that divides their number, the class of each modulus that does. A set is closed: where the operators
of the graph need another tensor's channels to go too (the other term of a sum), the channels of other operators that make these are
added. The set *can go* if the walk over the graph on booleans (``gone``) says so:

- no operator looks across channels that go and channels that stay, and no graph output loses anything;
- every tensor that loses something keeps something, and a number of elements that does not depend on where along one of its axes;
- operands of element-wise operators and of products lose the same, blocks of grouped convolutions lose equal counts or go with
  their rows, and what mixes channels reads whole channels;

and if the numbers agree: with other weights in the rows that go, and zero wherever a mixing operator reads them, the outputs are
those of the masked original. Channels that are frozen, but of which such a set can go, are frozen without need. What this search
does not find is not counted, so the share is a lower bound; what it finds of the channels that are not frozen is told beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.nets import feed_for
from tests.pruning.check import EXACT, distance, facts_of
from tests.pruning.gone import ELEMENTWISE, Bools, Facts, Gone, Mixed, Walk, attrs_of, key, live, masked
from tests.pruning.nets import values_of
from tests.pruning.subject import frozen_rows

Rows = dict[str, NDArray[np.bool_]]
ROUNDS = 8


def rows_mask(node: NodeProto, weight: tuple[int, ...], rows: Bools) -> Bools:
    """The elements of a weight that make some output channels."""
    attrs, gone = attrs_of(node), np.zeros(weight, bool)
    if node.op_type == "Conv":
        gone[rows] = True
    elif node.op_type == "ConvTranspose":
        groups = attrs.get("group", 1)
        blocks = gone.reshape(groups, weight[0] // groups, *weight[1:])
        blocks.swapaxes(1, 2)[rows.reshape(groups, weight[1])] = True
    elif node.op_type == "Gemm" and attrs.get("transB", 0):
        gone[rows] = True
    else:
        gone[..., rows] = True
    return gone


class _Trial(Walk):
    """A walk in which what is gone is not read off a pruned graph but supposed."""

    def __init__(self, facts: Facts, rows: Rows, *, lenient: bool = False) -> None:
        super().__init__(facts, facts)
        self._rows = rows
        self._lenient = lenient

    def of(self, node: NodeProto, index: int) -> Bools:
        name = node.input[index]
        if name not in self.before.constants:
            return super().of(node, index)
        shape = self.before.constants[name].shape
        rows = self._rows.get(key(node)) if index == 1 else None
        return np.zeros(shape, bool) if rows is None else rows_mask(node, shape, rows)

    def step(self, node: NodeProto) -> None:
        try:
            super().step(node)
        except Mixed:
            if not self._lenient:
                raise
            for name in node.output:
                if name:
                    self.gone.tensors[name] = np.ones(self.before.shapes[name], bool)


class Search:
    """The trials on one network."""

    def __init__(self, proto: onnx.ModelProto, seed: int) -> None:
        self.proto = proto
        self.feed = feed_for(proto, seed, 2)
        self.facts = facts_of(proto, values_of(proto, self.feed))
        self.nodes = live(self.facts)
        self.frozen = {k: v for k, v in frozen_rows(proto).items() if any(key(n) == k for n in self.nodes)}
        self._reach: dict[str, list[Gone]] = {}

    def walk(self, rows: Rows, *, lenient: bool = False) -> Gone:
        trial = _Trial(self.facts, rows, lenient=lenient)
        for node in self.nodes:
            trial.step(node)
        return trial.gone

    def reach(self, producer: str) -> list[Gone]:
        """Where each output channel of an operator gets to, as far as the next operators that mix."""
        if producer not in self._reach:
            eye = np.eye(len(self.frozen[producer]), dtype=bool)
            self._reach[producer] = [self.walk({producer: row}, lenient=True) for row in eye]
        return self._reach[producer]

    def can_go(self, producer: str, rows: Bools) -> bool:
        """Whether these channels can go, with whatever else has to."""
        supposed: Rows = {producer: rows.copy()}
        for _ in range(ROUNDS):
            if any(r.all() for r in supposed.values()):
                return False
            try:
                gone = self.walk(supposed)
            except Mixed:
                return False
            if any(gone.tensors.get(o, np.zeros(1, bool)).any() for o in self.facts.outputs):
                return False
            missing = list(self.missing(gone, supposed))
            if not missing:
                return self.sound(gone) and self.agrees(gone, supposed)
            grown = [self.add(supposed, tensor, lost) for tensor, lost in missing]
            if not all(grown):
                return False
        return False

    def add(self, supposed: Rows, tensor: str, lost: Bools) -> bool:
        """Let the channels go that make ``lost`` of a tensor; False if there are none."""
        grown = False
        for producer in self.frozen:
            for k, gone in enumerate(self.reach(producer)):
                found = gone.tensors.get(tensor)
                if found is not None and (found & lost).any():
                    rows = supposed.setdefault(producer, np.zeros(len(self.frozen[producer]), bool))
                    grown |= not rows[k]
                    rows[k] = True
        return grown

    def missing(self, gone: Gone, supposed: Rows) -> Iterator[tuple[str, Bools]]:
        """What else must go: tensors and their elements."""
        for node in self.nodes:
            variable = [n for n in node.input if n and n not in self.facts.constants]
            if node.op_type in ELEMENTWISE:
                for name in variable:
                    yield from self._short(gone, name, self._required(gone.tensors[key(node)], self.facts.shapes[name]))
            elif node.op_type in ("MatMul", "Gemm") and len(variable) > 1:
                yield from self._product(gone, *variable[:2])
            elif node.op_type == "Conv" and attrs_of(node).get("group", 1) > 1:
                yield from self._grouped(gone, node, supposed)

    def _short(self, gone: Gone, name: str, required: Bools) -> Iterator[tuple[str, Bools]]:
        lost = required & ~gone.tensors.get(name, np.zeros(self.facts.shapes[name], bool))
        if lost.any():
            yield name, lost

    @staticmethod
    def _required(out: Bools, shape: tuple[int, ...]) -> Bools:
        """What an operand of this shape loses if the result loses ``out``: nothing where it is repeated for others that stay."""
        out = out.all(axis=tuple(range(out.ndim - len(shape))))
        axes = tuple(k for k, n in enumerate(shape) if n == 1 and out.shape[k] != 1)
        return out.all(axis=axes, keepdims=True) if axes else out

    def _product(self, gone: Gone, a: str, b: str) -> Iterator[tuple[str, Bools]]:
        first, second = (gone.tensors.get(n, np.zeros(self.facts.shapes[n], bool)) for n in (a, b))
        if first.ndim != second.ndim or first.ndim < 2:
            return
        inner, outer = first.all(-2), second.all(-1)
        yield from self._short(gone, b, np.broadcast_to(self._required(inner, outer.shape)[..., None], second.shape))
        yield from self._short(gone, a, np.broadcast_to(self._required(outer, inner.shape)[..., None, :], first.shape))

    def _grouped(self, gone: Gone, node: NodeProto, supposed: Rows) -> Iterator[tuple[str, Bools]]:
        """A block goes with all of its rows, or not."""
        groups, shape = attrs_of(node)["group"], self.facts.shapes[node.input[0]]
        data = (
            gone.tensors.get(node.input[0], np.zeros(shape, bool)).all(axis=(0, *range(2, len(shape)))).reshape(groups, -1).all(1)
        )
        made = gone.tensors[key(node)]
        rows = made.all(axis=(0, *range(2, made.ndim))).reshape(groups, -1).all(1)
        if (data & ~rows).any():
            yield key(node), self._blocks(made.shape, data & ~rows)
        if (rows & ~data).any():
            yield node.input[0], self._blocks(shape, rows & ~data)

    @staticmethod
    def _blocks(shape: tuple[int, ...], blocks: Bools) -> Bools:
        channels = np.repeat(blocks, shape[1] // len(blocks)).reshape(-1, *[1] * (len(shape) - 2))
        return np.array(np.broadcast_to(channels, shape))

    def sound(self, gone: Gone) -> bool:
        """Whether every tensor stays a tensor, and every mixing operator reads whole channels."""
        for node in self.nodes:
            if not all(_even(gone.tensors[name]) for name in node.output if name in gone.tensors):
                return False
            if node.op_type in ("Conv", "ConvTranspose"):
                data = gone.tensors.get(node.input[0])
                if data is not None and not _blocks_alike(data, attrs_of(node).get("group", 1)):
                    return False
                if not _blocks_alike(gone.tensors[key(node)], attrs_of(node).get("group", 1)):
                    return False
            if node.op_type in ("MatMul", "Gemm") and node.input[0] in gone.tensors:
                data = gone.tensors[node.input[0]]
                if not _columns_alike(data.T if attrs_of(node).get("transA", 0) else data):
                    return False
        return True

    def agrees(self, gone: Gone, supposed: Rows) -> bool:
        """Whether the outputs of the masked original stay what they are, whatever the weights of what goes."""
        with np.errstate(all="ignore"):  # what goes may well overflow
            reference = values_of(masked(self.proto, gone, lambda _: TensorProto.DOUBLE), self.feed)
            found = values_of(self._poisoned(gone, supposed), self.feed)
        return all(distance(reference[o], found[o]) <= EXACT for o in self.facts.outputs)

    def _poisoned(self, gone: Gone, supposed: Rows) -> onnx.ModelProto:
        made, nodes = onnx.ModelProto(), list[NodeProto]()
        made.CopyFrom(self.proto)
        zero = numpy_helper.from_array(np.zeros(()), "zero of the poisoned")
        made.graph.initializer.append(zero)
        for node in self.proto.graph.node:
            copy = NodeProto()
            copy.CopyFrom(node)
            rows = supposed.get(key(node)) if any(node.output) else None
            if rows is not None:
                value = np.array(self.facts.constants[node.input[1]], np.float64)
                mask = rows_mask(node, value.shape, rows)
                value[mask] = 11 - 7 * value[mask]
                copy.input[1] = f"poisoned {key(node)}"
                made.graph.initializer.append(numpy_helper.from_array(value, copy.input[1]))
            for (name, index), lost in gone.reads.items():
                if any(node.output) and name == key(node):
                    copy.input[index] = f"clean {name} {index}"
                    where = f"{copy.input[index]} mask"
                    made.graph.initializer.append(numpy_helper.from_array(np.array(lost), where))
                    nodes.append(helper.make_node("Where", [where, zero.name, node.input[index]], [copy.input[index]]))
            nodes.append(copy)
        del made.graph.node[:]
        made.graph.node.extend(nodes)
        return made


def _even(lost: Bools) -> bool:
    """Whether along some axis the same number stays everywhere, and not none."""
    if not lost.any():
        return True
    counts = (np.count_nonzero(lost, axis=axis) for axis in range(lost.ndim))
    if not lost.size:
        return True
    return not lost.all() and any((c == c.flat[0]).all() for c in counts)


def _columns_alike(lost: Bools) -> bool:
    """Whether all rows that are not gone as a whole have lost the same columns, within each matrix."""
    matrices = lost.reshape(-1, *lost.shape[-2:]) if lost.ndim > 1 else lost.reshape(1, 1, -1)
    for matrix in matrices:
        rest = matrix[~matrix.all(1)]
        if rest.size and (rest != rest[0]).any():
            return False
    return True


def _blocks_alike(lost: Bools, groups: int) -> bool:
    """Whole channels, as many in each block that is not gone as a whole."""
    some = lost.all(axis=tuple(range(1, lost.ndim)))
    rest = lost[~some] if some.any() else lost
    channels = rest.all(axis=(0, *range(2, rest.ndim)))
    if not np.array_equal(channels, rest.any(axis=(0, *range(2, rest.ndim)))):
        return False
    counts = channels.reshape(groups, -1).sum(1)
    counts = counts[counts < channels.size // groups]
    return counts.size == 0 or bool((counts == counts[0]).all())


def sets_with(k: int, count: int) -> Iterator[Bools]:
    """Sets of channels that contain ``k``: alone, in blocks, in classes."""
    index = np.arange(count)
    for n in (d for d in range(1, count) if count % d == 0):
        yield index // n == k // n
        if n > 1:
            yield index % n == k % n


@dataclass
class Count:
    """Channels in all; frozen ones; those frozen without need, by reason; of the others, those that the search finds too."""

    total: int = 0
    frozen: int = 0
    needless: Counter[str] = field(default_factory=Counter)
    found: int = 0

    def __add__(self, other: Count) -> Count:
        sums = self.total + other.total, self.frozen + other.frozen, self.needless + other.needless, self.found + other.found
        return Count(*sums)

    def __str__(self) -> str:
        without, free = sum(self.needless.values()), self.total - self.frozen
        share, found = without / max(self.total, 1), self.found / max(free, 1)
        return (
            f"{self.total} channels, {self.frozen} frozen, {without} of these without need ({share:.2%} of all); "
            f"of the {free} that are not frozen the search finds {found:.1%}"
        )


def needless(proto: onnx.ModelProto, seed: int) -> Count:
    """Count in one network."""
    search, count = Search(proto, seed), Count()
    for producer, reasons in search.frozen.items():
        known: dict[bytes, bool] = {}
        count.total += len(reasons)
        for k, why in enumerate(reasons):
            count.frozen += why is not None
            for rows in sets_with(k, len(reasons)):
                if rows.tobytes() not in known:
                    known[rows.tobytes()] = search.can_go(producer, rows)
                if known[rows.tobytes()]:
                    if why is None:
                        count.found += 1
                    else:
                        count.needless[why] += 1
                    break
    return count


def measure(seeds: Iterable[int]) -> Count:
    """The shares over many random networks; prints what is frozen without need as it is found."""
    from tests.pruning.random_networks import random_network

    count = Count()
    for seed in seeds:
        try:
            one = needless(random_network(seed), seed)
        except Exception as error:  # noqa: BLE001  the other seeds are still to come
            print(f"{seed} needless: {type(error).__name__}: {error}", flush=True)
            continue
        count += one
        if one.needless:
            print(f"{seed} frozen without need: {dict(one.needless)}", flush=True)
    return count
