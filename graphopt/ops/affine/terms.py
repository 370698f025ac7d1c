"""What an operator is in the algebra: the answer of a rule.

A rule returns a ``Linear`` (a map of one input), a ``Sum`` (of maps of several inputs), ``Outputs`` (one of these for each output),
a ``Move`` (elements in other places or axes; what that means depends on what came before), a ``Refused`` where the operator would
be affine but for a reason worth telling, or None where it simply is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from graphopt.ops import attrs
from graphopt.ops.affine.form import Refused
from graphopt.ops.affine.maps import Leaf
from graphopt.ops.affine.views import View
from graphopt.ops.facts import Facts

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
NOT_CONSTANT = Refused("weights-not-constant", "the weights are computed at run time or may be overridden by the caller")


@dataclass(frozen=True, slots=True)
class Linear:
    """The output is ``steps``, one after the other, of input ``source``."""

    source: int
    steps: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One summand: ``factor`` times input ``source``, after ``embed`` where that is given."""

    source: int
    factor: float = 1.0
    embed: Leaf | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """The output is the sum of ``parts``."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Outputs:
    """A term for each output."""

    terms: tuple[Linear | None, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """The output holds the elements of input ``source`` in other axes: ``change`` says how its axes come from the input's."""

    source: int
    change: Callable[[View], View | None]


Term = Linear | Sum | Outputs | Move
AffineRule = Callable[[gs.Node, Facts], Term | Refused | None]


def is_float(array: NDArray[Any]) -> bool:
    """Whether an array's elements are floating-point numbers."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def float_node(node: gs.Node, facts: Facts) -> bool:
    """Whether a node computes with floating-point numbers."""
    return facts.dtype(node.outputs[0]) in FLOATS or any(facts.dtype(t) in FLOATS for t in node.inputs)


def auto_pad(node: gs.Node) -> str:
    """How a node pads."""
    return attrs.str_(node, "auto_pad", "NOTSET")
