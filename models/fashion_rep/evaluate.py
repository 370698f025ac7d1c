"""Top-1 accuracy of an ONNX classifier on the 2,000 test images, with onnxruntime on the CPU.

Works for the model of this folder and for anything that was compiled from it: one input of the same shape, logits as
the first output.

    python -m models.fashion_rep.evaluate MODEL.onnx [--labels test.npz]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.session import Session, top1

TEST = Path(__file__).with_name("test.npz")
"""The 2,000 test images and their labels."""

_BATCH = 100


def accuracy(path: str | Path, npz: str | Path = TEST) -> float:
    """The share of test images (0..1) whose largest logit is at the right label.

    Args:
        path: the ONNX file.
        npz: holds the images under the name of the model's input, and ``labels`` (integers [N]).

    Raises:
        KeyError: ``npz`` lacks one of the two arrays.
    """
    session = Session(path)
    with np.load(npz) as arrays:
        images, labels = arrays[session.input], arrays["labels"]
    parts = [slice(start, start + _BATCH) for start in range(0, len(images), _BATCH)]
    return top1(session, ((images[part], labels[part]) for part in parts))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the accuracy of one file."""
    parser = argparse.ArgumentParser(description="Print a model's top-1 accuracy on the test images.")
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("--labels", type=Path, default=TEST, help="images and labels (default: the model's test.npz)")
    options = parser.parse_args(arguments)
    print(f"{accuracy(options.model, options.labels):.4f}")


if __name__ == "__main__":
    main()
