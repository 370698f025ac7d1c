"""Rounding weights so that the kernel's output changes least, not each weight.

A kernel gets x^ (what the quantized model gives it) in place of x. Rounding W to a grid column by column, the error of a column is
passed on to those not yet rounded: with C = cov(x^) over all positions and U the upper Cholesky factor of (C + e I)^-1,

    q_i = round(w_i / s),   w_j -= (w_i - s q_i) U_ij / U_ii    for j > i

which is the best choice of the later ones given the earlier (Hassibi and Stork, "Second order derivatives for network pruning:
Optimal Brain Surgeon", 1993; Frantar et al., "GPTQ", 2023). Columns go by falling variance. A kernel without a bias takes the
second moments about zero in place of the covariance.

The bias takes up what is left of the mean, *behind* the activation that the kernel has absorbed: noise that Relu rectifies has a
mean by itself, so means that agree before it do not agree behind it (a MobileNetV2 lost 2 dB by agreement before it, and won 0.6
by agreement behind it). Fitting W itself to make up for x - x^ was tried and left out: regression on noisy inputs shrinks it, and
the net lost 5 dB.

Without data C is taken to be I + a (all ones within a tap's neighbours): inputs behind Relu have a mean, so that errors of one
sign add up, which is what counts most (Guo et al., "SQuant", 2022).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphopt.passes.quant.seen import DAMPING, PART_BYTES, Seen
from graphopt.passes.quant.units import Bounds, Unit
from graphopt.passes.quant.weights import Weight

Floats = NDArray[np.float64]
Reals = NDArray[np.float32]

COMMON = 0.25
"""Without data: the square of the inputs' mean over their variance."""

BISECTIONS = 16

BLOCK = 128
"""Columns whose errors are passed on together."""


def match_means(weight: Floats, rounded: Floats, bias: Floats, seen: Seen, bounds: Bounds) -> Floats:
    """What to add to the bias [groups, outputs] so that the means of what the kernel's activation lets through agree.

    Noise that an activation rectifies has a mean by itself, so agreement before the activation is not agreement behind it. The mean
    behind it grows with the bias: bisection.
    """
    positions, groups, _ = seen.shape
    block = max(1, PART_BYTES // (4 * max(positions * groups, 1)))
    parts = [slice(start, start + block) for start in range(0, weight.shape[1], block)]
    found = [_match_means(weight[:, p], rounded[:, p], bias[:, p], seen, bounds) for p in parts]
    shift: Floats = np.concatenate(found, axis=1)
    return shift


def _match_means(weight: Floats, rounded: Floats, bias: Floats, seen: Seen, bounds: Bounds) -> Floats:
    exact, got = seen.outputs(weight.astype(np.float32), rounded.astype(np.float32))
    for made in (exact, got):
        made += bias.astype(np.float32)[:, :, None]
    plain: Floats = exact.mean(axis=2, dtype=np.float64) - got.mean(axis=2, dtype=np.float64)
    if bounds == Bounds():
        return plain
    low, high = np.float32(bounds.low), np.float32(bounds.high)
    reach = np.maximum(np.abs(plain), (got - exact).std(axis=2, dtype=np.float64)) * 2 + 1e-12
    wanted = np.clip(exact, low, high, out=exact).mean(axis=2, dtype=np.float64)
    least, most = -reach, reach
    for _ in range(BISECTIONS):
        middle = (least + most) / 2
        np.add(got, middle.astype(np.float32)[:, :, None], out=exact)
        above = np.clip(exact, low, high, out=exact).mean(axis=2, dtype=np.float64) > wanted
        least, most = np.where(above, least, middle), np.where(above, middle, most)
    found: Floats = (least + most) / 2
    return found


def _level(covariance: Floats) -> Floats:
    """The mean variance of a group, [groups]; 1 where there is none at all."""
    level = np.einsum("gkk->gk", covariance).mean(axis=1)
    found: Floats = np.where(level > 0, level, 1.0)
    return found


def round_weight(weight: Floats, covariance: Floats, scale: Floats, q_max: int, damping: float = DAMPING) -> NDArray[np.int8]:
    """Round [groups, outputs, columns] to multiples of ``scale`` [groups, outputs] by the covariance of what they meet."""
    groups, _, columns = weight.shape
    order = np.argsort(-np.einsum("gkk->gk", covariance), axis=1, kind="stable")
    back = np.argsort(order, axis=1, kind="stable")
    at: NDArray[np.int64] = np.arange(groups, dtype=np.int64)[:, None]
    ordered = covariance[np.arange(groups)[:, None, None], order[:, :, None], order[:, None, :]]
    damped = ordered + (damping * _level(covariance))[:, None, None] * np.eye(columns)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    left = weight.transpose(0, 2, 1)[at, order]  # [groups, columns, outputs]: a column lies together
    result = np.zeros(left.shape, np.int8)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = np.zeros((groups, stop - start, left.shape[2]))
        for i in range(start, stop):
            q = np.clip(np.rint(left[:, i] / scale), -q_max, q_max)
            result[:, i] = q
            error = (left[:, i] - q * scale) / upper[:, i, i, None]
            left[:, i + 1 : stop] -= upper[:, i, i + 1 : stop, None] * error[:, None, :]
            errors[:, i - start] = error
        left[:, stop:] -= np.matmul(upper[:, start:stop, stop:].transpose(0, 2, 1), errors)
    return result[at, back].transpose(0, 2, 1)


def stacked(unit: Unit) -> Floats:
    """A kernel's weight as [groups, outputs a group, columns]."""
    assert unit.weight is not None and unit.axis is not None  # noqa: S101 - kernels only
    groups = int(unit.head.attrs.get("group", 1)) if unit.head.op == "Conv" else 1
    outputs = unit.weight.shape[unit.axis]
    return np.moveaxis(unit.weight.astype(np.float64), unit.axis, 0).reshape(groups, outputs // groups, -1)


def scales(unit: Unit, weight: Weight) -> Floats:
    """The scale of each output, [groups, outputs a group]."""
    groups, outputs = stacked(unit).shape[:2]
    return np.broadcast_to(weight.scale.astype(np.float64).reshape(-1), (groups * outputs,)).reshape(groups, outputs)


def unstacked(unit: Unit, weight: Weight, values: NDArray[np.int8]) -> Weight:
    """``weight`` with other integers, given as [groups, outputs, columns]."""
    assert unit.weight is not None and unit.axis is not None  # noqa: S101 - kernels only
    shape = [unit.weight.shape[unit.axis], *(n for a, n in enumerate(unit.weight.shape) if a != unit.axis)]
    return replace(weight, values=np.ascontiguousarray(np.moveaxis(values.reshape(shape), 0, unit.axis)))


def data_free(unit: Unit, weight: Weight, q_max: int) -> Weight:
    """Rounded by the covariance that inputs have in general; where there are too many columns, as it was."""
    whole = stacked(unit)
    groups, _, columns = whole.shape
    if columns > MOST_COLUMNS:
        return weight
    covariance = np.broadcast_to(np.eye(columns) + COMMON, (groups, columns, columns))
    return unstacked(unit, weight, round_weight(whole, covariance, scales(unit, weight), q_max))


MOST_COLUMNS = 4608
"""A covariance of more columns than this takes too much memory and time."""
