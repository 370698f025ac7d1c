"""Synthetic scenes drawn from seeds: rooms and streets made of boxes and spheres.

Coordinates are metres, y up. A scene is a shell (the inside of a box for a room; a ground plane under a sky for a
street), boxes turned about the vertical axis, spheres, lights and a camera. Everything follows from one integer.

A **room** is 3 to 9 by 4 to 12 metres with furniture-sized boxes on the floor and along the walls, smaller boxes and
balls on top of them, and balls that hang. A **street** is a road with pavements, buildings on both sides with gaps,
car-sized boxes, posts, and trees (a ball on a post). The camera stands at the height of a hand or an eye and looks
along the street or across the room, tilted and rolled a little.

Colours, patterns and lights do not depend on distance, so that depth must be read from geometry and shading.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.depth import texture

Floats = npt.NDArray[np.floating[Any]]

FAR = 60.0
"""Depth in metres from which nothing is told apart: the sky is there, and everything farther."""

TAN_HALF_WIDTH = math.tan(math.radians(31.5))
"""Half of the image's width at depth 1: a horizontal field of view of 63 degrees; the image is 4 wide and 3 high."""

_STREAM = 3_141_592
_NEAR = 0.6
SURFACES_OF_SHELL = 6
"""A shell has six materials: -x, +x, floor, ceiling, -z, +z. A street uses the floor's alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Materials:
    """One row a surface, [M] or [M, 3]."""

    pattern: npt.NDArray[np.int64]
    first: Floats
    second: Floats
    cell: Floats
    """Size of a pattern's cell in metres."""
    rough: Floats
    """Amplitude of the noise laid over the pattern."""
    gloss: Floats
    """Share of the mirror-like highlight."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lights:
    position: Floats
    color: Floats
    reach: Floats
    """Distance at which the light has fallen to half, metres; infinite for the sun."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    eye: Floats
    """[3]."""
    turn: Floats
    """Columns are the camera's right, up and forward in the world, [3, 3]."""
    room: tuple[Floats, Floats] | None
    """Lowest and highest corner; None: a street."""
    box_center: Floats
    box_half: Floats
    box_yaw: Floats
    ball_center: Floats
    ball_radius: Floats
    materials: Materials
    """Six of the shell, then one a box, then one a ball."""
    lights: Lights
    ambient: Floats
    sky: Floats
    """Colour at the horizon and at the zenith, [2, 3]."""
    haze: float
    """Share of light lost to haze each metre."""
    exposure: float
    """Mean brightness of the image, before the curve of the display."""


class _Draft:
    """Boxes, balls and materials while a scene is being drawn."""

    def __init__(self, rng: np.random.Generator, eye: npt.NDArray[np.float64]) -> None:
        self.rng = rng
        self.eye = eye
        self.boxes: list[tuple[Sequence[float], Sequence[float], float]] = []
        self.balls: list[tuple[Sequence[float], float]] = []
        self.shell = [self.material(()) for _ in range(SURFACES_OF_SHELL)]
        self.box_materials: list[tuple[object, ...]] = []
        self.ball_materials: list[tuple[object, ...]] = []

    def color(self) -> npt.NDArray[np.float64]:
        """A reflectance: a grey of any brightness, coloured more or less."""
        grey = self.rng.uniform(0.08, 0.85)
        tint = self.rng.uniform(-1, 1, 3) * self.rng.uniform(0, 0.35)
        return np.clip(grey + tint, 0.03, 0.95)

    def material(self, patterns: Sequence[int], cell: tuple[float, float] = (0.1, 0.8)) -> tuple[object, ...]:
        pattern = int(self.rng.choice(patterns)) if len(patterns) else int(self.rng.integers(len(texture.PATTERNS)))
        size = math.exp(self.rng.uniform(math.log(cell[0]), math.log(cell[1])))
        gloss = self.rng.uniform(0, 0.5) if self.rng.random() < 0.3 else 0.0
        return pattern, self.color(), self.color(), size, self.rng.uniform(0.02, 0.3), gloss

    def box(
        self, center: Sequence[float], half: Sequence[float], yaw: float, *patterns: int, cell: tuple[float, float] = (0.08, 0.5)
    ) -> bool:
        """Add a box unless the camera would stand in it or touch it."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        x, y, z = (float(e) - c for e, c in zip(self.eye, center, strict=True))
        gap = (abs(cos * x - sin * z) - half[0], abs(y) - half[1], abs(sin * x + cos * z) - half[2])
        if math.dist((0, 0, 0), [max(g, 0.0) for g in gap]) < _NEAR:
            return False
        self.boxes.append((center, half, yaw))
        self.box_materials.append(self.material(patterns, cell))
        return True

    def ball(self, center: Sequence[float], radius: float, *patterns: int) -> bool:
        if math.dist(center, [float(e) for e in self.eye]) < radius + _NEAR:
            return False
        self.balls.append((center, radius))
        self.ball_materials.append(self.material(patterns, (0.08, 0.4)))
        return True

    def materials(self) -> Materials:
        pattern, first, second, cell, rough, gloss = zip(*self.shell, *self.box_materials, *self.ball_materials, strict=True)
        return Materials(np.array(pattern, np.int64), *(np.array(a, np.float32) for a in (first, second, cell, rough, gloss)))


def _camera(yaw: float, pitch: float, roll: float) -> Floats:
    """Columns right, up, forward; yaw 0 looks along +z, positive yaw towards +x, positive pitch upwards."""
    cos, sin = np.cos((yaw, pitch, roll)), np.sin((yaw, pitch, roll))
    about_y = np.array([[cos[0], 0, sin[0]], [0, 1, 0], [-sin[0], 0, cos[0]]])
    about_x = np.array([[1, 0, 0], [0, cos[1], sin[1]], [0, -sin[1], cos[1]]])
    about_z = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    turn: Floats = (about_y @ about_x @ about_z).astype(np.float32)
    return turn


def _furnish(draft: _Draft, size: npt.NDArray[np.float64]) -> None:
    rng = draft.rng
    width, height, depth = (float(s) for s in size)
    for _ in range(int(rng.integers(3, 10))):
        half = np.array([rng.uniform(0.15, 0.9), rng.uniform(0.15, 0.55), rng.uniform(0.15, 0.9)])
        against = rng.random()
        if against < 0.35:  # a cupboard along a wall
            half[1] = rng.uniform(0.4, min(1.1, height / 2 - 0.1))
            yaw = float(rng.integers(4)) * math.pi / 2
            x = half[0] if rng.random() < 0.5 else width - half[0]
            z = float(rng.uniform(0.5, depth - 0.5))
        else:
            yaw = float(rng.uniform(0, math.pi))
            x, z = float(rng.uniform(0.3, width - 0.3)), float(rng.uniform(0.3, depth - 0.3))
        lift = float(rng.uniform(0.3, 0.9)) if against > 0.92 else 0.0  # a shelf or a thing on thin air
        top = lift + 2 * half[1]
        if not draft.box((x, lift + float(half[1]), z), [float(h) for h in half], yaw) or rng.random() > 0.45:
            continue
        small = float(rng.uniform(0.08, 0.3))
        if rng.random() < 0.5:
            draft.ball((x, float(top) + small, z), small)
        else:
            tall = float(rng.uniform(0.05, 0.3))
            draft.box((x, float(top) + tall, z), (small, tall, small), float(rng.uniform(0, math.pi)))
    for _ in range(int(rng.integers(0, 5))):
        radius = float(rng.uniform(0.1, 0.5))
        hangs = rng.random() < 0.3
        y = float(rng.uniform(height / 2, height - radius)) if hangs else radius
        draft.ball((float(rng.uniform(0.3, width - 0.3)), y, float(rng.uniform(0.3, depth - 0.3))), radius)


def _room(rng: np.random.Generator) -> Scene:
    size = np.array([rng.uniform(3, 9), rng.uniform(2.3, 4), rng.uniform(4, 12)])
    eye = np.array([rng.uniform(0.15, 0.85) * size[0], rng.uniform(0.7, 1.9), rng.uniform(0.08, 0.5) * size[2]])
    draft = _Draft(rng, eye)
    floors = (texture.TILES, texture.WOOD, texture.NOISE, texture.CHECKER, texture.STRIPES, texture.FLAT)
    draft.shell[2] = draft.material(floors, (0.1, 0.8))
    draft.shell[3] = draft.material((texture.FLAT, texture.NOISE, texture.TILES, texture.STRIPES), (0.3, 1.2))
    _furnish(draft, size)
    yaw = math.atan2(size[0] / 2 - eye[0], 0.7 * size[2] - eye[2]) + rng.uniform(-0.6, 0.6)
    count = int(rng.integers(1, 5))
    position = rng.uniform((0.1, 0.6, 0.1), (0.9, 0.97, 0.9), (count, 3)) * size
    color = np.clip(rng.uniform(0.4, 1.2, (count, 1)) * (1 + rng.uniform(-0.2, 0.2, (count, 3))), 0, None)
    return _scene(
        draft,
        turn=_camera(yaw, rng.uniform(-0.4, 0.12), rng.uniform(-0.06, 0.06)),
        room=(np.zeros(3, np.float32), size.astype(np.float32)),
        lights=Lights(position.astype(np.float32), color.astype(np.float32), rng.uniform(1.5, 5, count).astype(np.float32)),
        ambient=rng.uniform(0.08, 0.35) * (1 + rng.uniform(-0.15, 0.15, 3)),
        haze=0.0,
    )


def _build(draft: _Draft, road: float, pavement: float) -> None:
    """Pavements and buildings on both sides, from behind the camera to far away."""
    rng = draft.rng
    for side in (-1.0, 1.0):
        curb = float(rng.uniform(0.05, 0.1))
        draft.box(
            (side * (road + pavement / 2), curb, 40.0), (pavement / 2, curb, 60.0), 0.0, texture.TILES, texture.NOISE, texture.FLAT
        )
        z = float(rng.uniform(-8, 0))
        while z < 60 and len(draft.boxes) < 20:
            half = (float(rng.uniform(3, 6)), float(rng.uniform(1.5, 8)), float(rng.uniform(2.5, 8)))
            setback = float(rng.uniform(0, 2.5))
            if rng.random() < 0.85:
                x = side * (road + pavement + setback + half[0])
                walls = (texture.WINDOWS, texture.WINDOWS, texture.BRICKS, texture.NOISE, texture.TILES, texture.FLAT)
                draft.box((x, half[1], z + half[2]), half, 0.0, *walls, cell=(0.8, 3.0))
            z += 2 * half[2] + float(rng.choice((0.0, rng.uniform(1, 8))))


def _park(draft: _Draft, road: float, pavement: float) -> None:
    """Cars, posts and trees, crates and balls."""
    rng = draft.rng
    plain = (texture.FLAT, texture.FLAT, texture.NOISE, texture.STRIPES)
    for _ in range(int(rng.integers(1, 7))):
        side, z = float(rng.choice((-1, 1))), float(rng.uniform(2, 35))
        half = (float(rng.uniform(0.75, 1.1)), float(rng.uniform(0.35, 0.6)), float(rng.uniform(1.6, 2.6)))
        x = side * (road - half[0] - 0.2) if rng.random() < 0.7 else float(rng.uniform(-1, 1)) * (road - half[0])
        yaw = float(rng.normal(0, 0.08))
        if draft.box((x, half[1] + 0.15, z), half, yaw, *plain) and rng.random() < 0.8:  # the cabin
            draft.box((x, 2 * half[1] + 0.45, z), (half[0] * 0.85, 0.3, half[2] * 0.55), yaw, *plain)
    for _ in range(int(rng.integers(1, 6))):
        x = float(rng.choice((-1, 1))) * (road + float(rng.uniform(0.2, max(pavement - 0.2, 0.3))))
        z, tall = float(rng.uniform(2, 30)), float(rng.uniform(0.8, 2.5))
        thin = float(rng.uniform(0.04, 0.2))
        if draft.box((x, tall, z), (thin, tall, thin), 0.0, *plain) and rng.random() < 0.6:
            crown = float(rng.uniform(0.5, 1.6))
            draft.ball((x, 2 * tall + 0.6 * crown, z), crown, texture.NOISE, texture.NOISE, texture.DOTS)
    for _ in range(int(rng.integers(0, 5))):
        x, z, half_size = float(rng.uniform(-1, 1)) * (road + pavement), float(rng.uniform(1.5, 12)), float(rng.uniform(0.15, 0.6))
        if rng.random() < 0.5:
            draft.box((x, half_size, z), (half_size,) * 3, float(rng.uniform(0, math.pi)))
        else:
            draft.ball((x, half_size, z), half_size)


def _street(rng: np.random.Generator) -> Scene:
    road, pavement = rng.uniform(2.5, 6), rng.uniform(1, 3)
    eye = np.array([rng.uniform(-0.9, 0.9) * road, rng.uniform(1.1, 2.2), 0.0])
    draft = _Draft(rng, eye)
    draft.shell[2] = draft.material((texture.NOISE, texture.NOISE, texture.FLAT, texture.TILES, texture.STRIPES), (0.3, 2.0))
    _build(draft, float(road), float(pavement))
    _park(draft, float(road), float(pavement))
    heading, height = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 1.3)
    sun = 1000 * np.array([math.cos(heading) * math.cos(height), math.sin(height), math.sin(heading) * math.cos(height)])
    lamps = int(rng.integers(0, 3))
    position = np.concatenate([[sun], rng.uniform((-5, 3, 2), (5, 6, 25), (lamps, 3))])
    color = np.concatenate([[rng.uniform(0.2, 1.6) * np.array([1, 0.96, 0.88])], rng.uniform(0.2, 0.8, (lamps, 3))])
    reach = np.array([np.inf] + [rng.uniform(2, 6) for _ in range(lamps)])
    return _scene(
        draft,
        turn=_camera(rng.normal(0, 0.2), rng.uniform(-0.25, 0.1), rng.uniform(-0.05, 0.05)),
        room=None,
        lights=Lights(position.astype(np.float32), color.astype(np.float32), reach.astype(np.float32)),
        ambient=rng.uniform(0.2, 0.6) * np.array([0.9, 1.0, 1.12]),
        haze=float(rng.uniform(0, 0.025)) if rng.random() < 0.5 else 0.0,
    )


def _scene(
    draft: _Draft,
    *,
    turn: Floats,
    room: tuple[Floats, Floats] | None,
    lights: Lights,
    ambient: npt.NDArray[np.float64],
    haze: float,
) -> Scene:
    rng = draft.rng
    grey = rng.uniform(0.5, 1.0)
    return Scene(
        eye=draft.eye.astype(np.float32),
        turn=turn,
        room=room,
        box_center=np.array([b[0] for b in draft.boxes], np.float32).reshape(-1, 3),
        box_half=np.array([b[1] for b in draft.boxes], np.float32).reshape(-1, 3),
        box_yaw=np.array([b[2] for b in draft.boxes], np.float32),
        ball_center=np.array([b[0] for b in draft.balls], np.float32).reshape(-1, 3),
        ball_radius=np.array([b[1] for b in draft.balls], np.float32),
        materials=draft.materials(),
        lights=lights,
        ambient=ambient.astype(np.float32),
        sky=np.array([[grey, grey, grey], [grey * 0.5, grey * 0.7, grey]], np.float32),
        haze=haze,
        exposure=float(rng.uniform(0.12, 0.32)),
    )


def draw(seed: int) -> Scene:
    """The scene of a seed: a room with probability 0.55, else a street."""
    rng = np.random.default_rng((_STREAM, seed))
    return _room(rng) if rng.random() < 0.55 else _street(rng)
