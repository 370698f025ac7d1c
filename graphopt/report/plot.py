"""Curves as SVG, without a library for plots: one line a series, errors on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from graphopt.pipeline.sensitivity import Series

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 300, 40, 50
_HUE_STEP = 0.618033988749895 * 360
_MOST_NAMED = 30


def svg(title: str, series: Sequence[Series], step: str = "removed") -> str:
    """Error at the output against the share of ``step``."""
    errors = [e for s in series for _, _, e in s.points if e > 0]
    low, high = math.floor(math.log10(min(errors, default=0.1))), math.ceil(math.log10(max(errors, default=1.0)))
    high = max(high, low + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
        *_axes(low, high, step),
    ]
    for index, one in enumerate(series):
        colour = f"hsl({index * _HUE_STEP % 360:.0f}, 65%, 42%)"
        known = [(n / one.size, e) for n, _, e in one.points if e > 0]
        path = " ".join(f"{_x(share):.1f},{_y(error, low, high):.1f}" for share, error in known)
        name = escape(one.place)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"><title>{name}</title></polyline>')
        parts += [
            f'<circle cx="{_x(share):.1f}" cy="{_y(error, low, high):.1f}" r="2.5" fill="{colour}"/>' for share, error in known
        ]
        if index < _MOST_NAMED:
            place, short = TOP + 15 * index, one.place if len(one.place) <= 38 else "..." + one.place[-35:]
            parts.append(f'<text x="{WIDTH - RIGHT + 20}" y="{place + 4}" fill="{colour}">{escape(short)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(low: int, high: int, step: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<path d="M{LEFT},{TOP} V{bottom} H{right}" fill="none" stroke="black"/>']
    for power in range(low, high + 1):
        y = _y(10.0**power, low, high)
        parts.append(f'<path d="M{LEFT},{y:.1f} H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">1e{power}</text>')
    parts += [
        f'<text x="{_x(tenth / 10):.1f}" y="{bottom + 16}" text-anchor="middle">{tenth * 10} %</text>' for tenth in range(0, 11, 2)
    ]
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(step)}</text>')
    parts.append(
        f'<text transform="translate(16,{(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">error at the output</text>'
    )
    return parts


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - RIGHT - LEFT)


def _y(error: float, low: int, high: int) -> float:
    part = (math.log10(error) - low) / (high - low)
    return HEIGHT - BOTTOM - min(max(part, 0.0), 1.0) * (HEIGHT - BOTTOM - TOP)
