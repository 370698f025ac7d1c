"""What an operator is in the algebra: the answer of a rule.

A rule returns a ``Linear`` (a map of one input), a ``Sum`` (of maps of several inputs), ``Outputs`` (one of these for each output),
a ``Move`` (elements in other places or axes; what that means depends on what came before), a ``Refused`` where the operator would
be affine but for a reason worth telling, or None where it simply is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto, helper

from graphopt.ops import attrs
from graphopt.ops.affine.form import Refused
from graphopt.ops.affine.maps import Leaf
from graphopt.ops.affine.views import View
from graphopt.ops.facts import Facts, has_input, static

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
NOT_CONSTANT = Refused("weights-not-constant", "the weights are computed at run time or may be overridden by the caller")


@dataclass(frozen=True, slots=True)
class Linear:
    """The output is ``steps``, one after the other, of input ``source``."""

    source: int
    steps: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One summand: ``factor`` times input ``source``, after the map that ``embed`` makes where that is given."""

    source: int
    factor: float = 1.0
    embed: Callable[[], Leaf] | None = None


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


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant operand: its shape, and its values when somebody asks. Most weights stay where they are."""

    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]


def weight_of(node: gs.Node, index: int, facts: Facts) -> Weight | Refused | None:
    """Input ``index`` if it is a constant of floats with elements; None if it is another constant, Refused if it is none."""
    if not has_input(node, index):
        return None
    tensor = node.inputs[index]
    if isinstance(tensor, gs.Constant):
        shape = static(facts.shape(tensor))

        def read() -> NDArray[Any]:
            return np.asarray(facts.value(tensor))

        return Weight(shape, read) if shape is not None and facts.dtype(tensor) in FLOATS and all(shape) else None
    value = facts.value(tensor)
    if value is None:
        return NOT_CONSTANT
    return Weight(value.shape, lambda: value) if is_float(value) and value.size else None


def is_float(array: NDArray[Any]) -> bool:
    """Whether an array's elements are floating-point numbers."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def float_node(node: gs.Node, facts: Facts) -> bool:
    """Whether a node computes with floating-point numbers."""
    return facts.dtype(node.outputs[0]) in FLOATS or any(facts.dtype(t) in FLOATS for t in node.inputs)


def unit_of(elem_type: int) -> float:
    """The unit in the last place of 1 in a type of ``FLOATS``."""
    if elem_type == TensorProto.BFLOAT16:
        return 2.0**-7
    return float(np.finfo(helper.tensor_dtype_to_np_dtype(elem_type)).eps)


def auto_pad(node: gs.Node) -> str:
    """How a node pads."""
    return attrs.str_(node, "auto_pad", "NOTSET")
