"""Cutting an element of data (an array or a dict of arrays) into the inputs of single runs.

The first axis counts samples where the model's first axis is a batch, or where the data has one axis more than the
model:

    model's input     data             gives
    [N, 3, 8, 8]      [10, 3, 8, 8]    10 runs of [1, 3, 8, 8]
    [1, 3, 8, 8]      [10, 3, 8, 8]    10 runs of [1, 3, 8, 8]
    [4, 3, 8, 8]      [10, 3, 8, 8]    2 runs of [4, 3, 8, 8]; two samples are left over, which is noted
    [N, 3, 8, 8]      [3, 8, 8]        1 run, where the array stands for one sample (an element of an iterable)
    [3, 8, 8]         [10, 3, 8, 8]    10 runs of [3, 8, 8]
    [seq, 16]         [50, 16]         1 run: the first axis has the name of something else than a batch

With several inputs all must give as many runs, except that an input whose shape is wholly fixed may be given once for
all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.runtime.conform import check_finite, check_names, check_shape, convert, note
from graphopt.runtime.inputs import InputSpec

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Part:
    """One input's share of an element: ``runs`` pieces of ``rows`` rows each.

    ``rows`` is 0 where the value is not cut but used whole; ``squeeze`` says that the first axis is the data's own.
    """

    value: Any
    runs: int
    rows: int
    squeeze: bool = False

    def piece(self, index: int) -> Array:
        if self.rows == 0:
            return cast(Array, self.value)
        if self.squeeze:
            return np.asarray(self.value[index])
        return cast(Array, self.value[index * self.rows : (index + 1) * self.rows])


@dataclass(slots=True)
class Cutter:
    """Turns elements of data into checked feeds.

    Attributes:
        specs: the model's inputs.
        where: what the data is called in messages.
        notes: gets a sentence for each conversion and each remainder.
    """

    specs: Mapping[str, InputSpec]
    where: str
    notes: list[str] = field(default_factory=list[str])

    @property
    def group(self) -> int:
        """How many samples make one run: n > 1 where every input has the fixed batch n (and other axes), else 1."""
        batches = {s.batch if s.shape and len(s.shape) > 1 else None for s in self.specs.values()}
        only = next(iter(batches)) if len(batches) == 1 else None
        return only if only is not None and only > 1 else 1

    def cut(self, element: object, *, first: int = 0, single: bool = False, where: str = "") -> list[dict[str, Array]]:
        """The runs of one element. For a fixed batch the last one may be short; ``feeds.py`` joins it with the next.

        Args:
            element: an array, for a model of one input, or a dict of arrays.
            first: number of its first sample, for messages.
            single: whether an array without the batch axis is one sample.
            where: what this element is called in messages; the data's name by default.

        Raises:
            DataError: GO802 to GO808, GO816.
        """
        where = where or self.where
        arrays = self._arrays(element, where)
        places = {name: f"{where}: input '{name}'" for name in arrays}
        if self.group > 1:
            return self._cut_group(arrays, places, first, single, where)
        parts = {name: self._part(array, self.specs[name], places[name], single) for name, array in arrays.items()}
        runs = max((part.runs for part in parts.values()), default=1)
        for name, part in parts.items():
            if part.runs != runs:
                parts[name] = self._used_whole(part, name, {n: p.runs for n, p in parts.items()}, where)
            value: object = part.value
            if isinstance(value, np.ndarray):
                check_finite(cast(Array, value), places[name], first, part.runs if part.rows else 1)
        return [{name: part.piece(index) for name, part in parts.items()} for index in range(runs)]

    def _arrays(self, element: object, where: str) -> dict[str, Any]:
        """The element as a dict, names checked, arrays in the inputs' types. Sequences and absent optionals pass as they are."""
        if isinstance(element, Mapping):
            named = {str(k): v for k, v in cast(Mapping[object, Any], element).items()}
        elif len(self.specs) == 1:
            named = {next(iter(self.specs)): element}
        else:
            inputs = ", ".join(f"'{name}'" for name in self.specs)
            why = f"is a {_kind(element)}, but the model has {len(self.specs)} inputs"
            raise DataError("GO802", where, why, f"give a dict of {inputs}")
        check_names(named, self.specs, where)
        return {name: self._array(named[name], spec, f"{where}: input '{name}'") for name, spec in self.specs.items()}

    def _array(self, value: Any, spec: InputSpec, where: str) -> Any:
        if spec.kind == "sequence" and isinstance(value, (list, tuple)):
            return [convert(_as_array(v, where), spec, where, self.notes) for v in cast(Sequence[Any], value)]
        if spec.kind == "optional" and value is None:
            return None
        return convert(_as_array(value, where), spec, where, self.notes)

    def _part(self, array: Any, spec: InputSpec, where: str, single: bool) -> _Part:
        """How one input's array is cut, its shape checked."""
        if not isinstance(array, np.ndarray) or spec.shape is None or spec.kind != "tensor":
            return _Part(array, 1, 0)
        values = cast(Array, array)
        rank = len(spec.shape)
        if values.ndim == rank + 1:
            _refuse_none(values, where)
            check_shape(values[0], spec, where)
            return _Part(values, values.shape[0], 1, squeeze=True)
        if single and values.ndim == rank - 1 and spec.batch in (0, 1):
            values = values[None]
        if spec.batch is None:
            check_shape(values, spec, where)
            return _Part(values, 1, 0)
        size = spec.batch or 1
        check_shape(values, spec, where, rows=True)
        _refuse_none(values, where)
        if values.shape[0] < size:
            check_shape(values, spec, where)
        self.remainder(values.shape[0] % size, size)
        return _Part(values, values.shape[0] // size, size)

    def _used_whole(self, part: _Part, name: str, counts: Mapping[str, int], where: str) -> _Part:
        """An input given once for all samples, if its shape leaves no doubt that it is."""
        spec = self.specs[name]
        if part.rows and spec.shape != part.value.shape:
            raise _different_counts(counts, where)
        note(self.notes, f"input '{name}': one value, used for every sample")
        return _Part(part.value, 1, 0)

    def _cut_group(
        self, arrays: Mapping[str, Any], places: Mapping[str, str], first: int, single: bool, where: str
    ) -> list[dict[str, Array]]:
        """For a fixed batch n: pieces of n samples and, last, the rest."""
        rows: dict[str, Array] = {}
        for name, array in arrays.items():
            spec, rank = self.specs[name], len(self.specs[name].shape or ())
            if single and array.ndim == rank - 1:
                array = array[None]
            elif array.ndim == rank + 1 and array.shape[0] > 0:
                check_shape(array[0], spec, places[name])
                array = array.reshape(-1, *array.shape[2:])
            check_shape(array, spec, places[name], rows=True)
            _refuse_none(array, places[name])
            check_finite(array, places[name], first, array.shape[0])
            rows[name] = array
        counts = {name: array.shape[0] for name, array in rows.items()}
        if len(set(counts.values())) > 1:
            raise _different_counts(counts, where)
        starts = range(0, next(iter(counts.values())), self.group)
        return [{name: array[start : start + self.group] for name, array in rows.items()} for start in starts]

    def remainder(self, left: int, size: int) -> None:
        """Note that ``left`` samples did not fill a batch."""
        if left:
            note(self.notes, f"{left} of the samples left out: the model takes {size} at once")


def _refuse_none(array: Array, where: str) -> None:
    if array.shape[0] == 0:
        raise DataError("GO808", where, f"no samples: an array of shape {list(array.shape)}", "give at least one")


def _different_counts(counts: Mapping[str, int], where: str) -> DataError:
    told = ", ".join(f"'{name}' {count}" for name, count in counts.items())
    return DataError("GO816", where, f"the inputs hold different numbers of samples: {told}", "give as many of each")


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.").removeprefix("numpy.")


def _as_array(value: Any, where: str) -> Array:
    if isinstance(value, np.ndarray):
        return cast(Array, value)
    if isinstance(value, (np.generic, bool, int, float)) or hasattr(value, "__array__"):
        return np.asarray(value)
    raise DataError("GO802", where, f"is a {_kind(value)}, not an array", "give numpy arrays")
