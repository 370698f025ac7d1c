"""Running an ONNX file of one input on the CPU, with onnxruntime and one thread: what every ``evaluate`` does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Array = npt.NDArray[Any]


class Session:
    """A network as a function of its one input; of several outputs it gives the first."""

    def __init__(self, path: str | Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input: str = self._session.get_inputs()[0].name
        self._output: str = self._session.get_outputs()[0].name

    def __call__(self, x: Array) -> Array:
        return np.asarray(self._session.run([self._output], {self.input: x})[0])


def top1(session: Session, batches: Iterable[tuple[Array, Array]]) -> float:
    """The share of images (0..1) whose largest logit is at the right label, over batches of inputs and labels.

    Raises:
        ValueError: there are no images.
    """
    right = count = 0
    for x, labels in batches:
        right += int(np.count_nonzero(session(x).argmax(axis=1) == labels))
        count += len(labels)
    if not count:
        raise ValueError("no images")
    return right / count
