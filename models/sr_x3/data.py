"""Photographs: fetching the packages that ship them, and cutting training pairs.

**Training** uses the photographs among the desktop backgrounds of three Debian packages, listed in ``PHOTOGRAPHS`` (the
drawings and renderings beside them are left out). Each is reduced to half its width and height first, which removes the
blocks and the softness of camera JPEGs. The networks' inputs are the result reduced by three once more.

**Judging** uses five photographs that scikit-image ships and that are not trained on: astronaut, coffee, chelsea,
motorcycle_left and rocket. They are cropped to multiples of three.

Down-sampling is Pillow's bicubic with antialiasing (support widened by the factor), rounded to bytes, everywhere; the
bicubic enlargement that the network has to beat is Pillow's as well.

Everything is fetched by name with the ordinary clients, ``apt-get download`` and ``pip download``, and unpacked with
``dpkg -x`` and ``zipfile``; nothing is installed and no photograph is kept in this repository. Where there is no
``apt-get``, put the listed files into the folder by other means.

    python -m models.sr_x3.data --data build/sr_x3 [--calib calib.npz]
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.fetch import debian, missing, wheel

Bytes = npt.NDArray[np.uint8]

FOLDER = Path("build/sr_x3")
"""Where the photographs go by default, below the working directory."""

SCALE = 3
INPUT = "image"
OUTPUT = "enlarged"

_MATE = "usr/share/backgrounds/mate/nature"
_PLASMA = "usr/share/wallpapers"
_LOMIRI = "usr/share/backgrounds"

PHOTOGRAPHS: dict[str, tuple[str, ...]] = {
    "mate-backgrounds": tuple(
        f"{_MATE}/{name}.jpg"
        for name in (
            "Aqua",
            "Blinds",
            "Dune",
            "FreshFlower",
            "Garden",
            "GreenMeadow",
            "LadyBird",
            "RainDrops",
            "Storm",
            "TwoWings",
            "YellowFlower",
        )
    ),
    "plasma-workspace-wallpapers": (
        *(
            f"{_PLASMA}/{name}/contents/images/2560x1600.jpg"
            for name in (
                "BytheWater",
                "ColdRipple",
                "ColorfulCups",
                "EveningGlow",
                "FallenLeaf",
                "Grey",
                "Kite",
                "OneStandsOut",
                "Path",
            )
        ),
        f"{_PLASMA}/Volna/contents/images/5120x2880.jpg",
    ),
    "lomiri-wallpapers-16.04": tuple(
        f"{_LOMIRI}/{name}.jpg"
        for name in (
            "Bridge_by_Sander_Klootwijk",
            "Dragonfly_by_Bolly",
            "Picture_0B_by_freespace",
            "Picture_1A_by_freespace",
            "Wine_by_Jakkub_Mede",
            "aitzgorri_by_Aitzol_Berasategi",
            "free_by_Peter_Nerlich",
            "friends_by_Aitzol_Berasategi",
            "greentock_by_Peter_Nerlich",
            "life_by_Aitzol_Berasategi",
            "picosdeeuropa_by_Aitzol_Berasategi",
            "seeding_by_Clements_Engelhardt",
            "sunset_by_Aitzol_Berasategi",
        )
    ),
}
"""Debian package -> the photographs in it that are trained on."""

JUDGED_PACKAGE = "scikit-image==0.26.0"

JUDGED = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png", "rocket.jpg")
"""Files of scikit-image's ``data`` folder."""


def fetch_training(folder: Path) -> list[Path]:
    """The training photographs below ``folder``, in a fixed order; packages that are missing are downloaded.

    Raises:
        FileNotFoundError: a package no longer has one of its photographs.
        subprocess.CalledProcessError: a download failed.
    """
    found: list[Path] = []
    for package, names in PHOTOGRAPHS.items():
        root = folder / package
        debian(package, root, names)
        found.extend(root / name for name in names)
    return found


def fetch_judged(folder: Path | None = None) -> list[Path]:
    """The five photographs: from ``folder``, else an installed scikit-image, else its wheel, unpacked to ``folder``.

    Raises:
        KeyError: the wheel has no such file.
        subprocess.CalledProcessError: the download failed.
    """
    folder = folder or FOLDER / "scikit-image"
    spec = importlib.util.find_spec("skimage")
    for place in (folder, *(Path(p) / "data" for p in (spec.submodule_search_locations or () if spec else ()))):
        if not missing(place, JUDGED):
            return [place / name for name in JUDGED]
    wheel(JUDGED_PACKAGE, "skimage/data", folder, JUDGED)
    return [folder / name for name in JUDGED]


def cropped(image: Image.Image) -> Image.Image:
    """RGB, width and height cut to multiples of three, at the right and at the bottom."""
    image = image.convert("RGB")
    return image.crop((0, 0, image.width // SCALE * SCALE, image.height // SCALE * SCALE))


def reduced(image: Image.Image, factor: int = SCALE) -> Image.Image:
    """Bicubic with antialiasing."""
    return image.resize((image.width // factor, image.height // factor), Image.Resampling.BICUBIC)


def enlarged(image: Image.Image) -> Image.Image:
    """Bicubic: what the network is compared with."""
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.BICUBIC)


def to_input(image: Image.Image) -> npt.NDArray[np.float32]:
    """What the network takes: float32 [1, 3, H, W] in 0..1."""
    return np.asarray(image).transpose(2, 0, 1)[np.newaxis].astype(np.float32) / np.float32(255)


class Patches:
    """Random pairs of patches, more often from where bicubic enlargement fails."""

    def __init__(self, folder: Path, patch: int, seed: int) -> None:
        """Read all photographs. ``patch``: width and height of an input patch in pixels."""
        self._patch = patch
        self._random = np.random.default_rng(seed)
        self._large: list[Bytes] = []
        self._small: list[Bytes] = []
        places: list[npt.NDArray[np.int64]] = []
        errors: list[npt.NDArray[np.float64]] = []
        for path in fetch_training(folder):
            with Image.open(path) as photograph:
                large = cropped(reduced(photograph.convert("RGB"), 2))
            small = reduced(large)
            place, error = self._rank(np.asarray(large), np.asarray(enlarged(small)))
            places.append(np.insert(place, 0, len(self._large), axis=1))
            errors.append(error)
            self._large.append(np.asarray(large))
            self._small.append(np.asarray(small))
        self._places = np.concatenate(places)
        error = np.concatenate(errors)
        self._chance = error / error.sum()

    def _rank(self, large: Bytes, bicubic: Bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Corners (in input pixels) on a grid of a third of a patch, and the bicubic error of each patch."""
        height, width = large.shape[0] // SCALE, large.shape[1] // SCALE
        error = np.abs(large.astype(np.int16) - bicubic).mean(2)
        sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        step = self._patch // 3
        grid = np.mgrid[0 : height - self._patch + 1 : step, 0 : width - self._patch + 1 : step].reshape(2, -1).T
        (y0, x0), (y1, x1) = grid.T * SCALE, (grid.T + self._patch) * SCALE
        total = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        return grid, np.maximum(total, 0) / (SCALE * self._patch) ** 2  # a difference of large sums

    def batch(self, count: int) -> tuple[Bytes, Bytes]:
        """``count`` pairs, flipped and turned at random: bytes [count, P, P, 3] and [count, 3 P, 3 P, 3]."""
        small: list[Bytes] = []
        large: list[Bytes] = []
        for index in self._random.choice(len(self._places), count, p=self._chance):
            number, y, x = self._places[index]
            turns, flip = int(self._random.integers(4)), bool(self._random.integers(2))
            for pictures, scale, out in ((self._small, 1, small), (self._large, SCALE, large)):
                rows, columns = slice(y * scale, (y + self._patch) * scale), slice(x * scale, (x + self._patch) * scale)
                part = np.rot90(pictures[number][rows, columns], turns)
                out.append(part[:, ::-1] if flip else part)
        return np.stack(small), np.stack(large)


def main() -> None:
    """Fetch everything; on request, write calibration inputs."""
    parser = argparse.ArgumentParser(description="Fetch the photographs.")
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder to fetch to (default: %(default)s)")
    parser.add_argument("--calib", type=Path, help="write 128 inputs of 64 x 64 pixels from the training photographs here")
    options = parser.parse_args()
    count = len(fetch_training(options.data))
    judged = fetch_judged(options.data / "scikit-image")
    print(f"{count} photographs to train on, {len(judged)} to judge by")
    if options.calib is not None:
        small, _ = Patches(options.data, patch=64, seed=0).batch(128)
        np.savez_compressed(options.calib, image=small.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


if __name__ == "__main__":
    main()
