"""Procedural surfaces: what share of a second colour a point of a surface shows.

A pattern is a signed function ``s(u, v)`` of the surface's coordinates in cells of the pattern, positive inside the
second colour, negative outside, and about as steep as a distance. The share is

    m = clip(1/2 + s / w, 0, 1),        w: width of a pixel on the surface, in cells

which is an edge softened over one pixel; and where a cell is smaller than two pixels the share fades to the pattern's
mean, so that nothing aliases. This is the usual analytic filtering of procedural textures (Ebert et al., "Texturing and
Modeling: A Procedural Approach").

``w`` is always that of a pixel of the 128 x 160 image, at any resolution: a lens that is no sharper than the network's
own resolution. So an image rendered at 128 x 160 has the statistics of one rendered at 480 x 640 and resized.

Noise is a sum of octaves of random grids that repeat (value noise, fractional Brownian motion), kept as one table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
"""float32 wherever it matters to speed; numpy's stubs lose track of which."""

_TABLE = 256
_TABLE_SEED = 20_011


@functools.cache
def _noise_table() -> Floats:
    """Repeating noise of seven octaves, [256, 256], mean 0, about -1..1."""
    rng = np.random.default_rng(_TABLE_SEED)
    total = np.zeros((_TABLE, _TABLE))
    for octave in range(7):
        cells = 4 << octave
        grid = rng.standard_normal((cells, cells))
        at = np.arange(_TABLE) * cells / _TABLE
        low = at.astype(int)
        weight = at - low
        weight = weight * weight * (3 - 2 * weight)
        rows = grid[low] + weight[:, None] * (grid[(low + 1) % cells] - grid[low])
        total += 0.55**octave * (rows[:, low] + weight * (rows[:, (low + 1) % cells] - rows[:, low]))
    total -= total.mean()
    return np.ascontiguousarray(np.clip(total / (2.5 * total.std()), -1, 1), dtype=np.float32)


def noise(u: Floats, v: Floats) -> Floats:
    """Noise at points; the table repeats every 8 units. [P], [P] -> [P], about -1..1."""
    table = _noise_table()
    x, y = u * np.float32(_TABLE / 8), v * np.float32(_TABLE / 8)
    floor_x, floor_y = np.floor(x), np.floor(y)
    weight_x, weight_y = x - floor_x, y - floor_y
    i, j = floor_y.astype(np.int32) & (_TABLE - 1), floor_x.astype(np.int32) & (_TABLE - 1)
    below, right = (i + 1) & (_TABLE - 1), (j + 1) & (_TABLE - 1)
    top = table[i, j] * (1 - weight_x) + table[i, right] * weight_x
    bottom = table[below, j] * (1 - weight_x) + table[below, right] * weight_x
    mixed: Floats = top * (1 - weight_y) + bottom * weight_y
    return mixed


def _cell(u: Floats) -> Floats:
    """Distance to the nearest integer, 0..1/2."""
    return np.abs(u - np.rint(u))


def _flat(u: Floats, _v: Floats) -> Floats:
    return np.full_like(u, -1)


def _checker(u: Floats, v: Floats) -> Floats:
    return (0.5 - 2 * _cell(u / 2)) * (0.5 - 2 * _cell(v / 2)) * 4


def _stripes(u: Floats, _v: Floats) -> Floats:
    return 0.25 - _cell(u)


def _bricks(u: Floats, v: Floats) -> Floats:
    course = np.floor(v)
    mortar: Floats = np.maximum(0.05 - _cell(v), 0.1 - 2 * _cell(u / 2 + course * np.float32(0.5)))
    return mortar


def _tiles(u: Floats, v: Floats) -> Floats:
    joint: Floats = np.maximum(0.04 - _cell(u), 0.04 - _cell(v))
    return joint


def _noise(u: Floats, v: Floats) -> Floats:
    return noise(u, v)


def _wood(u: Floats, v: Floats) -> Floats:
    return 0.25 - _cell(u + noise(u / 4, v / 40))


def _windows(u: Floats, v: Floats) -> Floats:
    pane: Floats = np.minimum(_cell(u) - 0.22, _cell(v + 0.5) - 0.18)
    return pane


def _dots(u: Floats, v: Floats) -> Floats:
    return 0.3 - np.hypot(_cell(u), _cell(v))


PATTERNS: tuple[tuple[Callable[[Floats, Floats], Floats], float], ...] = (
    (_flat, 0.0),
    (_checker, 0.5),
    (_stripes, 0.5),
    (_bricks, 0.2),
    (_tiles, 0.15),
    (_noise, 0.5),
    (_wood, 0.5),
    (_windows, 0.36),
    (_dots, 0.28),
)
"""A signed function and the mean share of the second colour; a material names one by its index."""

FLAT, CHECKER, STRIPES, BRICKS, TILES, NOISE, WOOD, WINDOWS, DOTS = range(len(PATTERNS))


def share(pattern: npt.NDArray[np.int64], u: Floats, v: Floats, width: Floats) -> Floats:
    """The share of the second colour at points.

    Args:
        pattern: index into ``PATTERNS``, [P].
        u: first coordinate on the surface, in cells, [P].
        v: second coordinate, [P].
        width: of a pixel of the 128 x 160 image there, in cells, [P].

    Returns:
        0..1, [P].
    """
    result = np.zeros_like(u)
    for index, (function, mean) in enumerate(PATTERNS):
        at = np.flatnonzero(pattern == index)
        if index == FLAT or not len(at):
            continue
        w = width[at]
        signed = function(u[at], v[at])
        soft = 0.5 + 0.5 * signed if index == NOISE else np.clip(0.5 + signed / np.maximum(w, 0.02), 0, 1)
        result[at] = mean + (soft - mean) * np.clip(2 - 4 * w, 0, 1)
    return result
