"""A ray caster for the synthetic scenes, over all pixels and all objects at once.

A pixel's ray is ``o + t d`` with ``d = R (x, y, 1)``, so that ``t`` is the depth along the optical axis. For a box with
half sizes h, in its own frame, the ray is within the slab of axis a between

    -o_a / d_a - h_a / |d_a|    and    -o_a / d_a + h_a / |d_a|

and meets the box where the largest entry lies before the smallest exit (Kay and Kajiya, "Ray Tracing Complex Scenes",
SIGGRAPH 1986). The inside of a room is one such box, left at its smallest exit. A ball is a quadratic in t.

Light is Lambert's, with a highlight on glossy surfaces (Blinn 1977), shadows of every light, ambient light from above
and haze. Everything is float32. The image is what a display shows: gamma 2.2, 8 bits; depth is metres, cut at ``FAR``.

    python -m models.depth.render --out build/depth --count 8192
    python -m models.depth.render --calib calib.npz --count 64
    python -m models.depth.render --show sheet.png       a sheet of held-out scenes, needs pillow
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.depth import texture
from models.depth.scene import FAR, SURFACES_OF_SHELL, TAN_HALF_WIDTH, Scene, draw

Floats = npt.NDArray[np.floating[Any]]

SMALL = (128, 160)
"""Height and width of the network's own resolution, at which it is trained."""

FULL = (480, 640)
"""Height and width of the network's input and output."""

FOLDER = Path("build/depth")
"""Where the training pairs go by default, below the working directory."""

TRAINING_IMAGES = 8192
HELD_OUT = 1_000_000
"""First seed of the held-out scenes; training uses the seeds from 0."""

_CHUNK = 20_480
_TINY = np.float32(1e-6)
_PIXEL = np.float32(2 * TAN_HALF_WIDTH / SMALL[1])


def _safe(d: Floats) -> Floats:
    """1 / d, with the sign kept and the zero avoided."""
    return 1 / np.where(np.abs(d) < _TINY, np.copysign(_TINY, d), d)


def _boxes(scene: Scene, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Entry and exit of every box, [B, P] each. Origin [3, 1] or [3, P], direction [3, P]."""
    cos, sin = np.cos(scene.box_yaw)[:, None], np.sin(scene.box_yaw)[:, None]
    x, y, z = (origin[a] - scene.box_center[:, a, None] for a in range(3))
    entry = exit_ = None
    for axis, (o, d) in enumerate(
        (
            (cos * x - sin * z, cos * direction[0] - sin * direction[2]),
            (y, direction[1]),
            (sin * x + cos * z, sin * direction[0] + cos * direction[2]),
        )
    ):
        inverse = _safe(d)
        middle, reach = o * inverse, np.abs(inverse) * scene.box_half[:, axis, None]
        near, far = -middle - reach, reach - middle
        entry = near if entry is None else np.maximum(entry, near, out=entry)
        exit_ = far if exit_ is None else np.minimum(exit_, far, out=exit_)
    assert entry is not None and exit_ is not None  # noqa: S101
    return entry, exit_


def _balls(scene: Scene, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Entry and exit of every ball, [S, P] each; infinite where there is none."""
    x, y, z = (origin[a] - scene.ball_center[:, a, None] for a in range(3))
    a = (direction * direction).sum(0)
    b = x * direction[0] + y * direction[1] + z * direction[2]
    c = x * x + y * y + z * z - (scene.ball_radius**2)[:, None]
    under = b * b - a * c
    root = np.sqrt(np.maximum(under, 0))
    miss = under <= 0
    return np.where(miss, np.float32(np.inf), (-b - root) / a), np.where(miss, np.float32(-np.inf), (root - b) / a)


def _shell(scene: Scene, direction: Floats) -> Floats:
    """Distance to the room's wall or to the ground, [P]; infinite for the sky."""
    if scene.room is None:
        down = direction[1] < -_TINY
        return np.where(down, -scene.eye[1] / np.where(down, direction[1], -1), np.float32(np.inf))
    low, high = (corner - scene.eye for corner in scene.room)
    inverse = _safe(direction)
    leave: Floats = np.maximum(low[:, None] * inverse, high[:, None] * inverse).min(0)
    return leave


def _surface(scene: Scene, hit: npt.NDArray[np.int64], point: Floats) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Normal [3, P], coordinates on the surface in metres [2, P] and material [P] at points on object ``hit``."""
    count = point.shape[1]
    normal, place = np.zeros((3, count), np.float32), np.zeros((2, count), np.float32)
    material = hit + (SURFACES_OF_SHELL - 1)
    boxes = len(scene.box_yaw)
    shell = np.flatnonzero(hit == 0)
    if scene.room is None:
        normal[1, shell] = 1
        place[:, shell] = point[::2, shell]
        material[shell] = 2
    else:
        middle, half = (scene.room[0] + scene.room[1]) / 2, (scene.room[1] - scene.room[0]) / 2
        face, sign = _faces(point[:, shell] - middle[:, None], half[:, None])
        normal[face, shell] = -sign
        place[:, shell] = _plane(point[:, shell], face)
        material[shell] = 2 * face + (sign > 0)
    on_box = np.flatnonzero((hit > 0) & (hit <= boxes))
    if len(on_box):
        which = hit[on_box] - 1
        x, y, z = point[:, on_box] - scene.box_center[which].T
        cos, sin = np.cos(scene.box_yaw)[which], np.sin(scene.box_yaw)[which]
        local = np.stack([cos * x - sin * z, y, sin * x + cos * z])
        face, sign = _faces(local, scene.box_half[which].T)
        own = np.zeros_like(local)
        own[face, np.arange(len(face))] = sign
        normal[:, on_box] = np.stack([cos * own[0] + sin * own[2], own[1], cos * own[2] - sin * own[0]])
        place[:, on_box] = _plane(local + scene.box_half[which].T, face)
    on_ball = np.flatnonzero(hit > boxes)
    if len(on_ball):
        which = hit[on_ball] - 1 - boxes
        radius = scene.ball_radius[which]
        n = (point[:, on_ball] - scene.ball_center[which].T) / radius
        normal[:, on_ball] = n
        place[:, on_ball] = np.stack([np.arctan2(n[2], n[0]) * radius, np.arcsin(np.clip(n[1], -1, 1)) * radius])
    return normal, place, material


def _faces(local: Floats, half: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Axis and side of the face that points on a box's surface lie on."""
    face = np.argmin(half - np.abs(local), axis=0)
    return face, np.sign(local[face, np.arange(local.shape[1])])


def _plane(local: Floats, face: npt.NDArray[np.int64]) -> Floats:
    """The two coordinates within a face; the second is the height on upright faces."""
    first = np.where(face == 0, local[2], local[0])
    return np.stack([first, np.where(face == 1, local[2], local[1])])


def _lit(scene: Scene, point: Floats, normal: Floats, light: int, active: npt.NDArray[np.int64]) -> Floats:
    """1 where nothing stands between a point and a light, else 0. [len(active)]."""
    origin = point[:, active] + normal[:, active] * np.float32(2e-3)
    direction = scene.lights.position[light][:, None] - origin
    free = np.ones(len(active), bool)
    for entry, leave in (_boxes(scene, origin, direction), _balls(scene, origin, direction)):
        if len(entry):
            free &= ~((entry < leave) & (entry < 1) & (leave > 0)).any(0)
    return free.astype(np.float32)


def _albedo(scene: Scene, place: Floats, material: npt.NDArray[np.int64], depth: Floats, facing: Floats) -> Floats:
    """Reflectance [3, P]."""
    m = scene.materials
    u, v = place / m.cell[material]
    width = depth * _PIXEL / (np.sqrt(np.maximum(facing, np.float32(0.05))) * m.cell[material])
    mix = texture.share(m.pattern[material], u, v, width)
    base = m.first[material] + mix[:, None] * (m.second[material] - m.first[material])
    offset = material.astype(np.float32) * np.float32(1.7)
    grain = texture.noise(place[0] * np.float32(1.3) + offset, place[1] * np.float32(1.3) - offset)
    return (base * (1 + m.rough[material] * grain)[:, None]).T


def _shade(scene: Scene, direction: Floats, t: Floats, hit: npt.NDArray[np.int64]) -> Floats:
    """Radiance of the rays that hit something, [3, P]."""
    point = scene.eye[:, None] + t * direction
    normal, place, material = _surface(scene, hit, point)
    view = -direction / np.sqrt((direction * direction).sum(0))
    facing = np.abs((normal * view).sum(0))
    albedo = _albedo(scene, place, material, t, facing)
    light = scene.ambient[:, None] * (np.float32(0.7) + np.float32(0.3) * normal[1])
    shine = np.zeros_like(light)
    gloss = scene.materials.gloss[material]
    for index in range(len(scene.lights.reach)):
        towards = scene.lights.position[index][:, None] - point
        distance = np.sqrt((towards * towards).sum(0))
        towards /= distance
        cosine = (normal * towards).sum(0)
        active = np.flatnonzero(cosine > 0)
        strength = cosine[active] / (1 + (distance[active] / scene.lights.reach[index]) ** 2)
        strength *= _lit(scene, point, normal, index, active)
        color = scene.lights.color[index][:, None]
        light[:, active] += color * strength
        glossy = gloss[active] > 0
        if glossy.any():
            at = active[glossy]
            between = towards[:, at] + view[:, at]
            between /= np.sqrt((between * between).sum(0)) + _TINY
            shine[:, at] += color * (strength[glossy] * gloss[at] * np.abs((normal[:, at] * between).sum(0)) ** 40)
    radiance: Floats = albedo * light + shine
    return radiance


def _cast(scene: Scene, direction: Floats) -> tuple[Floats, Floats]:
    """Radiance [3, P] and depth [P] of rays from the eye."""
    origin = scene.eye[:, None]
    distances = [_shell(scene, direction)[None]]
    for entry, leave in (_boxes(scene, origin, direction), _balls(scene, origin, direction)):
        distances.append(np.where((entry < leave) & (entry > 0), entry, np.float32(np.inf)))
    every = np.concatenate(distances)
    hit = every.argmin(0)
    t = every[hit, np.arange(len(hit))]
    up = np.clip(direction[1] / np.sqrt((direction * direction).sum(0)) * 2, 0, 1)
    color = scene.sky[0][:, None] + (scene.sky[1] - scene.sky[0])[:, None] * up
    solid = np.flatnonzero(t < 4 * FAR)
    if len(solid):
        seen = _shade(scene, direction[:, solid], t[solid], hit[solid])
        clear = np.exp(-scene.haze * t[solid])
        color[:, solid] = seen * clear + scene.sky[0][:, None] * (1 - clear)
    return color, np.minimum(t, np.float32(FAR))


def render(scene: Scene, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Image [H, W, 3] and depth along the optical axis in metres [H, W] of a scene, at any resolution."""
    height, width = size
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * TAN_HALF_WIDTH
    y = (1 - (np.arange(height) + 0.5) / height * 2) * TAN_HALF_WIDTH * 0.75
    grid = np.stack([np.broadcast_to(x, size), np.broadcast_to(y[:, None], size), np.ones(size)]).reshape(3, -1)
    direction = scene.turn @ grid.astype(np.float32)
    parts = [_cast(scene, direction[:, start : start + _CHUNK]) for start in range(0, direction.shape[1], _CHUNK)]
    color = np.concatenate([part[0] for part in parts], axis=1)
    depth = np.concatenate([part[1] for part in parts])
    shown = np.clip(color * (scene.exposure / max(float(color.mean()), 1e-3)), 0, 1) ** np.float32(1 / 2.2)
    image = np.rint(shown * 255).astype(np.uint8).T.reshape(height, width, 3)
    return image, depth.reshape(size)


def _pair(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    image, depth = render(draw(seed), SMALL)
    return image, depth.astype(np.float16)


def write_training(out: Path, count: int, jobs: int) -> None:
    """Write ``images.npy`` (uint8 [N, 128, 160, 3]) and ``depths.npy`` (float16 [N, 128, 160]) of the seeds 0..N-1."""
    out.mkdir(parents=True, exist_ok=True)
    parts = {name: out / f"{name}.part" for name in ("images", "depths")}
    images = np.lib.format.open_memmap(parts["images"], "w+", np.uint8, (count, *SMALL, 3))
    depths = np.lib.format.open_memmap(parts["depths"], "w+", np.float16, (count, *SMALL))
    started = time.perf_counter()
    with multiprocessing.Pool(jobs) as pool:
        for seed, (image, depth) in enumerate(pool.imap(_pair, range(count), chunksize=16)):
            images[seed], depths[seed] = image, depth
            if (seed + 1) % 512 == 0:
                print(f"{seed + 1} of {count} scenes in {time.perf_counter() - started:.0f} s", flush=True)
    images.flush()
    depths.flush()
    for name, part in parts.items():
        part.replace(out / f"{name}.npy")


def write_calibration(path: Path, count: int) -> None:
    """Write ``image``, float32 [N, 3, 480, 640] in 0..1, of the first training scenes: 3.5 MiB each before deflation."""
    images = np.stack([render(draw(seed), FULL)[0] for seed in range(count)])
    np.savez_compressed(path, image=images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def show(path: Path, first: int, rows: int = 6, columns: int = 4) -> None:
    """A sheet of images with their depths beside them (near is bright)."""
    from PIL import Image

    sheet = np.zeros((rows * SMALL[0], columns * 2 * SMALL[1], 3), np.uint8)
    for index in range(rows * columns):
        image, depth = render(draw(first + index), SMALL)
        near = np.log(FAR / depth) / np.log(FAR / 0.5)
        pair = np.concatenate([image, np.repeat((np.clip(near, 0, 1) * 255).astype(np.uint8)[..., None], 3, 2)], axis=1)
        i, j = divmod(index, columns)
        sheet[i * SMALL[0] : (i + 1) * SMALL[0], j * 2 * SMALL[1] : (j + 1) * 2 * SMALL[1]] = pair
    Image.fromarray(sheet).save(path)


def main() -> None:
    """Render the training pairs, or a sheet to look at."""
    parser = argparse.ArgumentParser(description="Render synthetic scenes with their depth.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (default: %(default)s)")
    parser.add_argument("--count", type=int, default=TRAINING_IMAGES, help="scenes (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--calib", type=Path, help="write inputs of the network here (.npz), and nothing else")
    parser.add_argument("--show", type=Path, help="write a sheet of held-out scenes here, and nothing else")
    options = parser.parse_args()
    if options.show:
        show(options.show, HELD_OUT)
    elif options.calib:
        write_calibration(options.calib, options.count)
    else:
        write_training(options.out, options.count, options.jobs)


if __name__ == "__main__":
    main()
