"""Top-1 accuracy of ``cifar_bottleneck`` on the 10,000 test images of CIFAR-10, as ``models.cifar_rep.evaluate`` measures it.

python -m models.cifar_bottleneck.evaluate [MODEL.onnx] [--data FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.cifar_rep import evaluate

MODEL = Path(__file__).with_name("cifar_bottleneck.onnx")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the accuracy of one file."""
    evaluate.main(arguments, MODEL)


if __name__ == "__main__":
    main()
