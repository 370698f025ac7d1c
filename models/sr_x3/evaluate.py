"""PSNR of an ONNX network that enlarges by three, with onnxruntime on the CPU, against bicubic enlargement.

Five photographs of scikit-image are cropped to multiples of three, reduced by three (Pillow's bicubic with antialiasing,
rounded to bytes), enlarged by the network and compared with the original:

    PSNR = 10 log10(255 ** 2 / mean square error)

over all three channels, on bytes, without the outermost three pixels. The figure is the mean of the five. Works for the
models of this folder and for anything that was compiled from them.

    python -m models.sr_x3.evaluate MODEL.onnx [--data FOLDER]

The photographs are read from ``--data`` if it has them, else from an installed scikit-image, else from its wheel, which
is then downloaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.session import Session
from models.sr_x3 import data

BORDER = 3


def psnr(original: npt.NDArray[np.uint8], candidate: npt.NDArray[np.uint8]) -> float:
    """In dB. Both [H, W, 3]; the outermost ``BORDER`` pixels are left out."""
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    error = original[inner].astype(np.float64) - candidate[inner]
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def figures(path: str | Path, photographs: Sequence[Path]) -> dict[str, tuple[float, float]]:
    """For each photograph, by name: PSNR of the network in ``path`` and of bicubic enlargement."""
    session = Session(path)
    found: dict[str, tuple[float, float]] = {}
    for photograph in photographs:
        with Image.open(photograph) as image:
            large = data.cropped(image)
        small = data.reduced(large)
        result = session(data.to_input(small))[0]
        candidate = np.rint(np.clip(result, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
        original = np.asarray(large)
        found[photograph.stem] = psnr(original, candidate), psnr(original, np.asarray(data.enlarged(small)))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of one file."""
    parser = argparse.ArgumentParser(description="Print a network's PSNR on five photographs.")
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("--data", type=Path, help="folder of the five photographs (default: fetched)")
    options = parser.parse_args(arguments)
    found = figures(options.model, data.fetch_judged(options.data))
    for name, (network, bicubic) in found.items():
        print(f"{name:16} {network:8.4f} dB, bicubic {bicubic:8.4f} dB, {network - bicubic:+.4f}")
    network, bicubic = np.mean(list(found.values()), axis=0)
    print(f"{'mean':16} {network:8.4f} dB, bicubic {bicubic:8.4f} dB, {network - bicubic:+.4f}")


if __name__ == "__main__":
    main()
