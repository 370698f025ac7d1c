"""Whether a region of a graph could have been one convolution, found out without the algebra that is under test.

A region is affine, so its Jacobian and its value at zero are all there is to know. Both are read off by running it on impulses.
It is a convolution of stride S if the entries of the Jacobian depend on (output channel, input channel, x - S y) alone, and what
it makes of zero on the channel alone; it is a convolution and then a DepthToSpace by U, or a transposed convolution of stride U,
if the same holds for each of the U phases of the output. That is checked at every position, the border included, and on several
sizes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from tests import oracle

Array = NDArray[Any]

KERNELS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
AFFINE = KERNELS | {
    "Add", "Sub", "Sum", "Mul", "Div", "Neg", "BatchNormalization", "AveragePool", "Identity", "Dropout", "Pad", "Concat", "Slice",
    "Split", "Gather", "Reshape", "Transpose", "DepthToSpace", "SpaceToDepth", "Resize",
}  # fmt: skip
BATCH = 2_000_000
"""Elements of a tensor up to which impulses are run together."""
TOLERANCE = 1e-9
DEPTH = 3
LARGEST = 10_000_000
"""Elements of a Jacobian, at most."""


@dataclass(frozen=True)
class Missed:
    """A region of ``nodes`` nodes that could have been ``fewest``."""

    kinds: tuple[str, ...]
    fewest: int

    def __str__(self) -> str:
        return f"{' '.join(self.kinds)} could be {self.fewest}"


@dataclass(frozen=True)
class Fewest:
    """How few operators a region could be, and the multiply-accumulates of them (of one sample, in as many groups as can be)."""

    operators: int
    macs: int


def missed(proto: onnx.ModelProto, feed: Mapping[str, Array], dynamic: bool) -> list[Missed]:
    """Closed regions that could have been fewer operators at no greater cost; the smallest of those that lie in one another."""
    values = {**oracle.constants_of(proto), **{k: oracle.wide(v) for k, v in feed.items()}}
    constants = set(values) - set(feed)
    nodes = list(proto.graph.node)
    oracle.run(nodes, values, oracle.opset_of(proto))
    found: list[Missed] = []
    counted: list[set[int]] = []
    for root, top, inside in regions(proto, constants):
        region = [nodes[i] for i in inside]
        if not any(m <= set(inside) for m in counted) and all(fits(n, values) for n in region):
            given = {k: v for k, v in values.items() if k in constants}
            fewest = fewest_operators(region, root, top, values, given, oracle.opset_of(proto), dynamic)
            if fewest is None or fewest.operators >= len(region):
                continue
            if fewest.macs + values[top].size <= sum(work(n, values) for n in region):
                found.append(Missed(tuple(n.op_type for n in region), fewest.operators))
                counted.append(set(inside))
    return found


def fits(node: NodeProto, values: Mapping[str, Array]) -> bool:
    """Whether a kernel is no larger than what it runs over: otherwise some of it is never seen, and chance decides."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kernel = attrs.get("kernel_shape", ())
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, attrs.get("dilations", [1] * len(kernel)), strict=True)]
    return all(e <= h for e, h in zip(extent, values[node.input[0]].shape[2:], strict=False))


def work(node: NodeProto, values: Mapping[str, Array]) -> float:
    """Multiply-accumulates and elements written."""
    made = sum(values[o].size for o in node.output if o in values)
    match node.op_type:
        case "Conv":
            return made + made * values[node.input[1]][0].size
        case "ConvTranspose":
            return made + values[node.input[0]].size * values[node.input[1]][0].size
        case "Gemm" | "MatMul":
            return made + made * values[node.input[0]].shape[-1]
        case _:
            return made


def regions(proto: onnx.ModelProto, constants: set[str]) -> Iterator[tuple[str, str, list[int]]]:
    """For each tensor, the smallest ``DEPTH`` affine regions with a kernel of which it is the only way out, with one way in."""
    flow: nx.DiGraph[str] = nx.DiGraph()
    readers: dict[str, set[int]] = {o.name: {-1} for o in proto.graph.output}
    for index, node in enumerate(proto.graph.node):
        moving = [name for name in node.input if name and name not in constants]
        for name in moving:
            readers.setdefault(name, set()).add(index)
        for out in node.output:
            flow.add_edges_from((name, out) for name in moving or [""])
    flow.add_edges_from(("", i.name) for i in proto.graph.input if i.name in flow)
    makers = {out: i for i, node in enumerate(proto.graph.node) for out in node.output}
    above = nx.immediate_dominators(flow, "") if "" in flow else {}
    for top in makers:
        root, count = above.get(top, ""), 0
        while root and count < DEPTH:
            between = (nx.descendants(flow, root) & nx.ancestors(flow, top)) | {top}
            inside = sorted({makers[t] for t in between})
            kinds = {proto.graph.node[i].op_type for i in inside}
            if not kinds <= AFFINE:
                break
            made = {o for i in inside for o in proto.graph.node[i].output} - {top}
            if len(inside) > 1 and kinds & KERNELS and all(readers.get(t, set()) <= set(inside) for t in made):
                count += 1
                yield root, top, inside
            root = above.get(root, "") if above.get(root) != root else ""


def fewest_operators(
    region: Sequence[NodeProto], root: str, top: str, values: Mapping[str, Array], constants: Mapping[str, Array], opset: int,
    dynamic: bool,
) -> Fewest | None:  # fmt: skip
    """How few operators make ``top`` from ``root``; None if nothing better is known than what is there."""
    shape, wanted = values[root].shape, values[top].shape
    if any(n.op_type in ("MatMul", "Gemm") for n in region):  # a product, a bias where there is no Gemm, and a reshape
        operators = (1 if 2 in (len(shape), len(wanted)) else 2) + (len(shape) != len(wanted))
        return Fewest(operators, values[top].size * shape[-1])
    if len(shape) < 3 or len(shape) != len(wanted):
        return None
    up, down = _rate(region, root, top, constants, len(shape) - 2)
    answers: list[Fewest] = []
    for number, sizes in enumerate(_sizes(shape[2:], down, dynamic)):
        try:
            answer = _Probe(region, root, top, (shape[1], *sizes), constants, opset).fewest(up, down)
        except _TooLargeError:
            return None
        except (ValueError, IndexError):
            if number == 0:
                raise
            continue  # a Reshape to the declared size
        if answer is None:
            return None
        answers.append(answer)
    return Fewest(max(a.operators for a in answers), answers[0].macs * shape[0])


def _sizes(declared: Sequence[int], down: Sequence[int], dynamic: bool) -> list[tuple[int, ...]]:
    """The declared sizes and, so that chance does not count, larger ones with the same remainders (any, if they are dynamic)."""
    found = [tuple(declared), tuple(h + math.lcm(2, s) for h, s in zip(declared, down, strict=True))]
    return found + [tuple(h + k for h in declared) for k in range(1, 5)] if dynamic else found


def _rate(region: Sequence[NodeProto], root: str, top: str, constants: Mapping[str, Array], n: int) -> tuple[list[int], list[int]]:
    """By how much a region enlarges and reduces its input along each axis, read off any one way through it."""
    makers = {out: node for node in region for out in node.output}
    rates = [Fraction(1)] * n
    at = top
    while at != root:
        node = makers[at]
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        step = [Fraction(1)] * n
        match node.op_type:
            case "Conv" | "AveragePool":
                step = [Fraction(1, s) for s in attrs.get("strides", [1] * n)]
            case "ConvTranspose":
                step = [Fraction(s) for s in attrs.get("strides", [1] * n)]
            case "DepthToSpace":
                step = [Fraction(attrs["blocksize"])] * n
            case "SpaceToDepth":
                step = [Fraction(1, attrs["blocksize"])] * n
            case "Resize":
                step = [Fraction(float(s)).limit_denominator(64) for s in constants[node.input[2]][2:]]
            case _:
                pass
        rates = [a * b for a, b in zip(rates, step, strict=True)]
        at = next(name for name in node.input if name == root or name in makers)
    return [r.numerator for r in rates], [r.denominator for r in rates]


@dataclass(frozen=True)
class _Reach:
    """First and last offset x - S y of a kernel, and its weights: pairs of channels times taps."""

    low: Array
    high: Array
    weights: int


def _pairs(joined: NDArray[np.bool_]) -> int:
    """Pairs of channels that a convolution works on: what it does not read it reads as zeros, but for whole groups."""
    c_in, c_out = joined.shape
    for groups in range(math.gcd(c_in, c_out), 0, -1):
        if c_in % groups == c_out % groups == 0:
            blocks = joined.reshape(groups, c_in // groups, groups, c_out // groups).any(axis=(1, 3))
            if not (blocks & ~np.eye(groups, dtype=bool)).any():
                return c_in * c_out // groups
    return c_in * c_out


class _TooLargeError(ValueError):
    """A Jacobian that is not worth its memory."""


class _Probe:
    """A region at one size of its input: its value at zero, ``base`` [o, y...], and its Jacobian [i, x..., o, y...]."""

    def __init__(
        self, region: Sequence[NodeProto], root: str, top: str, shape: Sequence[int], constants: Mapping[str, Array], opset: int
    ) -> None:
        self.region = region
        count = math.prod(shape)

        def run(x: Array) -> Array:
            values = {**constants, root: x}
            oracle.run(region, values, opset)
            return values[top]

        self.base = run(np.zeros((1, *shape)))[0]
        if count * self.base.size > LARGEST:
            raise _TooLargeError
        self.jacobian = np.zeros((count, *self.base.shape))
        for first in range(0, count, step := max(BATCH // max(self.base.size, count), 1)):
            impulses = np.eye(min(step, count - first), count, first).reshape(-1, *shape)
            self.jacobian[first : first + step] = self._together(run, impulses) - self.base
        self.jacobian = self.jacobian.reshape(*shape, *self.base.shape)
        self.inputs, self.outputs = tuple(shape[1:]), self.base.shape[1:]

    def _together(self, run: Callable[[Array], Array], impulses: Array) -> Array:
        """One batch, unless a Reshape in the region insists on the batch that the model has."""
        with contextlib.suppress(ValueError):
            return run(impulses)
        return np.concatenate([run(one[None]) for one in impulses])

    def fewest(self, up: Sequence[int], down: Sequence[int]) -> Fewest | None:
        """Operators that it takes: 1 for a convolution or a transposed one, 2 for a convolution and a DepthToSpace."""
        if any(o < u for o, u in zip(self.outputs, up, strict=True)):
            return None  # some phase does not occur at this size
        scale = max(1.0, float(np.abs(self.jacobian).max()), float(np.abs(self.base).max()))
        reach: list[_Reach] = []
        levels: list[Array] = []
        for phase in itertools.product(*map(range, up)):
            kernel = self._kernel(phase, up, down, TOLERANCE * scale)
            level = self.base[(..., *(slice(f, None, u) for f, u in zip(phase, up, strict=True)))]
            level = level.reshape(len(level), -1)
            if kernel is None or np.ptp(level, axis=1).max() > TOLERANCE * scale:
                return None
            reach.append(kernel)
            levels.append(level[:, 0])
        macs = sum(r.weights for r in reach) * math.prod(self.outputs) // len(reach)
        alike = max(down) == 1 and np.ptp(levels, axis=0).max() <= TOLERANCE * scale
        if alike and any(n.op_type == "ConvTranspose" for n in self.region):
            return Fewest(1, macs)
        low, high = np.min([r.low for r in reach], axis=0), np.max([r.high for r in reach], axis=0)
        if not self._placeable(low, high, up, down):
            return None
        shuffled = len(up) == 2 and len(set(up)) == 1 and not any(o % u for o, u in zip(self.outputs, up, strict=True))
        return Fewest(1, macs) if max(up) == 1 else Fewest(2, macs) if shuffled else None

    def _kernel(self, phase: Sequence[int], up: Sequence[int], down: Sequence[int], tolerance: float) -> _Reach | None:
        """The kernel of one phase; None if the Jacobian depends on more than that."""
        counts = [len(range(f, o, u)) for f, o, u in zip(phase, self.outputs, up, strict=True)]
        shift = [s * (c - 1) for s, c in zip(down, counts, strict=True)]
        c_in, c_out = len(self.jacobian), len(self.base)
        kernel = np.full((c_in, *(h + t for h, t in zip(self.inputs, shift, strict=True)), c_out), np.nan)
        for q in itertools.product(*map(range, counts)):
            at = tuple(u * i + f for u, i, f in zip(up, q, phase, strict=True))
            here = self.jacobian[(..., slice(None), *at)]
            window = tuple(
                slice(t - s * i, t - s * i + h) for t, s, i, h in zip(shift, down, q, self.inputs, strict=True)
            )  # fmt: skip
            known = kernel[(slice(None), *window)]
            if np.nanmax(np.abs(known - here), initial=0.0) > tolerance:
                return None
            known[:] = np.where(np.isnan(known), here, known)
        there = np.nan_to_num(np.abs(kernel)) > tolerance
        taps = np.argwhere(there.any(axis=(0, -1)))
        if not len(taps):
            return _Reach(np.zeros(len(shift), int), np.zeros(len(shift), int), 0)
        pairs = _pairs(there.any(axis=tuple(range(1, there.ndim - 1))))
        return _Reach(taps.min(axis=0) - shift, taps.max(axis=0) - shift, pairs * len(taps))

    def _placeable(self, low: Array, high: Array, up: Sequence[int], down: Sequence[int]) -> bool:
        """Whether pads of zero or more put a kernel with taps from ``low`` to ``high`` where it belongs."""
        for a, b, u, s, h, o in zip(low, high, up, down, self.inputs, self.outputs, strict=True):
            most = s * (o // u - 1) + int(b) + s - h  # the largest end pad, which leaves out no output
            if a > 0 or most < 0:
                return False
        return True
