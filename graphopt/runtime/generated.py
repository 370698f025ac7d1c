"""Inputs for a model when there is no data: good for proving that two graphs compute the same, never for calibrating.

A dynamic batch becomes 1, other dynamic dimensions 64 (the channel axis of an image 3), dimensions of one name the same
number everywhere. Floats are standard normal, integers small and not negative (bytes over their whole range), strings
are digits.

Not every model runs on that: an index may be too large for a small table, a size may have to match another. So where
something had to be guessed, the model is run once, and if it fails the next guess is tried.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import ModelError
from graphopt.model import Model
from graphopt.runtime.feeds import Computed, FeedDict, Feeds
from graphopt.runtime.inputs import Dim, InputSpec, input_specs
from graphopt.runtime.session import Session

Array = NDArray[Any]

_SIZES = (64, 32, 128, 224, 16, 8, 4, 2, 1)
_CHANNELS = (3, 1)


@dataclass(frozen=True, slots=True)
class Guess:
    """One way to fill in what the model leaves open.

    Attributes:
        size: of dynamic dimensions other than the batch.
        channels: of a dynamic axis 1 of an image (or volume).
        integers: "wide": bytes over their whole range, others below 8; "bits": 0 and 1; "ones"; "zeros".
        floats: "normal": standard normal; "unit": between 0 and 1.
    """

    size: int = 64
    channels: int = 3
    integers: str = "wide"
    floats: str = "normal"


def generated(model: Model, count: int = 8, seed: int = 0, *, size: int | None = None) -> Feeds:
    """``count`` made-up feeds for ``model``; ``calibrated`` is False. The same model, seed and count give the same feeds.

    Args:
        model: what the inputs are for.
        count: how many.
        seed: of the random numbers.
        size: for dynamic dimensions other than the batch; found by trial if None, beginning with 64.
    """
    specs = input_specs(model)
    guess = _first_that_runs(model, specs, seed, size)
    notes = ["the inputs are generated: they say nothing about real data"]
    return Feeds(
        Computed(count, lambda index: make_feed(specs, guess, (seed, index))),
        specs,
        calibrated=False,
        name=f"generated ({count} random inputs, seed {seed})",
        notes=notes,
    )


def make_feed(specs: Sequence[InputSpec], guess: Guess, seed: tuple[int, int]) -> FeedDict:
    """One feed, drawn with ``seed``."""
    random = np.random.default_rng(seed)
    sizes: dict[str, int] = {}
    feed: FeedDict = {}
    for spec in specs:
        shape = _shape(spec, guess, sizes)
        if math.prod(shape) * spec.dtype.itemsize > sys.maxsize:
            raise MemoryError(f"{spec.name}: {spec.describe()}")
        value = _draw(random, spec, shape, guess)
        if spec.kind == "sequence":
            feed[spec.name] = cast(Any, [value, _draw(random, spec, shape, guess)])
        else:
            feed[spec.name] = value
    return feed


def _first_that_runs(model: Model, specs: Sequence[InputSpec], seed: int, size: int | None) -> Guess:
    """The first guess that the model runs on; the very first where nothing is guessed, or where none runs."""
    guesses = list(_guesses(specs, size))
    if len(guesses) == 1:
        return guesses[0]
    try:
        session = Session(model)
    except ModelError:
        # Whoever runs the model for good says so, with the reason.
        return guesses[0]
    for guess in guesses:
        try:
            session.run(make_feed(specs, guess, (seed, 0)))
        except ModelError:
            continue
        return guess
    return guesses[0]


def _guesses(specs: Sequence[InputSpec], size: int | None) -> Iterator[Guess]:
    dims = [(spec, axis) for spec in specs for axis, dim in enumerate(spec.shape or ()) if not isinstance(dim, int)]
    channels = any(_is_channel(spec, axis) for spec, axis in dims)
    others = any(not _is_channel(spec, axis) and not (axis == 0 and spec.batch == 0) for spec, axis in dims)
    integers = any(spec.dtype.kind in "iu" for spec in specs)
    # A scalar or a short vector may be a ratio, a threshold, a scale.
    scalars = any(spec.dtype.kind == "f" and len(spec.shape or ()) < 2 for spec in specs)
    yield from (
        Guess(*chosen)
        for chosen in itertools.product(
            _SIZES if others and size is None else (size or _SIZES[0],),
            _CHANNELS if channels else _CHANNELS[:1],
            ("wide", "bits", "ones", "zeros") if integers else ("wide",),
            ("normal", "unit") if scalars else ("normal",),
        )
    )


def _is_channel(spec: InputSpec, axis: int) -> bool:
    return axis == 1 and len(spec.shape or ()) in (4, 5)


def _shape(spec: InputSpec, guess: Guess, sizes: dict[str, int]) -> tuple[int, ...]:
    if spec.shape is None:
        return (1,)
    return tuple(_size(dim, axis, spec, guess, sizes) for axis, dim in enumerate(spec.shape))


def _size(dim: Dim, axis: int, spec: InputSpec, guess: Guess, sizes: dict[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    chosen = guess.channels if _is_channel(spec, axis) else guess.size
    if axis == 0 and spec.batch == 0:
        chosen = 1
    return chosen if dim is None else sizes.setdefault(dim, chosen)


def _draw(random: np.random.Generator, spec: InputSpec, shape: tuple[int, ...], guess: Guess) -> Array:
    dtype = spec.dtype
    if dtype.kind == "O":
        return random.integers(0, 10, shape).astype(str).astype(object)
    if dtype.kind == "b":
        return np.asarray(random.integers(0, 2, shape) == 1)
    if dtype.kind in "iu":
        return _integers(random, dtype, shape, guess)
    if dtype.kind == "c":
        return np.asarray(random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(dtype)
    values = random.standard_normal(shape) if guess.floats == "normal" else random.uniform(0.0, 1.0, shape)
    return np.asarray(values).astype(dtype)


def _integers(random: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], guess: Guess) -> Array:
    if guess.integers == "wide" and dtype.itemsize == 1:
        bounds = np.iinfo(dtype)
        return np.asarray(random.integers(bounds.min, int(bounds.max) + 1, shape)).astype(dtype)
    below = {"wide": 8, "bits": 2}.get(guess.integers)
    if below is None:
        return np.full(shape, 1 if guess.integers == "ones" else 0, dtype)
    return np.asarray(random.integers(0, below, shape)).astype(dtype)
