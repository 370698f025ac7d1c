"""What is left behind when a result is not what it should be: both models, one input, and the line that shows the difference.

    reference.onnx   what the result was held against
    candidate.onnx   the result
    feed.npz         the input on which they differ most
    README.txt       what happened, and the command

The folder is a new one among the temporary files (or where it is asked for); what the user named as output stays
unwritten.
"""

from __future__ import annotations

import itertools
import shlex
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from graphopt.errors import DataError, ModelError
from graphopt.model import Model
from graphopt.runtime import InputSpec
from graphopt.runtime.session import Feed, Session, as_proto, save_with_external_data
from graphopt.verify.compare import Drift, compare
from graphopt.verify.differences import Difference, first_difference

REFERENCE, CANDIDATE, FEED, README = "reference.onnx", "candidate.onnx", "feed.npz", "README.txt"


@dataclass(frozen=True, slots=True)
class Reproducer:
    """The folder that was left, the command that shows the difference, and where the models part, if that was found."""

    folder: Path
    command: str
    difference: Difference | None

    @property
    def hint(self) -> str:
        """One sentence for the error message."""
        return f"both models and the input are in {self.folder}; see it with `{self.command}`"


def leave_reproducer(
    reference: Model,
    candidate: Model,
    feeds: Iterable[Feed],
    *,
    relative: float,
    why: str = "",
    parent: Path | None = None,
) -> Reproducer:
    """Write the folder for a candidate that failed against its reference.

    Args:
        reference: what the candidate was held against.
        candidate: what failed.
        feeds: the inputs that they were compared on; the worst of them is kept.
        relative: the tolerance that was exceeded.
        why: what happened, for the README.
        parent: where to make the folder; among the temporary files if None.
    """
    folder = Path(tempfile.mkdtemp(prefix="graphopt-verify-", dir=parent))
    _write_model(reference, folder / REFERENCE)
    _write_model(candidate, folder / CANDIDATE)
    feed = worst_feed(reference, candidate, feeds)
    difference = None
    files = [folder / REFERENCE, folder / CANDIDATE]
    if feed is not None:
        save_feed(folder / FEED, feed)
        files.append(folder / FEED)
        difference = first_difference(reference, candidate, feed, relative)
    words = [Path(sys.executable).name, "-m", "graphopt.verify", *map(str, files), "--relative", f"{relative:g}"]
    command = shlex.join(words)
    told = [why, "" if difference is None else str(difference), "", "    " + command, ""]
    (folder / README).write_text("\n".join(told).lstrip("\n"), encoding="utf-8")
    return Reproducer(folder, command, difference)


def worst_feed(reference: Model, candidate: Model, feeds: Iterable[Feed]) -> Feed | None:
    """The feed with the greatest difference as a share of the outputs' ranges over all feeds; the first that fails outright.

    ``feeds`` is gone through twice.
    """
    drifts: list[Drift] = []
    try:
        first, second = Session(reference), Session(candidate)
        for feed in feeds:
            drifts.append(compare(first, second, [feed]))
            if drifts[-1].failure is not None:
                return feed
    except ModelError:
        pass
    ranges: dict[str, float] = {}
    for output in (output for drift in drifts for output in drift.outputs):
        ranges[output.name] = max(ranges.get(output.name, 0.0), output.range)
    worst = max(range(len(drifts)), key=lambda index: _share(drifts[index], ranges), default=0)
    return next(itertools.islice(feeds, worst, None), None)


def _share(drift: Drift, ranges: Mapping[str, float]) -> float:
    """The greatest difference of any output, as a share of its range."""
    shares = [o.max_abs / ranges[o.name] if ranges[o.name] > 0 else o.rel for o in drift.outputs]
    return max(shares, default=0.0)


def save_feed(path: Path, feed: Feed) -> None:
    """Write a feed as .npz. Sequences become ``name[0]``, ``name[1]``...; strings fixed-width; types numpy lacks, their bits."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in feed.items():
        items = cast(Any, value)
        if isinstance(items, (list, tuple)):
            for index, part in enumerate(cast(Iterable[Any], items)):
                arrays[f"{name}[{index}]"] = _plain(np.asarray(part))
        elif items is not None:
            arrays[name] = _plain(value)
    # Not savez(**arrays): an input may be called "file".
    with path.open("wb") as file:
        _savez(file, arrays)


def load_feed(path: Path, specs: Iterable[InputSpec]) -> dict[str, NDArray[Any]]:
    """Read what ``save_feed`` wrote, for a model with these inputs. Raises DataError GO801 or GO803."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {str(key): np.asarray(stored[key]) for key in stored.files}
    except (OSError, ValueError) as error:
        raise DataError("GO801", str(path), f"cannot be read: {error}", "give the feed.npz of the folder") from None
    feed: dict[str, Any] = {}
    for spec in specs:
        if spec.kind == "sequence":
            keys = (f"{spec.name}[{index}]" for index in range(len(arrays)))
            feed[spec.name] = [_as_input(arrays[key], spec) for key in keys if key in arrays]
        elif spec.name in arrays:
            feed[spec.name] = _as_input(arrays[spec.name], spec)
        elif spec.kind == "optional":
            feed[spec.name] = None
        else:
            raise DataError("GO803", str(path), f"no values for input '{spec.name}'", f"it takes {spec.describe()}")
    return feed


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "O":
        return array.astype(str)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _as_input(array: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    if spec.dtype == object:
        return array.astype(object)
    return array.view(spec.dtype) if spec.dtype.kind == "V" else array


def _savez(file: Any, arrays: dict[str, NDArray[Any]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(cast(Any, entry), np.ascontiguousarray(array), allow_pickle=False)


def _write_model(model: Model, path: Path) -> None:
    """The model as it is, valid or not: a broken one is what somebody wants to look at."""
    proto = as_proto(model)
    try:
        path.write_bytes(proto.SerializeToString())
    except (ValueError, RuntimeError, onnx.checker.ValidationError):
        save_with_external_data(proto, path)
