"""``Target``: what a device runs well, as frozen data.

A field that decides something carries its evidence: ``measured`` (by us, with the numbers' origin), ``documented`` (by the maker)
or ``assumed`` (neither), and the source. ``Target.evidence`` maps a field's dotted name, as in the TOML file, to it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from graphopt.target.costs import CostTable
from graphopt.target.latency import LatencyTable

Activation = Literal["uint8", "int8"]
EvidenceKind = Literal["measured", "documented", "assumed"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """How well a field is known, and from where."""

    kind: EvidenceKind
    source: str


@dataclass(frozen=True, slots=True)
class Shield:
    """Float nodes beside quantizers that the runtime would run in integers all the same; a copy (``op``) prevents it.

    ``before``: operators that want the copy between the DequantizeLinear and themselves, when a QuantizeLinear follows.
    ``behind``: operators that want it between themselves and the QuantizeLinear.
    """

    before: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    op: str = ""


def _no_conditions() -> dict[str, tuple[Any, ...]]:
    return {}


def _no_versions() -> dict[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Int8Scheme:
    """How a device wants a quantized model to be written, and what of it runs in integers.

    Attributes:
        activation, weight, bias: element types. Activations have a zero point, weights and biases have zero point 0. A float32 bias
            is left as it is; the device quantizes it by itself.
        symmetric: whether activations must have zero point 0 too.
        per_channel: whether weights may have one scale an output channel.
        reduce_range: weights use 7 bits, because products of 8 bits saturate the device's 16-bit sums.
        min_opset: the least opset that can carry it.
        kernels: operators with an integer kernel: all inputs and outputs quantized, each with a scale of its own.
        same_scale: operators that move or select values; in integers when input and output share scale and zero point.
        same_scale_since: the opset from which one of these is so (1 where left out).
        fused_activations: operators that vanish into the output's quantizer when the quantized range does not exceed theirs.
        float_output: kernels that may also give their result in float, without another node.
        float_output_unless: readers of that result with which the runtime would make a float kernel of it first.
        require: "Op.attribute" -> values; the kernel exists only for these.
        ranks: operator -> ranks of its first input for which the kernel exists (all where left out).
        rewrites: names of the pre-rewrites that this device wants.
        shield: see ``Shield``.
    """

    activation: Activation
    weight: Literal["int8"]
    bias: Literal["int32", "float32"]
    per_channel: bool
    min_opset: int
    reduce_range: bool
    kernels: frozenset[str]
    same_scale: frozenset[str]
    fused_activations: frozenset[str]
    float_output: frozenset[str]
    float_output_unless: frozenset[str] = frozenset()
    symmetric: bool = False
    same_scale_since: Mapping[str, int] = field(default_factory=_no_versions)
    require: Mapping[str, tuple[Any, ...]] = field(default_factory=_no_conditions)
    ranks: Mapping[str, tuple[Any, ...]] = field(default_factory=_no_conditions)
    rewrites: frozenset[str] = frozenset()
    shield: Shield = Shield()


def _no_steps() -> dict[str, int]:
    return {}


def _no_evidence() -> dict[str, Evidence]:
    return {}


@dataclass(frozen=True, slots=True)
class Target:
    """One device.

    Attributes:
        name: as it is asked for.
        title: as a person would call it.
        steps: element type -> the number of channels that its kernels work in.
        int8: None for a device of which no integer kernels are known.
        fusions: expressions that the runtime makes one kernel of (see ``graphopt.analysis.patterns``); their parts are left
            in place.
        costs: estimated time of operators; empty where nothing is known.
        operators: all that the device runs, "domain:Op" outside of the default domain; None where that is not known.
        opsets: the least and the greatest version of the default operator set that it takes; None where that is not known.
        latency: measured times by width, where there are any.
        evidence: dotted field name -> how well it is known.
    """

    name: str
    title: str = ""
    steps: Mapping[str, int] = field(default_factory=_no_steps)
    int8: Int8Scheme | None = None
    fusions: tuple[str, ...] = ()
    costs: CostTable = field(default_factory=CostTable)
    operators: frozenset[str] | None = None
    opsets: tuple[int, int] | None = None
    latency: LatencyTable | None = None
    evidence: Mapping[str, Evidence] = field(default_factory=_no_evidence)

    def channel_step(self, dtype: str = "float32") -> int:
        """The step of channel counts that is fast for tensors of ``dtype`` ("float32", "int8"); 1 where none is known."""
        return self.steps.get(dtype, 1)

    @staticmethod
    def load(name_or_path: str | os.PathLike[str]) -> Target:
        """A target by name, or from a TOML file.

        Raises UsageError GO905 for an unknown name (with the near ones), GO906 for a file that cannot be read or is malformed.
        """
        from graphopt.target.loader import load

        return load(name_or_path)

    @staticmethod
    def names() -> list[str]:
        """The names of all targets: the built-in ones and those of installed packages."""
        from graphopt.target.loader import names

        return names()
