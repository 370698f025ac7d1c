"""Does an array fit an input? Names, rank, shape, type and values, with a ``DataError`` that says what to do where it does not.

**Types.** An array of another type is converted where that loses nothing but rounding: into a wider type (uint8 to
float32), between floats where no value overflows (float64 to float32, and to float16), between integers where all
values fit, from integers to floats where all values are kept. Each conversion is noted. Floats are never made integers,
nor anything a bool: that is a mistake in the data.

**Values.** NaN and infinities are refused: they would poison every statistic, and no comparison of outputs could be
trusted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.runtime.inputs import InputSpec

Array = NDArray[Any]


def check_names(names: Iterable[str], specs: Mapping[str, InputSpec], where: str) -> None:
    """Every input is there (GO803) and nothing else (GO804)."""
    given = list(names)
    wanted = ", ".join(f"'{name}'" for name in specs)
    for name in given:
        if name not in specs:
            folded = {n.lower(): n for n in specs}
            near = difflib.get_close_matches(name.lower(), folded, 1)
            hint = f"did you mean '{folded[near[0]]}'?" if near else f"the model's inputs: {wanted}"
            raise DataError("GO804", where, f"the model has no input '{name}'", hint)
    for name, spec in specs.items():
        if name not in given:
            have = ", ".join(f"'{n}'" for n in given) or "nothing"
            raise DataError("GO803", where, f"no values for input '{name}'", f"it takes {spec.describe()}; given: {have}")


def check_shape(array: Array, spec: InputSpec, where: str, *, rows: bool = False) -> None:
    """Rank and static dimensions (GO805). ``rows``: the first axis counts samples and may have any length."""
    if spec.shape is None:
        return
    first = 1 if rows else 0
    fits = array.ndim == len(spec.shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(spec.shape[first:], array.shape[first:], strict=True)
    )
    if not fits:
        raise DataError("GO805", where, f"expected {spec.describe()}, got {_described(array)}", _shape_hint(array, spec))


def _described(array: Array) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _shape_hint(array: Array, spec: InputSpec) -> str:
    shape = list(spec.shape or ())
    if array.ndim == len(shape) == 4 and array.shape[-1] in (1, 3, 4) and shape[1] == array.shape[-1]:
        return "the channels are last in the data and first in the model: transpose it with (0, 3, 1, 2)"
    if array.ndim == len(shape) == 4 and array.shape[1] in (1, 3, 4) and shape[-1] == array.shape[1]:
        return "the channels are first in the data and last in the model: transpose it with (0, 2, 3, 1)"
    if array.ndim == len(shape) - 1:
        return "add the batch axis: array[None]"
    return "bring the data into the model's shape"


def convert(array: Array, spec: InputSpec, where: str, notes: list[str]) -> Array:
    """The array in the input's type (GO806 if that would lose something); a conversion is added to ``notes``."""
    wanted = spec.dtype
    if wanted.kind == "O":
        return _strings(array, spec, where)
    if array.dtype == wanted:
        return array
    if array.dtype.kind not in "biuf" or (wanted.kind in "biu" and array.dtype.kind not in "biu") or wanted.kind == "b":
        raise _type_error(array, spec, where, f"convert it yourself, if it is meant so: array.astype('{wanted}')")
    if np.can_cast(array.dtype, wanted, "safe"):
        note(notes, f"input '{spec.name}': {array.dtype} converted to {wanted}, exactly")
        return array.astype(wanted)
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(wanted)
    if array.dtype.kind == "f":
        if not np.array_equal(np.isfinite(array), np.isfinite(result)):
            raise _type_error(array, spec, where, f"some values are too large for {wanted}")
        note(notes, f"input '{spec.name}': {array.dtype} rounded to {wanted}")
        return result
    if not _kept(array, result):
        raise _type_error(array, spec, where, f"some values do not fit into {wanted}")
    note(notes, f"input '{spec.name}': {array.dtype} converted to {wanted}, exactly")
    return result


def _kept(array: Array, result: Array) -> bool:
    """Whether integers kept their values. Through Python's integers at the ends, where numpy's would wrap."""
    if array.size == 0:
        return True
    ends = [(array.min(), result.min()), (array.max(), result.max())]
    return bool(np.array_equal(array, result.astype(array.dtype))) and all(int(a) == int(b) for a, b in ends)


def _strings(array: Array, spec: InputSpec, where: str) -> Array:
    if array.dtype.kind not in "OUS" or (array.dtype.kind == "O" and not all(isinstance(v, str) for v in array.flat)):
        raise _type_error(array, spec, where, "give strings")
    return array.astype(str).astype(object)


def _type_error(array: Array, spec: InputSpec, where: str, hint: str) -> DataError:
    return DataError("GO806", where, f"expected {spec.describe()}, got {_described(array)}", hint)


def check_finite(array: Array, where: str, first_sample: int, samples: int) -> None:
    """No NaN and no infinity (GO807), else the sample and the index of the first one.

    The rows of ``array`` are divided evenly among ``samples`` samples, of which the first has the number
    ``first_sample``.
    """
    if array.dtype.kind in "biuOSU" or array.size == 0:
        return
    finite = np.isfinite(array)
    if bool(finite.all()):
        return
    place = np.unravel_index(int(np.argmin(finite)), array.shape)
    index = [int(i) for i in place]
    kind = "NaN" if bool(np.isnan(array[place])) else "an infinity"
    sample = first_sample
    if samples > 1:
        per = array.shape[0] // samples
        sample, index[0] = first_sample + index[0] // per, index[0] % per
    hint = "remove the sample or mend its source; statistics over such values are worthless"
    raise DataError("GO807", where, f"{kind} in sample {sample} at {index}", hint)


def note(notes: list[str], text: str) -> None:
    """Add a note once."""
    if text not in notes:
        notes.append(text)
