"""Cross-layer equalization: scaling channels against one another, so that one scale a tensor fits all of them.

An activation tensor has one scale, D = range / 255, and every channel gets the same noise D^2 / 12, however small its own range
is. In a space (``spaces``) the channels may be scaled by s > 0: kernels that make them take s into their rows and biases, kernels
that read them 1 / s into their columns. What it does to the noise at the readers' outputs, over their signal's power P,

    J(s) = sum over quantized tensors t of D_t(s)^2 / 12 * sum over c of G_tc / s_c^2         noise of activations
         + sum over readers k of sum over o of d_ko(s)^2 / 12 * sum over c of s_c^2 E_kc / P_k   noise of the readers' weights

    D_t = (max over c of s_c high_tc - min over c of s_c low_tc) / 255
    G_tc = sum over the readers k behind t of (sum over o and taps of W_k[o,c]^2) / P_k
    d_ko = max over c and taps of |W_k[o,c]| / s_c / 127
    E_kc = taps * mean of x_c^2

has opposite wants: channels of one range, and columns of one size. The first family that is tried is s_c = (widest range / range of
c)^a, a in [0, 1]; then J, with its maxima replaced by p-norms, is minimised from the best of them over log s. A kernel that makes
the channels pays nothing where its weights have a scale for each of them.

A channel's range is taken to end ``reach`` standard deviations from its mean, if its extremes lie beyond that: a tensor's
quantizer may cut off what is rarer. How far is best is for the caller to try.

Capped channels (behind Clip(0, b)) are left within [1, b / max x].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model
from graphopt.passes.quant.spaces import Part, Spaces, Use
from graphopt.passes.quant.weights import along
from graphopt.runtime.statistics import Array, rows_of

Floats = NDArray[np.float64]

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
NORM = 16.0
"""The p of the p-norms that stand for maxima."""

ITERATIONS = 60

MOST = 2.0**10
"""Scales stay within [1 / MOST, MOST]."""

GAIN = 0.97
"""A space is scaled if J falls below this share of what it was."""


class ChannelStats:
    """Range, mean and second moment of every channel along ``axis``, over all data."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.count = 0
        self.low: Floats = np.zeros(0)
        self.high: Floats = np.zeros(0)
        self._sum: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)

    def update(self, array: Array) -> None:
        """Take in one array."""
        if not array.size:
            return
        with np.errstate(all="ignore"):  # what is not finite says so in ``usable``
            self._add(rows_of(array, self.axis).T.astype(np.float32, copy=False))

    def _add(self, rows: NDArray[np.float32]) -> None:
        low, high = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
        total = rows.sum(axis=1, dtype=np.float64)
        squares = np.einsum("cp,cp->c", rows, rows, dtype=np.float64)
        if self.count == 0:
            self.low, self.high, self._sum, self._squares = low, high, total, squares
        else:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
            self._sum, self._squares = self._sum + total, self._squares + squares
        self.count += rows.shape[1]

    @property
    def usable(self) -> bool:
        """Whether anything was seen, and all of it finite."""
        return self.count > 0 and bool(np.isfinite(self._squares).all() and np.isfinite(self.low + self.high).all())

    @property
    def power(self) -> Floats:
        """Mean of x^2, a channel."""
        return self._squares / max(self.count, 1)

    def range(self, reach: float) -> tuple[Floats, Floats]:
        """Least and greatest of each channel, at most ``reach`` standard deviations from its mean."""
        if np.isinf(reach):
            return self.low, self.high
        mean = self._sum / max(self.count, 1)
        deviation = np.sqrt(np.maximum(self.power - mean**2, 0.0))
        return np.maximum(self.low, mean - reach * deviation), np.minimum(self.high, mean + reach * deviation)


@dataclass(slots=True)
class _Tensor:
    """A quantized tensor of a space: ranges by channel, and the weight of its noise."""

    at: NDArray[np.int64]
    low: Floats
    high: Floats
    gain: Floats

    def noise(self, s: Floats, slope: Floats) -> float:
        """Its part of J; its derivative by log s is added to ``slope``."""
        mine = s[self.at]
        (up, by_up), (down, by_down) = _norm(np.maximum(mine * self.high, 0)), _norm(np.maximum(-mine * self.low, 0))
        width, weights = float(up[0] + down[0]), self.gain / mine**2
        total = float(weights.sum())
        unit = 1 / (12 * 255**2)
        np.add.at(slope, self.at, unit * (2 * width * total * (by_up + by_down) - 2 * width**2 * weights))
        return unit * width**2 * total

    def exact(self, s: Floats) -> float:
        """Its part of J, with the maximum itself."""
        mine = s[self.at]
        width = np.maximum(mine * self.high, 0).max(initial=0.0) + np.maximum(-mine * self.low, 0).max(initial=0.0)
        return float(width**2 * (self.gain / mine**2).sum()) / (12 * 255**2)


@dataclass(slots=True)
class _Reader:
    """A kernel that reads the space: its greatest |W| over the taps, [groups, outputs, slots]; the slots' places; E / P of each."""

    at: NDArray[np.int64]
    size: Floats
    power: Floats

    def noise(self, s: Floats, slope: Floats) -> float:
        """As for ``_Tensor``."""
        mine = s[self.at]
        largest, share = _norm(self.size / mine[:, None, :])
        steps, signal = float((largest**2).sum()), mine**2 * self.power
        total = float(signal.sum())
        unit = 1 / (12 * 127**2)
        by_size = -2 * np.einsum("go,gos->gs", largest[..., 0], share)
        np.add.at(slope, self.at, unit * (by_size * total + 2 * steps * signal))
        return unit * steps * total

    def exact(self, s: Floats) -> float:
        """As for ``_Tensor``."""
        mine = s[self.at]
        steps = (self.size / mine[:, None, :]).max(axis=2)
        return float((steps**2).sum()) * float((mine**2 * self.power).sum()) / (12 * 127**2)


def _norm(values: Floats) -> tuple[Floats, Floats]:
    """The p-norm of non-negative values along the last axis (kept), and its derivative by their logarithms."""
    largest = values.max(axis=-1, keepdims=True, initial=0.0)
    scaled = (values / np.where(largest > 0, largest, 1.0)) ** NORM
    total = scaled.sum(axis=-1, keepdims=True)
    norm = largest * total ** (1 / NORM)
    return norm, norm * scaled / np.where(total > 0, total, 1.0)


@dataclass(slots=True)
class _Problem:
    """One space; scales are indexed by the position of their class in ``Part.classes``."""

    tensors: list[_Tensor] = field(default_factory=list[_Tensor])
    readers: list[_Reader] = field(default_factory=list[_Reader])
    least: Floats = field(default_factory=lambda: np.zeros(0))
    most: Floats = field(default_factory=lambda: np.zeros(0))

    def cost(self, s: Floats) -> float:
        """J(s)."""
        return sum(t.exact(s) for t in self.tensors) + sum(r.exact(s) for r in self.readers)

    def smooth(self, logs: Floats) -> tuple[float, Floats]:
        """Log J with p-norms for maxima, and its gradient by log s."""
        s, slope = np.exp(logs), np.zeros(logs.size)
        value = sum(t.noise(s, slope) for t in self.tensors) + sum(r.noise(s, slope) for r in self.readers)
        return float(np.log(value)), slope / value

    def solve(self) -> tuple[Floats, float]:
        """Scales, and J over what it is without them."""
        from scipy.optimize import minimize

        ones = np.ones(self.least.size)
        before = self.cost(ones)
        if not before > 0 or not np.isfinite(before):
            return ones, 1.0
        widest = np.zeros(self.least.size)
        for t in self.tensors:
            span = np.maximum(t.high, 0) - np.minimum(t.low, 0)
            np.maximum.at(widest, t.at, span / max(span.max(initial=0.0), 1e-30))
        ratio = 1 / np.clip(widest, 1 / MOST, 1.0)
        best = min((np.clip(ratio**power, self.least, self.most) for power in POWERS), key=self.cost)
        bounds = list(zip(np.log(self.least), np.log(self.most), strict=True))
        options = {"maxiter": ITERATIONS}
        descend: Any = minimize
        found = descend(self.smooth, np.log(best), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        best = min((best, np.clip(np.exp(found.x), self.least, self.most)), key=self.cost)
        return best, self.cost(best) / before


def equalize(
    model: Model, spaces: Spaces, quantized: Iterable[str], stats: Mapping[str, ChannelStats], reach: float
) -> list[tuple[str, float]]:
    """Scale the channels of every space where that lowers J, in place; a tensor of each that was, and J's share that is left.

    Args:
        model: what the spaces were built from.
        spaces: its spaces.
        quantized: names of the tensors that get a scale.
        stats: of all tensors that ``wanted`` names.
        reach: see the module's docstring.
    """
    done: list[tuple[str, float]] = []
    names = frozenset(quantized)
    for part in spaces.parts():
        problem = _problem(part, spaces, names, stats, reach)
        if problem is None:
            continue
        scales, share = problem.solve()
        if share < GAIN:
            _apply(model, part, spaces, scales)
            done.append((part.tensors[0].tensor.name, share))
    model.edited()
    return done


def wanted(spaces: Spaces) -> dict[str, int]:
    """The tensors of which channel statistics are needed, with their channels' axis."""
    found = {c.tensor.name: c.axis for part in spaces.parts() for c in part.tensors}
    for part in spaces.parts():
        for use in part.read:
            found.setdefault(use.unit.data[0].name, 1 if use.unit.head.op == "Conv" else -1)
            found.setdefault(use.unit.head.outputs[0].name, 1 if use.unit.head.op == "Conv" else -1)
    return found


def _places(part: Part, spaces: Spaces, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.searchsorted(part.classes, spaces.groups[labels])


def _columns(use: Use) -> Floats:
    """The weight by group, output, input channel of the group, and tap."""
    unit = use.unit
    assert unit.weight is not None and unit.axis is not None  # noqa: S101 - kernels only
    rows = np.moveaxis(unit.weight.astype(np.float64), unit.axis, 0)
    outputs, slots = rows.shape[:2]
    groups = use.labels.size // slots
    return rows.reshape(groups, outputs // groups, slots, -1)


def _problem(
    part: Part, spaces: Spaces, quantized: frozenset[str], stats: Mapping[str, ChannelStats], reach: float
) -> _Problem | None:
    """None where something was not seen, or not finite."""
    needed = [c.tensor.name for c in part.tensors]
    needed += [name for use in part.read for name in (use.unit.data[0].name, use.unit.head.outputs[0].name)]
    if not all(name in stats and stats[name].usable for name in needed):
        return None
    size = part.classes.size
    problem = _Problem(least=np.full(size, 1 / MOST), most=np.full(size, MOST))
    problem.least[part.frozen] = problem.most[part.frozen] = 1.0
    for channels, cap in part.capped:
        high = stats[channels.tensor.name].range(reach)[1]
        at = _places(part, spaces, channels.labels)
        np.minimum.at(problem.most, at, np.maximum(cap / np.maximum(high, cap / MOST), 1.0))
        problem.least[at] = np.maximum(problem.least[at], 1.0)
    gains: dict[str, Floats] = {}
    total = np.zeros(size)
    for use in part.read:
        name = use.unit.data[0].name
        weight, at = _columns(use), _places(part, spaces, use.labels)
        power = max(float(stats[use.unit.head.outputs[0].name].power.sum()), 1e-30)
        gain = (weight**2).sum(axis=(1, 3)).reshape(-1) / power
        spent = weight.shape[3] * stats[name].power / power
        shape = (weight.shape[0], weight.shape[2])
        problem.readers.append(_Reader(at.reshape(shape), np.abs(weight).max(axis=3), spent.reshape(shape)))
        gains[name] = gains.get(name, 0) + gain
        np.add.at(total, at, gain)
    for channels in part.tensors:
        name = channels.tensor.name
        if name in quantized:
            at = _places(part, spaces, channels.labels)
            # What readers behind a sum make of this tensor's noise is taken as what all readers of the space do.
            problem.tensors.append(_Tensor(at, *stats[name].range(reach), gains.get(name, total[at])))
    return problem if problem.tensors else None


def _apply(model: Model, part: Part, spaces: Spaces, scales: Floats) -> None:
    for use in part.made:
        mine = scales[_places(part, spaces, use.labels)]
        unit = use.unit
        assert unit.weight is not None and unit.axis is not None  # noqa: S101 - kernels only
        weight = model.value(unit.head.inputs[1])
        assert weight is not None  # noqa: S101 - kernels only
        _replace(model, unit.head, 1, weight * along(mine, unit.axis, weight.ndim))
        if unit.bias is not None and unit.bias_node is not None:
            node, index = unit.bias_node
            _replace(model, node, index, unit.bias.astype(np.float64) * mine)
    for use in part.read:
        mine = scales[_places(part, spaces, use.labels)]
        unit = use.unit
        weight = model.value(unit.head.inputs[1])
        assert weight is not None and unit.axis is not None  # noqa: S101 - kernels only
        _replace(model, unit.head, 1, weight / _factors(unit.head.op, weight, unit.axis, mine))


def _factors(op: str, weight: NDArray[np.floating], axis: int, scales: Floats) -> Floats:
    """The scales of the input channels, shaped to divide a weight."""
    if op != "Conv":
        return along(scales, 1 - axis, 2)
    outputs, slots = weight.shape[:2]
    groups = scales.size // slots
    by_output = np.repeat(scales.reshape(groups, slots), outputs // groups, axis=0)
    return by_output.reshape(outputs, slots, *([1] * (weight.ndim - 2)))


def _replace(model: Model, node: gs.Node, index: int, value: Floats) -> None:
    name = node.inputs[index].name
    model.set_input(node, index, model.constant(f"{name}_equalized", np.asarray(value, np.float32)))
