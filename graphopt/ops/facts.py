"""What a rule may ask about the graph around its node. Analyses implement it; rules depend on nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

Dim = int | str | None
Shape = tuple[Dim, ...]


class Facts(Protocol):
    """Shapes, types and constant values of the tensors of one graph."""

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        ...

    def shape(self, tensor: gs.Tensor) -> Shape | None:
        """Dimensions: a number, the name of a symbolic one, None where unknown; None if not even the rank is known."""
        ...

    def dtype(self, tensor: gs.Tensor) -> int:
        """ONNX element type, 0 if unknown."""
        ...

    def value(self, tensor: gs.Tensor) -> NDArray[Any] | None:
        """The value of a constant tensor, read-only; None if it is not constant."""
        ...


def static(shape: Shape | None) -> tuple[int, ...] | None:
    """The shape if every dimension of it is a known number."""
    if shape is None:
        return None
    known = tuple(d for d in shape if isinstance(d, int) and d >= 0)
    return known if len(known) == len(shape) else None


def elements(shape: Shape | None) -> int | None:
    """Number of elements, None unless the shape is static."""
    known = static(shape)
    return None if known is None else math.prod(known)


def has_input(node: gs.Node, index: int) -> bool:
    """Whether an optional input is given."""
    return index < len(node.inputs) and bool(node.inputs[index].name)


def constant_input(node: gs.Node, index: int, facts: Facts) -> NDArray[Any] | None:
    """The value of input ``index`` if it is given and constant."""
    return facts.value(node.inputs[index]) if has_input(node, index) else None


def integer_input(node: gs.Node, index: int, facts: Facts) -> NDArray[Any] | None:
    """The same where it stands for sizes, places or axes: None if it holds anything but integers, as a damaged file may."""
    value = constant_input(node, index, facts)
    return value if value is not None and value.dtype.kind in "iu" else None


def positive(values: Sequence[int]) -> bool:
    """Whether all of ``values`` are above zero (strides, dilations, kernel extents)."""
    return all(v > 0 for v in values)
