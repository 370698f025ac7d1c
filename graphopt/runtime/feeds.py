"""``Feeds``: the inputs that a model is run on, checked, and read as often as needed.

Data comes as an array, a dict of arrays, an iterable of either, a CalibrationDataReader of onnxruntime, or files
(``files.py``); ``rows.py`` says how it is cut into runs. What lies in memory is checked at once; what comes from files
or from an iterable that can be read again is checked in one first pass (and kept only if it comes from files and is
small). What can be read only once (a generator, a CalibrationDataReader) is kept: in memory up to 256 MiB, the rest in
a temporary folder.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError, GraphoptError
from graphopt.model import Model
from graphopt.runtime.conform import check_names, check_shape
from graphopt.runtime.inputs import InputSpec, input_specs
from graphopt.runtime.rows import Cutter

Array = NDArray[Any]
FeedDict = dict[str, Array]

_SPOOL_BYTES = 2**26
_MOST_SAMPLES = 1_000_000


class Source(Protocol):
    """Where the feeds of a ``Feeds`` come from: a number of them, each by its index."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Iterator[FeedDict]:
        """The feeds of ``indices``, which ascend."""
        ...


class Feeds:
    """A number of feeds (input name -> array), each the input of one run. Can be iterated as often as one likes.

    Attributes:
        calibrated: whether this is the user's data; False for generated inputs.
        source: where it comes from, for the report.
        notes: what was converted, left over or assumed.
        specs: the model's inputs that the feeds were checked against.
    """

    def __init__(
        self,
        source: Source,
        specs: Sequence[InputSpec],
        *,
        calibrated: bool,
        name: str,
        notes: Iterable[str] = (),
        indices: Sequence[int] | None = None,
    ) -> None:
        self.calibrated = calibrated
        self.source = name
        self.notes = list(notes)
        self.specs = list(specs)
        self._from = source
        self._indices = range(len(source)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[FeedDict]:
        return self._from.read(self._indices)

    def first(self) -> FeedDict:
        """The first feed."""
        return next(self._from.read(self._indices[:1]))

    def take(self, n: int) -> Feeds:
        """``n`` of the feeds (all, if there are fewer), spread evenly over the whole: data is often sorted by class."""
        total = len(self)
        if n >= total:
            return self
        return self._chosen([self._indices[i * total // n] for i in range(n)])

    def split(self, seed: int, held_out: float = 0.25) -> tuple[Feeds, Feeds]:
        """Two disjoint parts, drawn with ``seed``: to fit on, and to judge by (a share of ``held_out``, at least one feed).

        A single feed cannot be divided: both parts are then that feed.
        """
        total = len(self)
        if total < 2:
            return self, self
        count = min(total - 1, max(1, round(total * held_out)))
        drawn = set(np.random.default_rng(seed).permutation(total)[:count].tolist())
        fit = [index for position, index in enumerate(self._indices) if position not in drawn]
        held = [index for position, index in enumerate(self._indices) if position in drawn]
        return self._chosen(fit), self._chosen(held)

    def batches(self, size: int) -> Iterator[FeedDict]:
        """Consecutive feeds of equal shapes joined, ``size`` at most; one by one unless every input's batch is dynamic."""
        if size <= 1 or any(spec.batch != 0 or spec.kind != "tensor" for spec in self.specs):
            yield from self
            return
        group: list[FeedDict] = []
        for feed in self:
            if group and (len(group) == size or _shapes(feed) != _shapes(group[0])):
                yield _joined(group)
                group = []
            group.append(feed)
        if group:
            yield _joined(group)

    def _chosen(self, indices: Sequence[int]) -> Feeds:
        return Feeds(self._from, self.specs, calibrated=self.calibrated, name=self.source, notes=self.notes, indices=indices)


def feeds_from(obj: object, model: Model, *, source: str = "") -> Feeds:
    """Make feeds of a user's data.

    Args:
        obj: an array (for a model of one input), a dict of arrays, an iterable of either, a CalibrationDataReader, or Feeds.
        model: the model that the data is for.
        source: what the data is called in messages and in the report.

    Raises:
        DataError: GO802 to GO808, GO812, GO816: it is none of these, or does not fit the model.
    """
    specs = input_specs(model)
    if isinstance(obj, Feeds):
        return _refit(obj, specs)
    cutter = Cutter({spec.name: spec for spec in specs}, source or "data")
    if isinstance(obj, (Mapping, np.ndarray)) or (hasattr(obj, "__array__") and not hasattr(obj, "get_next")):
        kind = "dict" if isinstance(obj, Mapping) else "array"
        return _in_memory(_grouped(iter([cutter.cut(cast(Any, obj))]), cutter), cutter, specs, source or f"{kind} from memory")
    if callable(getattr(obj, "get_next", None)):
        return _spooled(_from_reader(obj), cutter, specs, source or "calibration data reader")
    if isinstance(obj, (str, bytes)) or not isinstance(obj, Iterable):
        kind = type(obj).__qualname__
        hint = "give an array, a dict of arrays, or an iterable of them (a path is opened with `open_data`)"
        raise DataError("GO802", cutter.where, f"cannot take data from a {kind}", hint)
    elements = cast(Iterable[object], obj)
    if isinstance(elements, Iterator):
        return _spooled(elements, cutter, specs, source or "iterator")
    return from_passes(lambda: iter(elements), cutter, specs, source or "iterable")


def from_passes(
    start: Callable[[], Iterator[object]], cutter: Cutter, specs: Sequence[InputSpec], name: str, *, keep: bool = False
) -> Feeds:
    """Feeds of elements that ``start`` can read again from the beginning; checked and counted here.

    With ``keep`` they stay in memory if they take no more than 256 MiB in all, so that a folder of images is decoded
    once.
    """
    passes = _Passes(start, cutter)
    kept: list[FeedDict] = []
    room = _SPOOL_BYTES if keep else 0
    for feed in passes.everything():
        passes.count += 1
        room -= bytes_of(feed)
        if room > 0:
            kept.append(feed)
        else:
            kept.clear()
    if passes.count == 0:
        raise DataError("GO808", cutter.where, "no samples", "give at least one")
    source = _Listed(kept) if len(kept) == passes.count else passes
    return Feeds(source, specs, calibrated=True, name=name, notes=cutter.notes)


class _Listed:
    """Feeds in memory."""

    def __init__(self, feeds: list[FeedDict]) -> None:
        self._feeds = feeds

    def __len__(self) -> int:
        return len(self._feeds)

    def read(self, indices: Sequence[int]) -> Iterator[FeedDict]:
        for index in indices:
            yield dict(self._feeds[index])


class Computed:
    """Feeds made when they are read: ``make(index)``."""

    def __init__(self, count: int, make: Callable[[int], FeedDict]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def read(self, indices: Sequence[int]) -> Iterator[FeedDict]:
        for index in indices:
            yield self._make(index)


class _Passes:
    """Feeds of an iterable that starts anew each time; what is not wanted is passed over."""

    def __init__(self, start: Callable[[], Iterator[object]], cutter: Cutter) -> None:
        self._start = start
        self._cutter = cutter
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def everything(self) -> Iterator[FeedDict]:
        return _grouped(_cut_all(self._start(), self._cutter), self._cutter)

    def read(self, indices: Sequence[int]) -> Iterator[FeedDict]:
        wanted = iter(indices)
        target = next(wanted, None)
        for index, feed in enumerate(self.everything()):
            if target is None:
                return
            if index == target:
                yield feed
                target = next(wanted, None)
        if target is not None:
            hint = "give data that is the same every time, or a list of it"
            raise DataError("GO812", self._cutter.where, f"gave {self.count} samples first and fewer later", hint)


class Spool:
    """What can be had only once (feeds of a generator, outputs of a session that is gone), in the order in which it came: in memory
    up to a bound, else in a temporary folder.
    """

    def __init__(self) -> None:
        self._feeds: list[FeedDict | _Stored] = []
        self._bytes = 0
        self._folder: Path | None = None

    def add(self, feed: FeedDict) -> None:
        """Keep one more."""
        size = bytes_of(feed)
        if self._bytes + size <= _SPOOL_BYTES or not all(map(_storable, feed.values())):
            # A copy: readers like to hand out one buffer again and again.
            self._feeds.append(copy.deepcopy(feed))
            self._bytes += size
            return
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="graphopt-"))
            # Not a TemporaryDirectory: feeds live as long as somebody holds them, and going away with them is no mistake.
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        stored = _Stored(self._folder / f"{len(self._feeds)}.npz", tuple(feed))
        np.savez(stored.path, allow_pickle=False, **{f"input{i}": array for i, array in enumerate(feed.values())})
        self._feeds.append(stored)

    @staticmethod
    def of(feeds: Iterable[FeedDict]) -> Spool:
        """All of them."""
        made = Spool()
        for feed in feeds:
            made.add(feed)
        return made

    def __len__(self) -> int:
        return len(self._feeds)

    def __iter__(self) -> Iterator[FeedDict]:
        return self.read(range(len(self)))

    def read(self, indices: Sequence[int]) -> Iterator[FeedDict]:
        """What was kept, by number."""
        for index in indices:
            found = self._feeds[index]
            yield found.read() if isinstance(found, _Stored) else dict(found)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A feed on disk; names of inputs may be no names of files."""

    path: Path
    names: tuple[str, ...]

    def read(self) -> FeedDict:
        with np.load(self.path, allow_pickle=False) as arrays:
            return {name: arrays[f"input{i}"] for i, name in enumerate(self.names)}


def _cut_all(elements: Iterator[object], cutter: Cutter) -> Iterator[list[FeedDict]]:
    """Every element cut into runs; what the user's own iterable raises becomes a DataError GO812."""
    sample = number = 0
    while True:
        try:
            element = next(elements)
        except StopIteration:
            return
        except GraphoptError:
            raise
        except Exception as error:
            why = f"sample {sample} could not be read: {type(error).__name__}: {error}"
            raise DataError("GO812", cutter.where, " ".join(why.split())) from error
        pieces = cutter.cut(element, first=sample, single=True, where=f"{cutter.where}: element {number}")
        sample += len(pieces)
        number += 1
        if sample > _MOST_SAMPLES:
            raise DataError("GO802", cutter.where, f"more than {_MOST_SAMPLES} samples", "does the iterable ever end?")
        yield pieces


def _grouped(pieces: Iterator[list[FeedDict]], cutter: Cutter) -> Iterator[FeedDict]:
    """One feed after the other; for a fixed batch, samples are joined until it is full, and a remainder is noted."""
    size = cutter.group
    waiting: list[FeedDict] = []
    held = 0
    for some in pieces:
        for piece in some:
            rows = next(iter(piece.values())).shape[0] if size > 1 else size
            if rows == size and not held:
                yield piece
                continue
            waiting.append(piece)
            held += rows
            if held >= size:
                whole = _joined(waiting)
                yield {name: array[:size] for name, array in whole.items()}
                held -= size
                waiting = [{name: array[size:] for name, array in whole.items()}] if held else []
    cutter.remainder(held, size)


def _in_memory(feeds: Iterator[FeedDict], cutter: Cutter, specs: Sequence[InputSpec], name: str) -> Feeds:
    kept = list(feeds)
    if not kept:
        why = f"no samples: too few to fill the model's batch of {cutter.group}" if cutter.group > 1 else "no samples"
        raise DataError("GO808", cutter.where, why, "give at least one")
    return Feeds(_Listed(kept), specs, calibrated=True, name=name, notes=cutter.notes)


def _spooled(elements: Iterator[object], cutter: Cutter, specs: Sequence[InputSpec], name: str) -> Feeds:
    spool = Spool()
    for feed in _grouped(_cut_all(elements, cutter), cutter):
        spool.add(feed)
    if len(spool) == 0:
        raise DataError("GO808", cutter.where, "no samples", "give at least one; a reader that was read before is empty")
    return Feeds(spool, specs, calibrated=True, name=name, notes=cutter.notes)


def _from_reader(reader: Any) -> Iterator[object]:
    """What an onnxruntime CalibrationDataReader gives until it gives None; from the start, if it can be rewound."""
    rewind = getattr(reader, "rewind", None)
    if callable(rewind):
        rewind()
    while (element := reader.get_next()) is not None:
        yield element


def _refit(feeds: Feeds, specs: Sequence[InputSpec]) -> Feeds:
    """Feeds made for one model, used for another: checked by the first of them."""
    named = {spec.name: spec for spec in specs}
    first = feeds.first()
    check_names(first, named, feeds.source)
    for name, array in first.items():
        if named[name].kind == "tensor":
            check_shape(array, named[name], f"{feeds.source}: input '{name}'")
    return feeds


def bytes_of(feed: FeedDict) -> int:
    """What a feed takes in memory, or about that."""
    # A view of a larger array, or a sequence: nearly right is enough for a bound.
    return sum(int(getattr(value, "nbytes", 0)) for value in feed.values())


def _storable(value: object) -> bool:
    """Whether .npz can hold the value as it is."""
    return isinstance(value, np.ndarray) and cast(Array, value).dtype.kind in "biufc"


def _shapes(feed: FeedDict) -> list[tuple[int, ...]]:
    return [array.shape for array in feed.values()]


def _joined(group: list[FeedDict]) -> FeedDict:
    if len(group) == 1:
        return group[0]
    return {name: np.concatenate([feed[name] for feed in group]) for name in group[0]}
