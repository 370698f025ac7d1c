"""Fashion-MNIST: reading the published files, and writing the calibration and test arrays.

The data set (Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv:1708.07747; MIT licence, copyright 2017 Zalando SE) comes as four gzipped IDX files. An IDX file is a
header of big-endian 32-bit words and then the bytes of the array:

    word 0      0x00000800 + number of axes (0x08: unsigned bytes)
    words 1..   the length of each axis

Debian and Ubuntu carry the files in the package ``dataset-fashion-mnist``. Where it is not installed, it is downloaded with
``apt-get`` and unpacked.

The network takes float32 values ``k / 255``. The arrays are stored in just that form, so that they can be fed as they
are; half of the pixels are 0 and there are 256 different values in all, so deflate brings float32 to 21 % of its size.

    python -m models.fashion_rep.data --out models/fashion_rep
"""

from __future__ import annotations

import argparse
import gzip
import math
import struct
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.fetch import debian, missing

PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package puts the four files."""

FOLDER = Path("build/fashion_mnist")
"""Where the package is unpacked, unless another folder is named."""

HERE = Path(__file__).parent

INPUT = "image"
"""The model's input, and the key of the images in the ``.npz`` files."""

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

CALIBRATION_IMAGES = 512
TEST_IMAGES = 2000

_UNSIGNED_BYTES = 0x08
_PREFIX = {"train": "train", "test": "t10k"}
_FILES = tuple(f"{prefix}-{part}-ubyte.gz" for prefix in _PREFIX.values() for part in ("images-idx3", "labels-idx1"))


def fetch(folder: Path) -> Path:
    """The folder of the four files: ``folder`` itself, that of the installed package, or the package unpacked in ``folder``.

    Raises:
        FileNotFoundError: the package has no such file.
        subprocess.CalledProcessError: the download failed.
    """
    for place in (folder, INSTALLED):
        if not missing(place, _FILES):
            return place
    inside = INSTALLED.relative_to("/")
    debian(PACKAGE, folder, [str(inside / name) for name in _FILES])
    return folder / inside


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read one gzipped IDX file of unsigned bytes.

    Raises:
        ValueError: the file is no IDX file of unsigned bytes, or its length is not what its header says.
    """
    content = gzip.decompress(path.read_bytes())
    if len(content) < 4 or content[:3] != bytes((0, 0, _UNSIGNED_BYTES)):
        raise ValueError(f"{path.name}: not an IDX file of unsigned bytes")
    axes = content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise ValueError(f"{path.name}: the header is cut off")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path.name}: {len(content) - start} bytes of data, the header says {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def load(folder: Path, split: Literal["train", "test"]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read one split: images uint8 [N, 28, 28] and labels uint8 [N], in the published order."""
    prefix = _PREFIX[split]
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    if images.shape != (len(labels), 28, 28):
        raise ValueError(f"{prefix}: images {images.shape} do not fit {labels.shape} labels")
    return images, labels


def to_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the network takes: [N, 28, 28] bytes k -> float32 [N, 1, 28, 28] with the values k / 255."""
    return images[:, np.newaxis].astype(np.float32) / np.float32(255)


def write_arrays(folder: Path, out: Path) -> None:
    """Write ``calib.npz`` (first images of the training split) and ``test.npz`` (of the test split, with labels)."""
    images, _ = load(folder, "train")
    _write(out / "calib.npz", image=to_input(images[:CALIBRATION_IMAGES]))
    images, labels = load(folder, "test")
    _write(out / "test.npz", image=to_input(images[:TEST_IMAGES]), labels=labels[:TEST_IMAGES])


def _write(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    part = path.with_suffix(".part")  # a run that is stopped here leaves the committed file whole
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def main() -> None:
    """Fetch the files; write both arrays into a folder."""
    parser = argparse.ArgumentParser(description="Write calib.npz and test.npz.")
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the four IDX files (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this file)")
    options = parser.parse_args()
    write_arrays(fetch(options.data), options.out)


if __name__ == "__main__":
    main()
