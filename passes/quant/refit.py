"""Kernel after kernel, weights are rounded on what the quantized network before them really gives.

The float network is run once: of what every kernel reads some positions are kept, in a file. Then the kernels are gone through in
the graph's order. Those of one *wave* depend on none of the others in it, so what they read is final: the quantized network is
run up to there, ``rounding`` does the rest, and their integers and biases are written into it. (Kernels behind one another in one
wave would each make up for the same error.)

What the second moments need is (columns)^2 numbers a kernel whatever the number of samples, and positions are drawn, so memory,
disk and the time for algebra are bounded. A kernel whose weights have more columns than ``MOST_COLUMNS`` is left as it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from graphopt.model import Model
from graphopt.passes.quant.patches import Window, rows
from graphopt.passes.quant.rounding import MOST_COLUMNS, match_means, round_weight, scales, stacked, unstacked
from graphopt.passes.quant.seen import Seen
from graphopt.passes.quant.units import Unit
from graphopt.passes.quant.weights import Weight, quantize_bias
from graphopt.runtime import Feeds
from graphopt.runtime.stream import stream

Floats = NDArray[np.float64]

POSITIONS = 16
"""Positions for each column, if the data has them."""

LEAST_POSITIONS = 4096
SPOOL_BYTES = 2**27
"""Of one kernel's positions."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What became of one kernel: its integers, and its bias in float (None where it has none and gets none)."""

    weight: Weight
    bias: Floats | None


@dataclass(frozen=True, slots=True)
class Job:
    """One kernel: its unit in the float graph, and the weight that it would have otherwise.

    Attributes:
        source: the float tensor that it reads.
        s_x: that tensor's scale.
    """

    unit: Unit
    weight: Weight
    source: str
    s_x: np.float32

    @property
    def shape(self) -> tuple[int, int, int]:
        """Groups, outputs a group, columns."""
        kernel = self.unit.weight
        assert kernel is not None and self.unit.axis is not None  # noqa: S101 - kernels only
        groups = int(self.unit.head.attrs.get("group", 1)) if self.unit.head.op == "Conv" else 1
        outputs = kernel.shape[self.unit.axis]
        return groups, outputs // groups, kernel.size // outputs

    @property
    def window(self) -> Window | None:
        """None for a matrix product."""
        kernel = self.unit.weight
        assert kernel is not None  # noqa: S101 - kernels only
        return Window.of(self.unit.head, kernel.shape[2:]) if self.unit.head.op == "Conv" else None

    @property
    def may_have_bias(self) -> bool:
        """Whether it has a bias, or its operator takes one."""
        return self.unit.bias is not None or self.unit.head.op in ("Conv", "Gemm")

    @property
    def fits(self) -> bool:
        """Whether its moments fit into memory."""
        return self.shape[2] <= MOST_COLUMNS

    def start(self) -> Fitted:
        """Before anything was learned: with a bias wherever it may have one."""
        bias = self.unit.bias
        channels = self.shape[0] * self.shape[1]
        return Fitted(
            self.weight, bias.astype(np.float64) if bias is not None else np.zeros(channels) if self.may_have_bias else None
        )

    def positions(self, feeds: int) -> int:
        """How many of each sample are looked at."""
        groups, _, columns = self.shape
        most = SPOOL_BYTES // (4 * groups * columns)
        return max(1, -(-min(max(POSITIONS * columns, LEAST_POSITIONS), most) // feeds))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kernel is in the quantized network: the names of its input, result, weight and bias (empty where there is none)."""

    source: str
    result: str
    weight: str
    bias: str


class Refit:
    """One run over all kernels.

    Args:
        exact: the float network.
        network: the quantized one, each kernel as ``Job.start`` says; it is edited.
        places: unit -> where it is in ``network``.
        feeds: what to run on.
        seed: for drawing positions.
    """

    def __init__(
        self, exact: Model, network: onnx.ModelProto, places: Mapping[str, Place], feeds: Feeds, *, q_max: int, seed: int = 0
    ) -> None:
        self.exact = exact
        self.network = network
        self.places = places
        self.feeds = feeds
        self.q_max = q_max
        self.seed = seed
        self.initializers = {t.name: t for t in network.graph.initializer}

    def run(self, jobs: Sequence[Job], fit: Fit, advance: Callable[[int], None] | None = None) -> dict[str, Fitted]:
        """The kernels of ``jobs``, in the graph's order, by unit; ``advance`` is told how many are done."""
        done: dict[str, Fitted] = {}
        fitting = [job for job in jobs if job.fits]
        with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
            self.keep(fitting, Path(folder))
            for wave in self.waves(fitting):
                for job, seen in self.observe(wave, Path(folder)):
                    done[job.unit.key] = fitted = fit(job, seen, self.q_max)
                    self.store(job, fitted)
                if advance is not None:
                    advance(len(wave))
        return done

    def keep(self, jobs: Sequence[Job], folder: Path) -> None:
        """Write down positions of what the float kernels read."""
        self.spool(self.exact, [(job, job.source) for job in jobs], folder, "exact")

    def spool(self, network: Model | onnx.ModelProto, read: Sequence[tuple[Job, str]], folder: Path, kind: str) -> None:
        """Write down positions of the tensor beside each kernel, sample after sample."""
        readers: dict[str, list[Job]] = {}
        for job, name in read:
            readers.setdefault(name, []).append(job)
        seen = dict.fromkeys(readers, 0)

        def consume(name: str, array: NDArray[np.float32]) -> None:
            for job in readers[name]:
                with (folder / _file(job, kind)).open("ab") as file:
                    file.write(self.drawn(job, array, seen[name]).tobytes())
            seen[name] += 1

        stream(network, list(readers), self.feeds, consume)

    def drawn(self, job: Job, array: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """The positions of sample ``number``: the same ones of the float and of the quantized tensor."""
        return rows(array, job.window, job.positions(len(self.feeds)), np.random.default_rng([self.seed, number]))

    def waves(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Kernels that do not depend on one another, in an order in which each finds all before it done."""
        depth: dict[str, int] = {}
        kernels = {self.places[job.unit.key].result: job for job in jobs}
        found: dict[int, list[Job]] = {}
        for node in self.network.graph.node:
            below = max((depth.get(name, 0) for name in node.input), default=0)
            job = kernels.get(node.output[0])
            if job is not None:
                found.setdefault(below, []).append(job)
            depth.update(dict.fromkeys(node.output, below + (job is not None)))
        return [found[level] for level in sorted(found)]

    def observe(self, wave: Sequence[Job], folder: Path) -> Iterator[tuple[Job, Seen]]:
        """What each of a wave's kernels reads in either network, at the same positions; in files."""
        self.spool(self.network, [(job, self.places[job.unit.key].source) for job in wave], folder, "quantized")
        for job in wave:
            files = [folder / _file(job, kind) for kind in ("exact", "quantized")]
            yield job, Seen.stored(files[0], files[1], job.shape[0], job.shape[2])
            for file in files:
                file.unlink()

    def store(self, job: Job, fitted: Fitted) -> None:
        """Write a kernel into the network."""
        place = self.places[job.unit.key]
        values: list[tuple[str, NDArray[Any]]] = [(place.weight, fitted.weight.values)]
        if place.bias and fitted.bias is not None:
            exact = self.initializers[place.bias].data_type == onnx.TensorProto.FLOAT
            stored = fitted.bias.astype(np.float32) if exact else quantize_bias(fitted.bias, job.s_x, fitted.weight.scale)[0]
            values.append((place.bias, stored))
        for name, value in values:
            tensor = self.initializers[name]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


Fit = Callable[[Job, Seen, int], Fitted]
"""What to make of a kernel and of what it reads, with the greatest integer of a weight."""


def _file(job: Job, kind: str) -> str:
    return f"{job.unit.key.encode().hex()[:80]}-{id(job)}-{kind}"


def second_order(job: Job, seen: Seen, q_max: int) -> Fitted:
    """Rounded by the covariance of what it reads, and with the mean that it had."""
    whole, scale = stacked(job.unit), scales(job.unit, job.weight)
    values = round_weight(whole, seen.second(centred=job.may_have_bias), scale, q_max, seen.damping)
    return _with_means(job, seen, unstacked(job.unit, job.weight, values))


def only_means(job: Job, seen: Seen, q_max: int) -> Fitted:
    """Rounded as it was, but with the mean that it had."""
    del q_max
    return _with_means(job, seen, job.weight)


def only_rounded(job: Job, seen: Seen, q_max: int) -> Fitted:
    """Rounded by the covariance of what it reads; its bias stays."""
    values = round_weight(stacked(job.unit), seen.second(centred=False), scales(job.unit, job.weight), q_max, seen.damping)
    bias = None if job.unit.bias is None else job.unit.bias.astype(np.float64)
    return Fitted(unstacked(job.unit, job.weight, values), bias)


def _with_means(job: Job, seen: Seen, weight: Weight) -> Fitted:
    bias = job.start().bias
    if bias is None:
        return Fitted(weight, None)
    whole, unit = stacked(job.unit), job.unit
    rounded = np.moveaxis(weight.values, unit.axis or 0, 0).reshape(whole.shape) * scales(unit, weight)[:, :, None]
    shift = match_means(whole, rounded, bias.reshape(whole.shape[:2]), seen, unit.bounds)
    return Fitted(weight, bias + shift.reshape(-1))
