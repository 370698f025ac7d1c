"""Scale-invariant error of a depth network on synthetic scenes held out from its training, with onnxruntime on the CPU.

The scenes are rendered here, at 480 x 640, from seeds that the training does not use, so nothing is stored. For an image
with the true log depths ``l`` and the predicted ones ``p``, ``e = p - l`` over the pixels nearer than 60 m (the sky and
all beyond are left out),

    scale-invariant RMSE (log) = sqrt(mean(e^2) - mean(e)^2)

(Eigen, Puhrsch and Fergus, NIPS 2014, arXiv:1406.2283, with lambda = 1), then the mean over the images. Beside it stands
the same figure of a network that answers one depth for the whole image, however well chosen: the spread of ``l``.

Works for the model of this folder and for anything that was compiled from it.

    python -m models.depth.evaluate MODEL.onnx [--count 500] [--jobs 1]
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.depth import render
from models.depth.scene import FAR, draw
from models.session import Session

MODEL = Path(__file__).with_name("depth.onnx")

SCENES = 500

METRIC = "scale-invariant RMSE (log)"


def _sample(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], bool]:
    scene = draw(seed)
    image, depth = render.render(scene, render.FULL)
    return image, depth, scene.room is not None


def to_input(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the network takes: bytes k [480, 640, 3] -> float32 [1, 3, 480, 640] with the values k / 255."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def scene_error(predicted: npt.NDArray[np.float32], depth: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Scale-invariant RMSE, RMSE and the spread of the truth, of log depth. [480, 640] each, the second in metres."""
    near = depth < FAR
    true = np.log(depth[near], dtype=np.float64)
    error = predicted[near] - true
    return float(error.std()), float(np.sqrt((error**2).mean())), float(true.std())


def errors(path: str | Path, count: int = SCENES, jobs: int = 1) -> npt.NDArray[np.float64]:
    """One row a held-out scene: scale-invariant RMSE, RMSE, spread of the truth, 1 for a room and 0 for a street."""
    session = Session(path)
    rows = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for image, depth, room in pool.imap(_sample, range(render.HELD_OUT, render.HELD_OUT + count), chunksize=4):
            predicted = session(to_input(image))[0, 0]
            rows.append((*scene_error(predicted, depth), float(room)))
    return np.array(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the error of one file."""
    parser = argparse.ArgumentParser(description="Print a depth network's error on held-out synthetic scenes.")
    parser.add_argument("model", type=Path, nargs="?", default=MODEL, help="the ONNX file (default: the one beside this)")
    parser.add_argument("--count", type=int, default=SCENES, help="held-out scenes (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that render (default: %(default)s)")
    options = parser.parse_args(arguments)
    rows = errors(options.model, options.count, options.jobs)
    room = rows[:, 3] > 0
    print(f"{METRIC} on {len(rows)} held-out synthetic scenes: {rows[:, 0].mean():.4f}")
    for label, part in (("rooms", rows[room]), ("streets", rows[~room])):
        if len(part):
            print(f"  {len(part)} {label}: {part[:, 0].mean():.4f}")
    print(f"  not scale-invariant (RMSE of log depth): {rows[:, 1].mean():.4f}")
    print(f"  of the best constant depth for each image: {rows[:, 2].mean():.4f}")


if __name__ == "__main__":
    main()
