"""Top-1 accuracy on labelled samples: the task's own figure beside the drift.

A label file is a ``.npz`` with an array for each input of the model, under the input's name, and an array ``labels`` of
integers [N]. The first output holds the scores, classes along axis 1: [N, C], or [N, C, 1, 1].
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.model import Model
from graphopt.pipeline.context import Progress
from graphopt.pipeline.record import Accuracy
from graphopt.runtime import Feeds, Session, feeds_from

KEY = "labels"
_BATCH = 32


class Labels:
    """Labelled samples that fit a model: the feeds, and the labels in their order."""

    def __init__(self, feeds: Feeds, labels: NDArray[Any], where: str) -> None:
        self._feeds = feeds
        self._labels = labels
        self._where = where

    def __len__(self) -> int:
        return len(self._labels)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Model) -> Labels:
        """Read a label file.

        Raises:
            DataError: GO820 no readable ``.npz``, GO821 labels missing or of a wrong type, GO822 not one a sample; and
                what ``feeds_from`` raises for inputs that do not fit.
        """
        where = Path(path).name
        arrays = _read(Path(path), where)
        labels = arrays.pop(KEY, None)
        if labels is None:
            raise DataError("GO821", where, f"there is no array {KEY!r}", f"it holds {', '.join(arrays) or 'nothing'}")
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels):
            given = f"{labels.dtype} {list(labels.shape)}"
            raise DataError("GO821", where, f"{KEY!r} is {given}", "give integers [N], one a sample")
        for name, array in arrays.items():
            if array.ndim == 0 or len(array) != len(labels):
                why = f"{name!r} has {len(array) if array.ndim else 'no'} samples, {KEY!r} has {len(labels)}"
                raise DataError("GO822", where, why, "give one label a sample")
        return cls(feeds_from(arrays, model, source=where), labels, where)

    def accuracy(self, model: Model, bar: Progress, threads: int = 1) -> Accuracy:
        """Run the model on every sample. Raises DataError GO823 if its first output holds no scores a class."""
        session = Session(model, threads=threads)
        name = session.output_names[0]
        right = seen = 0
        for feed in self._feeds.batches(_BATCH):
            scores = np.asarray(session.run(feed, [name])[name])
            if scores.ndim < 2 or scores.size != scores.shape[0] * scores.shape[1] or scores.dtype.kind not in "fiu":
                why = f"the first output, {name!r}, is {scores.dtype} {list(scores.shape)}: no scores a class"
                raise DataError("GO823", self._where, why, "top-1 needs an output [N, classes]; leave --labels out")
            best = scores.reshape(scores.shape[:2]).argmax(axis=1)
            right += int(np.count_nonzero(best == self._labels[seen : seen + len(best)]))
            seen += len(best)
            bar.advance(len(best))
        return Accuracy(right, seen)


def _read(path: Path, where: str) -> dict[str, NDArray[Any]]:
    hint = "give a .npz with the model's inputs and an array of labels"
    try:
        with np.load(path, allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise DataError("GO820", where, "not a .npz file", hint)
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise DataError("GO820", str(path), "no such file", hint) from None
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError("GO820", where, f"cannot be read: {error}", hint) from None
