"""Random affine regions: what fold takes, at any cost, computes the same in float64, and what could be one operator becomes one.

The first is held against an interpreter of our own (``tests.oracle``), the second against the regions' Jacobians
(``tests.property.one_operator``): neither knows the algebra.

    python -m tests.property.test_random_regions [FIRST LAST]

prints the refusals that were needless by kind, each with its first seed.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context
from tests.nets import Array, feed_for, outputs_of
from tests.oracle import evaluate
from tests.property.one_operator import missed
from tests.property.regions import Region

SIZES = (8, 9, 10, 11, 14, 20)


@dataclass
class Tally:
    """What came of a number of regions."""

    regions: int = 0
    folded: int = 0
    judged: int = 0
    needless: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        share = self.needless.total() / max(self.judged, 1)
        lines = [
            f"{self.regions} regions, {self.folded} of them folded, {self.judged} judged,"
            f" {self.needless.total()} needless refusals ({share:.2%})"
        ]
        return "\n".join([*lines, *(f"  {n:5} {kind} (seed {self.first[kind]})" for kind, n in self.needless.most_common())])


def check(seed: int, tally: Tally) -> None:
    """AssertionError if what fold took is wrong. Every fourth region is folded without ``simplify``, and not judged."""
    region = Region(seed)
    proto = region.proto()
    runs = _runs(proto, seed, region.dynamic)
    model = Model.load(proto)
    alone = seed % 4 == 0
    outcome = Fold(max_growth=1e9, simplify=not alone).run(model, Context(model.copy()))
    folded = model.proto()
    onnx.checker.check_model(folded, full_check=True)
    for feed, expected in runs:
        for a, b in zip(expected, evaluate(folded, feed), strict=True):
            assert a.shape == b.shape, f"seed {seed}"
            assert np.abs(a - b).max() <= 1e-11 * max(1.0, np.abs(a).max()), f"seed {seed}"
    tally.regions += 1
    tally.folded += outcome.changed
    if not alone and not proto.graph.input[1:]:
        tally.judged += 1
        for one in missed(folded, runs[0][0], region.dynamic):
            tally.needless[str(one)] += 1
            tally.first.setdefault(str(one), seed)


def _runs(proto: onnx.ModelProto, seed: int, dynamic: bool) -> list[tuple[dict[str, Array], list[Array]]]:
    """Inputs and outputs; several sizes where they are dynamic, those of them that are large enough for the region."""
    found: list[tuple[dict[str, Array], list[Array]]] = []
    for size in SIZES if dynamic else (0,):
        feed = feed_for(proto, seed, dynamic=size)
        with contextlib.suppress(ValueError) if dynamic else contextlib.nullcontext():
            found.append((feed, evaluate(proto, feed)))
    return [(feed, outputs) for feed, outputs in found if all(y.size for y in outputs)]


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_what_fold_takes_is_exact_and_it_takes_what_it_can(start: int) -> None:
    tally = Tally()
    for seed in range(start, start + 50):
        check(seed, tally)
    assert tally.folded >= 25, "hardly any region was folded: the test has lost its subject"
    assert tally.needless.total() <= 1, str(tally)


@pytest.mark.parametrize("seed", range(300, 330))
def test_onnxruntime_runs_what_is_written(seed: int) -> None:
    proto = Region(seed, np.float32).proto()
    model = Model.load(proto)
    Fold(max_growth=1e9).run(model, Context(model.copy()))
    feed = feed_for(proto, seed, dynamic=10)
    for a, b in zip(evaluate(proto, feed), outputs_of(model.proto(), feed), strict=True):
        assert np.abs(a - b).max() <= 1e-4 * max(1.0, np.abs(a).max())


@pytest.mark.slow
def test_twenty_thousand_regions() -> None:
    tally = Tally()
    for seed in range(10_000, 30_000):
        check(seed, tally)
    assert tally.folded >= 10_000
    assert tally.needless.total() < tally.judged / 100, str(tally)


def main() -> None:
    first, last = (int(a) for a in sys.argv[1:]) if sys.argv[1:] else (10_000, 11_000)
    tally = Tally()
    for seed in range(first, last):
        try:
            check(seed, tally)
        except Exception as error:  # noqa: BLE001  every other region is still to come
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    print(tally)


if __name__ == "__main__":
    main()
